"""Rational polynomials on the ground of a DEM: the same pixels however it is cut, or a refusal."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from tests.harness import input_makers as make
from tests.harness.placed_by_points import (
    forget,
    make_spec,
    on_the_ground,
    rational,
    write,
    write_dem,
)
from tests.harness.reference import HEIGHT, WIDTH, make_held
from tests.harness.warping import by_windows, differing, odd_windows, valid_share, whole_image
from tests.harness.whole_job import WholeJob

from cogmill.errors import Refused, SourceChanged, SourceWindowTooSmall, StorageUnavailable
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.control import Elevation
from cogmill.raster.geometry.elevation import elevation_of
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.target import target_grid
from cogmill.raster.warp import footprint as footprints
from cogmill.raster.warp.commands import RESULT, gdalwarp_commands
from cogmill.raster.warp.exact_warp import warp
from cogmill.raster.warp.roundtrip import ground_spread
from cogmill.raster.warp.warp_spec import WarpSpec

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


@pytest.mark.parametrize("relief", [300.0, 2000.0])
@pytest.mark.parametrize("dst", ["EPSG:4326", "EPSG:3857", "EPSG:32610"])
def test_windows_of_any_size_equal_the_whole_image(tmp_path: Path, dst: str, relief: float) -> None:
    # In degrees and in Mercator's projection a line has one latitude, and GDAL reads the DEM by
    # lines; in UTM it reads point by point.
    flat = make_spec("rpc", "cubic", "int16", dst)
    spec = on_the_ground(flat, write_dem(tmp_path / "dem.tif", relief=relief))
    held = make_held(spec)
    expected = whole_image(spec, held)
    assert valid_share(spec, expected) > 0.5
    assert differing(whole_image(flat, held), expected) > expected[0].size / 3
    for side in (151, 61):
        assert differing(by_windows(spec, held, odd_windows(spec, side)), expected) == 0


def test_a_hole_in_the_dem_would_depend_on_the_cutting(tmp_path: Path) -> None:
    spec = make_spec("rpc", "nearest", "int16", "EPSG:4326")
    whole = write_dem(tmp_path / "dem.tif")
    with pytest.raises(Refused, match="has 1 cells without a height"):
        on_the_ground(spec, write_dem(tmp_path / "hole.tif", hole=True))
    placed = on_the_ground(spec, whole)
    # Lines of all of this grid go beyond the DEM, and those of most of its windows do not.
    wide = target_grid(placed.source, placed.target.crs, None, None, (-124.9, 48.5, -121.5, 49.8))
    placed = placed.model_copy(update={"target": wide})
    holed = moved_to(placed, tmp_path / "hole.tif")
    held, windows = make_held(spec), odd_windows(placed, 61)
    assert differing(by_windows(holed, held, windows), whole_image(holed, held)) > 0
    assert differing(by_windows(placed, held, windows), whole_image(placed, held)) == 0


def moved_to(spec: WarpSpec, dem: Path) -> WarpSpec:
    """Return a warp whose ground is another DEM, unasked."""
    control: Any = spec.source.control
    ground = Elevation(path=str(dem), low=control.elevation.low, high=control.elevation.high)
    source = spec.source.model_copy(
        update={"control": control.model_copy(update={"elevation": ground})}
    )
    return spec.model_copy(update={"source": source})


def test_a_held_window_holds_what_summits_need_and_a_smaller_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = on_the_ground(
        make_spec("rpc", "bilinear", "int16"), write_dem(tmp_path / "dem.tif", relief=2000.0)
    )
    assert max(ground_spread(spec)) > 30
    held = make_held(spec)
    forget()
    monkeypatch.setattr(footprints, "ground_spread", lambda spec: (0.0, 0.0))
    with pytest.raises(SourceWindowTooSmall):
        by_windows(spec, held, odd_windows(spec, 61))
    forget()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _other(path: Path) -> None:
    path.write_text("no DEM")


@pytest.mark.parametrize("dst", ["EPSG:4326", "EPSG:32610"])
def test_a_dem_that_cannot_be_read_fails_the_warp_and_is_never_left_out(
    tmp_path: Path, dst: str
) -> None:
    # Where it reprojects, GDAL warps on without it, and says that all pixels are valid.
    path = write_dem(tmp_path / "dem.tif")
    spec = on_the_ground(make_spec("rpc", "nearest", "int16", dst), path)
    held, window = make_held(spec), Window(col_off=256, row_off=192, width=64, height=64)
    good, expected, before = path.read_bytes(), warp(spec, held, window), log_levels()
    for spoil in (Path.unlink, _cut, _other):
        spoil(path)
        with pytest.raises(StorageUnavailable, match=r"dem\.tif cannot be read \(.*dem\.tif.*\)"):
            warp(spec, held, window)
        path.write_bytes(good)
        assert np.array_equal(warp(spec, held, window).pixels, expected.pixels)
    assert log_levels() == before


def log_levels() -> list[int]:
    return [logging.getLogger(name).level for name in ("rasterio._env", "rasterio._err")]


@pytest.mark.external("gdalwarp", "gdal_translate")
@pytest.mark.parametrize("dst", ["EPSG:4326", "EPSG:32610"])
def test_gdalwarp_gives_the_same_pixels(tmp_path: Path, dst: str) -> None:
    flat = make_spec("rpc", "cubic", "int16", dst)
    spec = on_the_ground(flat, write_dem(tmp_path / "the dem.tif"))
    held = make_held(spec)
    write(tmp_path / "in.tif", spec, held)
    for command in gdalwarp_commands(spec, "in.tif"):
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    with rasterio.open(tmp_path / RESULT) as file:
        theirs = file.read()
    warped = warp(spec, held, spec.target.window)
    assert warped.mask is not None
    assert np.array_equal(theirs[-1] > 0, warped.mask > 0)
    different = int((warped.pixels != theirs[:-1]).sum())
    print(f"{dst}: {different} of {warped.pixels.size} values differ")
    assert different <= warped.pixels.size * 1e-5


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"crs": "EPSG:32610"}, "is not in EPSG:4326"),
        ({"crs": "EPSG:4326+5773"}, "is not in EPSG:4326"),
        ({"transform": Affine(0.00131, 0, -123.85, 0, 0.00131, 48.75)}, "is not north up"),
        ({"transform": Affine(0.0005, 0, -123.3, 0, -0.0005, 49.3)}, "does not cover the raster"),
        ({"hole": True}, "cells without a height under the raster; fill them first"),
        ({"driver": "PNG", "dtype": "uint8", "nodata": None}, "cannot be read as a GeoTIFF"),
    ],
    ids=["UTM", "heights", "south up", "too small", "hole", "PNG"],
)
def test_a_dem_that_will_not_do_is_refused(
    tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    path = write_dem(tmp_path / "dem.tif", **changed)
    with pytest.raises(Refused) as refused:
        elevation_of(str(path), "dem.tif", rational(), (WIDTH, HEIGHT))
    assert sentence in str(refused.value)


def test_a_hole_in_the_mask_of_a_dem_is_a_hole(tmp_path: Path) -> None:
    path = write_dem(tmp_path / "dem.tif", nodata=None)
    with rasterio.open(path, "r+") as file:
        valid = np.full(file.shape, True)
        valid[350, 500] = False
        file.write_mask(valid)
    with pytest.raises(Refused, match="has 1 cells without a height"):
        elevation_of(str(path), "dem.tif", rational(), (WIDTH, HEIGHT))


@pytest.mark.parametrize("field", ["units", "scales", "offsets"])
def test_a_dem_of_other_values_than_metres_is_refused(tmp_path: Path, field: str) -> None:
    path = write_dem(tmp_path / "dem.tif")
    with rasterio.open(path, "r+") as file:
        setattr(file, field, {"units": ("ft",), "scales": (0.1,), "offsets": (5.0,)}[field])
    with pytest.raises(Refused, match="no heights in metres"):
        elevation_of(str(path), "dem.tif", rational(), (WIDTH, HEIGHT))


def test_the_range_of_heights_is_that_of_the_ground_that_the_raster_may_see(tmp_path: Path) -> None:
    path = write_dem(tmp_path / "dem.tif", relief=1500.0)
    ground, files = elevation_of(str(path), "dem.tif", rational(), (WIDTH, HEIGHT))
    with rasterio.open(path) as file:
        heights = file.read(1)
        cols, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        for height in (ground.low, ground.high):
            seen = rational(at=height).positions(cols.astype(float), rows.astype(float))
            across, down = ~file.transform @ seen
            at = down.astype(int), across.astype(int)
            assert heights[at].min() >= ground.low
            assert heights[at].max() <= ground.high
    assert heights.min() <= ground.low < ground.high <= heights.max()
    assert files == (str(path),)


def test_a_job_notices_another_dem(tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "dem.tif")
    (tmp_path / "in").mkdir()
    options = {"rpc_dem": str(dem), "dst_crs": "EPSG:3857"}
    job = WholeJob(make.bent_rpcs(tmp_path / "in"), f"{tmp_path}/out.tif", options=options)
    before: Any = job.preflight()
    assert str(dem) in before.prepared["contributing"]
    assert any(str(dem) in line for line in before.prepared["explained"])
    write_dem(dem, relief=200.0)
    with pytest.raises(SourceChanged, match=r"dem\.tif changed"):
        job.run_planned()
    assert job.preflight().source_identity != before.source_identity
    job.run()
    assert (tmp_path / "out.tif").exists()
