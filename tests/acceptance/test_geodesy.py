"""One coordinate operation a job: no tear in a raster, no silence about a missing grid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.warp import Resampling, reproject
from tests.harness import sources
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.rasters import Case

#: Metres of a degree of latitude.
DEGREE = 111_200.0
WIDTH, HEIGHT, STEP = 611, 431, 0.001
CORNER = (31.297, 45.213)
#: What PROJ by itself makes of ED50 at 31.6 E, in metres, at least.
TEAR = 38.0


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an ED50 raster whose two bands hold each pixel's own longitude and latitude."""
    path = tmp_path_factory.mktemp("geodesy") / "ed50.tif"
    transform = Affine(STEP, 0, CORNER[0], 0, -STEP, CORNER[1])
    rows, cols = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    lons, lats = transform.c + cols * STEP, transform.f - rows * STEP
    raster = sources.Raster(
        Case("float64", 2, sources.strips(8, compress="deflate", predictor=3)),
        WIDTH,
        HEIGHT,
        "EPSG:4230",
        transform,
    )
    return sources.make(path, raster, np.stack([lons, lats]))


def _off(pixels: Any, transform: Affine, operation: str) -> Any:
    """Return how far, in metres, each target pixel's content lies from where one pipeline says."""
    inner = np.isfinite(pixels).all(axis=0)
    rows, cols = np.nonzero(inner)
    xs = transform.c + (cols + 0.5) * transform.a
    ys = transform.f + (rows + 0.5) * transform.e
    pipeline = Transformer.from_pipeline(operation)
    # In the authority's axis order: ED50 is latitude, longitude.
    lats, lons = pipeline.transform(xs, ys, direction="INVERSE")
    # At the edge bilinear has no neighbour on one side, and repeats what it has.
    edge = STEP * 0.51
    held = (lons > CORNER[0] + edge) & (lons < CORNER[0] + WIDTH * STEP - edge)
    held &= (lats < CORNER[1] - edge) & (lats > CORNER[1] - HEIGHT * STEP + edge)
    found_lons, found_lats = pixels[0][inner], pixels[1][inner]
    east = (found_lons - lons) * DEGREE * np.cos(np.radians(lats))
    north = (found_lats - lats) * DEGREE
    assert held.mean() > 0.9
    return np.hypot(east, north)[held], lons[held]


def test_an_ed50_raster_across_31_6_e_shows_no_step(
    ramp: Path, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    destination = tmp_path / "out.tif"
    # Finer than the source both ways: bilinear then gives a ramp back as it is.
    options = (*sources.SMALL, "--dst-crs", "EPSG:3857", "--resolution", "100")
    ran = mill.run(ramp, destination, *options)
    assert (ran.plan["warp"]["xscale"], ran.plan["warp"]["yscale"]) == (1, 1)
    operation = ran.plan["warp"]["coordinate_operation"]
    with rasterio.open(destination) as dataset:
        pixels, transform = dataset.read(), dataset.transform
        default = np.full_like(pixels, np.nan)
        crs = dataset.crs
    off, _ = _off(pixels, transform, operation)
    with rasterio.open(ramp) as source:
        for band, into in enumerate(default, start=1):
            reproject(
                rasterio.band(source, band),
                into,
                dst_transform=transform,
                dst_crs=crs,
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,
            )
    theirs, lons = _off(default, transform, operation)
    west, east = theirs[lons < 31.59], theirs[lons > 31.61]
    step = abs(float(np.median(west)) - float(np.median(east)))
    figure.command = ran.text
    figure.measured(f"{off.max():.1e} m off; GDAL's default route steps {step:.1f} m", "0.001 m")
    assert off.max() < 1e-3
    # The test of the test: the same look at the default route sees the tear.
    assert step > TEAR


def test_british_national_grid_prints_the_missing_ostn15_grid_and_the_loss(
    mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    raster = sources.Raster(
        sources.LAYOUTS["striped uint8 x3"],
        611,
        573,
        "EPSG:27700",
        Affine(25, 0, 412000, 0, -25, 312000),
    )
    source = sources.make(tmp_path / "bng.tif", raster)
    ran = mill.run(
source, tmp_path / "out.tif", *sources.SMALL, "--dst-crs", "EPSG:3857"
    )  # fmt: skip
    lines = [line for line in ran.said.splitlines() if "OSTN15" in line]
    found = re.search(r"loses ([0-9.]+) m of accuracy", " ".join(lines))
    figure.command = ran.text
    assert lines, ran.said
    assert found, lines
    figure.measured(lines[0])
    assert float(found[1]) > 0
    operation = ran.plan["warp"]["operation"]
    assert any("OSTN15" in grid for grid in operation["missing_grids"])
    assert operation["loss_m"] == float(found[1])
    refused = mill("run", source, tmp_path / "strict.tif", "--dst-crs", "EPSG:3857", "--strict-crs")
    assert refused.exit_code == 2
    assert "OSTN15" in refused.said
