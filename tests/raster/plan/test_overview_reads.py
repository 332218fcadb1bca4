"""Where the target is coarser, an overview is read in the source's place, as gdalwarp does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from tests.harness.rasters import FileBytes
from tests.harness.warping import differing, whole_image
from tests.harness.whole_job import SMALL, WholeJob

from cogmill.raster import gdal
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.inspect.structure import inspect_tiff
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.warp.commands import RESULT

WIDTH, HEIGHT = 2611, 2303
OPTIONS: dict[str, Any] = {**SMALL, "dst_crs": "EPSG:3857", "resolution": (64.0, 64.0)}


@pytest.fixture(scope="module", params=["nodata", "mask"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a raster with three overviews whose pixels are marked with their number."""
    path = tmp_path_factory.mktemp(request.param) / "source.tif"
    random = np.random.default_rng(11)
    pixels = random.integers(1, 60, (2, HEIGHT, WIDTH)).astype(np.uint8)
    holes = random.integers(0, 9, (HEIGHT, WIDTH)) == 0
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 2, "compress": "deflate"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5.2e6)}
    nodata = {"nodata": 0} if request.param == "nodata" else {}
    size = {"width": WIDTH, "height": HEIGHT, "tiled": True, "blockxsize": 128, "blockysize": 128}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", **profile, **place, **nodata, **size) as file:
            file.write(np.where(holes, 0, pixels) if nodata else pixels)
            if not nodata:
                file.write_mask(~holes)
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4, 8], Resampling.average)
    for number in range(3):
        with rasterio.open(path, "r+", overview_level=number) as file:
            small = file.read()
            file.write(np.where(small == 0, 0, small // 4 + 50 * (number + 1)))
    return path


def planned(source: Path, **options: Any) -> RasterPlan:
    with gdal.environment(1 << 24):
        structure = inspect_tiff(FileBytes(source), str(source))
        return make_plan(structure, PlanOptions(**{**OPTIONS, **options}), "x")


@pytest.mark.parametrize(
    ("resolution", "number"), [(15.0, None), (29.0, 0), (64.0, 1), (140.0, 2), (900.0, 2)]
)
def test_the_smallest_overview_that_loses_nothing_is_read(
    source: Path, resolution: float, number: int | None
) -> None:
    # At 47 degrees a metre of Mercator is 0.68 metres, and so the target is that much finer.
    made = planned(source, resolution=(resolution, resolution))
    assert made.structure.read_overview == number
    assert (number is not None) == any("--ovr none" in warning for warning in made.warnings)
    assert ("-ovr NONE" in made.gdalwarp[-1]) == (number is None)


@pytest.mark.parametrize("options", [{"ovr": "none"}, {"resampling": "nearest"},
                                     {"resampling": "max"}])  # fmt: skip
def test_the_raster_itself_is_read_for_who_says_so_and_for_kernels_that_pick(
    source: Path, options: dict[str, str]
) -> None:
    assert planned(source, **options).structure.read_overview is None


@pytest.mark.parametrize("kernel", ["bilinear", "average"])
@pytest.mark.parametrize("strategy", ["direct", "two-stage"])
def test_pixels_are_those_of_a_whole_image_warp_of_that_overview(
    source: Path, tmp_path: Path, kernel: str, strategy: str
) -> None:
    options = {**OPTIONS, "resampling": kernel, "strategy": strategy, "work_tile": 192}
    WholeJob(source, f"{tmp_path}/out.tif", options=options).run()
    made = planned(source, resampling=kernel)
    assert made.warp is not None
    with gdal.environment(1 << 24):
        with rasterio.open(source, overview_level=1) as file:
            mask = file.dataset_mask() if made.warp.source_mask else None
            pixels = file.read()
        expected = whole_image(made.warp, HeldPixels(made.source_grid.window, pixels, mask))
        with rasterio.open(tmp_path / "out.tif") as file:
            found = file.read(), file.dataset_mask() if made.warp.target_mask else None
    assert found[0].max() > 90
    assert differing(found, expected) == 0


@pytest.mark.external("gdalwarp", "gdal_translate")
def test_the_commands_of_the_plan_read_the_same_overview(source: Path, tmp_path: Path) -> None:
    WholeJob(source, f"{tmp_path}/out.tif", options=OPTIONS).run()
    made = planned(source)
    for command in made.gdalwarp:
        text = command.replace(made.structure.name, str(source))
        subprocess.run(text, shell=True, check=True, cwd=tmp_path, capture_output=True)
    with rasterio.open(tmp_path / "out.tif") as ours, rasterio.open(tmp_path / RESULT) as theirs:
        np.testing.assert_array_equal(ours.read(), theirs.read([1, 2]))


def test_overviews_in_a_file_beside_the_raster_are_not_read(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "bare.tif"
    with rasterio.open(source) as file:
        profile, pixels = file.profile, file.read()
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    assert path.with_name("bare.tif.ovr").exists()
    assert planned(path).structure.read_overview is None
