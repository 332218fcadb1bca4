"""Of a file with several images one is read: with what is its own, and nothing of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from tests.harness.input_makers import pages, tiff
from tests.harness.rasters import FileBytes, sidecar
from tests.harness.whole_job import SMALL, WholeJob

from cogmill.raster import gdal
from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import inspect_tiff
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.explain import explain_plan, summarize_plan
from cogmill.raster.plan.planning import make_plan
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.read.source_blocks import SourceReader

RANDOM = np.random.default_rng(5)
#: Two images of other sizes, each with an overview and a mask of either, in the usual order.
SIZES = ((90, 120), (70, 110))
IMAGES = tuple(RANDOM.integers(0, 256, size, np.uint8) for size in SIZES)
MASKS = tuple(RANDOM.integers(0, 2, size).astype(bool) for size in SIZES)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    path = tmp_path / "album.tif"
    with tifffile.TiffWriter(path) as file:
        for image, mask in zip(IMAGES, MASKS, strict=True):
            plain: dict[str, Any] = {
                "metadata": None,
                "photometric": "minisblack",
                "rowsperstrip": 16,
            }
            file.write(image, subfiletype=0, **plain)
            file.write(mask, subfiletype=4, **plain)
            file.write(image[::2, ::2] // 2, subfiletype=1, **plain)
            file.write(mask[::2, ::2], subfiletype=5, **plain)
    return path


@pytest.mark.parametrize(("number", "index"), [(1, 0), (5, 1)])
def test_a_page_has_its_own_pixels_mask_and_overviews(album: Path, number: int, index: int) -> None:
    found = inspect_tiff(FileBytes(album), str(album), None, number)
    assert (found.height, found.width) == SIZES[index]
    assert found.overviews == ((SIZES[index][1] // 2, SIZES[index][0] // 2),)
    held = SourceReader(found, FileBytes(album)).read(_all(found.width, found.height))
    np.testing.assert_array_equal(held.pixels[0], IMAGES[index])
    np.testing.assert_array_equal(held.mask != 0, MASKS[index])
    (small,) = found.reduced
    at = found.model_copy(update={"image": small.image, "mask": small.mask})
    held = SourceReader(at, FileBytes(album)).read(_all(at.width, at.height))
    np.testing.assert_array_equal(held.pixels[0], IMAGES[index][::2, ::2] // 2)
    np.testing.assert_array_equal(held.mask != 0, MASKS[index][::2, ::2])


def _all(width: int, height: int) -> Window:
    return Window(col_off=0, row_off=0, width=width, height=height)


def planned(path: Path, number: int) -> RasterPlan:
    with gdal.environment(1 << 24):
        structure = inspect_tiff(FileBytes(path), str(path), None, number)
        return make_plan(structure, PlanOptions(dst_crs="EPSG:3857", page=number), "x")


def test_a_mask_beside_is_that_of_the_first_page_as_gdal_has_it(tmp_path: Path) -> None:
    path = pages(tiff(), tiff())(tmp_path)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.zeros(file.shape, np.uint8))
    first, second = (inspect_tiff(FileBytes(path), str(path), sidecar(path), n) for n in (1, 2))
    assert (first.mask_source, second.mask_source) == ("sidecar", None)


def test_the_plan_says_which_page_and_its_commands_name_it(tmp_path: Path) -> None:
    path = pages(tiff(), tiff())(tmp_path)
    made = planned(path, 2)
    assert summarize_plan(made).structure.page == 2
    assert "page 2, 211 x 173 pixels" in explain_plan(made)[0]
    assert f"GTIFF_DIR:2:{path.name}" in made.gdalwarp[-1]


def test_a_page_that_gdal_shows_without_its_mask_has_no_commands(tmp_path: Path) -> None:
    path = pages(tiff(mask="internal"), tiff(mask="internal"))(tmp_path)
    assert planned(path, 3).gdalwarp == ()


def test_another_page_is_another_job(tmp_path: Path) -> None:
    path = pages(tiff(), tiff())(tmp_path)
    one, two = (WholeJob(path, f"{tmp_path}/o.tif", options={**SMALL, "page": n}) for n in (1, 2))
    plans = [job.preflight().plan_identity for job in (one, two)]
    assert plans[0] != plans[1]
