"""Both kinds of output are COGs by others' word, and everybody reads every level of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.enums import Resampling
from rio_cogeo.cogeo import cog_validate
from rio_tiler.io import Reader
from tests.harness import gdal_validator, matrix, sources
from tests.harness.figure import Figure
from tests.harness.matrix import Shelf

#: Even on every level that is compared; large enough for upper levels.
EVEN = (1408, 1152)
LAYOUTS = ("striped uint8 x3", "tiled float32 with nodata", "striped uint16 x4", "planar int16")
MASK = 4


@pytest.fixture(scope="module", params=list(sources.LAYOUTS))
def files(request: pytest.FixtureRequest, shelf: Shelf) -> list[Path]:
    """Give both kinds of output of one source: the one COG, and every tile of a mosaic."""
    one = shelf.made(*matrix.row(layout=request.param, kind="one COG"))
    mosaic = shelf.made(*matrix.row(layout=request.param, kind="mosaic"))
    return [Path(one.destination), *sorted(Path(mosaic.destination).glob("*.tif"))]


def test_both_kinds_pass_rio_cogeo_validate_strict_without_warnings(
    files: list[Path], figure: Figure
) -> None:
    found = {}
    for path in files:
        valid, errors, complaints = cog_validate(path, strict=True, quiet=True)
        if not valid or errors or complaints:
            found[path.name] = (errors, complaints)
    figure.command = "rio cogeo validate --strict"
    figure.measured(f"{len(found)} of {len(files)} complained of", 0)
    assert found == {}


@pytest.mark.external("python3")
def test_both_kinds_pass_gdals_validate_cloud_optimized_geotiff(
    files: list[Path], figure: Figure
) -> None:
    figure.command = " ".join(gdal_validator.COMMAND)
    for path in files:
        gdal_validator.assert_valid(path)
    figure.measured(f"{len(files)} valid")


def test_gdal_tifffile_and_rio_tiler_read_every_level_and_see_the_same(
    files: list[Path], figure: Figure
) -> None:
    levels = 0
    for path in files:
        sizes = list(_sizes(path))
        assert len(sizes) >= (5 if path is files[0] else 4)
        pages = _pages(path)
        assert [(page.imagewidth, page.imagelength) for page in pages] == sizes
        for level, size in enumerate(sizes):
            ours = _by_gdal(path, level)
            theirs = _by_tifffile(pages[level])
            assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
            tiler = _by_rio_tiler(path, size)
            assert np.array_equal(np.where(tiler[1], tiler[0], 0), np.where(tiler[1], ours, 0))
            levels += 1
    figure.command = "rasterio, tifffile, rio-tiler"
    figure.measured(f"{levels} levels of {len(files)} files")


def _sizes(path: Path) -> Iterator[tuple[int, int]]:
    with rasterio.open(path) as dataset:
        yield dataset.width, dataset.height
        for level in range(len(dataset.overviews(1))):
            with rasterio.open(path, OVERVIEW_LEVEL=level) as overview:
                yield overview.width, overview.height


def _by_gdal(path: Path, level: int) -> Any:
    options = {} if level == 0 else {"OVERVIEW_LEVEL": level - 1}
    with rasterio.open(path, **options) as dataset:
        return dataset.read()


def _pages(path: Path) -> list[Any]:
    # The file may be closed: a page opens it again when it is decoded.
    with tifffile.TiffFile(path) as tiff:
        pages: list[Any] = [page.aspage() for page in tiff.pages]
        found = [page for page in pages if not page.subfiletype & MASK]
        for page in found:
            page.pixels = page.asarray()
        return found


def _by_tifffile(page: Any) -> Any:
    pixels = page.pixels
    if pixels.ndim == 2:
        return pixels[np.newaxis]
    return pixels if page.planarconfig == 2 else np.moveaxis(pixels, 2, 0)


def _by_rio_tiler(path: Path, size: tuple[int, int]) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Reader(str(path)) as reader:
            image = reader.part(
                reader.bounds,
                bounds_crs=reader.crs,
                width=size[0],
                height=size[1],
                resampling_method="nearest",
            )
    return image.data, ~np.ma.getmaskarray(image.array)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_overviews_equal_gdals_average_on_even_sizes(
    layout: str, tmp_path: Path, figure: Figure
) -> None:
    raster = sources.Raster(sources.LAYOUTS[layout]).sized(*EVEN)
    if layout == "striped uint16 x4":
        raster = replace(raster, case=replace(raster.case, mask="internal"))
    source = sources.make(tmp_path / "source.tif", raster)
    made = matrix.make(source, f"{tmp_path}/one.tif")
    figure.command, figure.seed = made.text, sources.SEED
    compared = 0
    sizes = list(_sizes(tmp_path / "one.tif"))
    for level, (width, height) in enumerate(sizes[:-1]):
        if width % 2 or height % 2:
            break
        ours, valid = _level(tmp_path / "one.tif", level + 1)
        theirs, known = _averaged(tmp_path / "one.tif", level, tmp_path / f"level{level}.tif")
        assert np.array_equal(valid, known)
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(ours[valid], theirs[known], rtol=2e-7)
        else:
            gap = ours.astype(np.int64) - theirs
            # A mean of -2.5 becomes -2 here, as 2.5 becomes 3; GDAL rounds it to -3.
            assert np.array_equal(gap[valid], _negative_halves(tmp_path / "one.tif", level)[valid])
        compared += 1
    figure.measured(f"{compared} levels equal")
    assert compared >= 4


def _negative_halves(path: Path, level: int) -> Any:
    """Return 1 where the mean of a pixel's valid ones lies halfway and below zero, else 0."""
    pixels, valid = _level(path, level)
    bands, height, width = pixels.shape
    cells = (bands, height // 2, 2, width // 2, 2)
    total = np.where(valid, pixels.astype(np.int64), 0).reshape(cells).sum(axis=(2, 4))
    count = np.maximum(valid.reshape(cells).sum(axis=(2, 4)), 1)
    return ((2 * total % (2 * count) == count) & (total < 0)).astype(np.int64)


def _level(path: Path, level: int) -> tuple[Any, Any]:
    options = {} if level == 0 else {"OVERVIEW_LEVEL": level - 1}
    with rasterio.open(path, **options) as dataset:
        return dataset.read(), dataset.read_masks() > 0


def _averaged(path: Path, level: int, copy: Path) -> tuple[Any, Any]:
    """Let GDAL halve one level, written to a plain file, by its own average."""
    pixels, valid = _level(path, level)
    with rasterio.open(path) as dataset:
        nodata = dataset.nodata
    bands, height, width = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": bands, "nodata": nodata}
        with rasterio.open(copy, "w", width=width, height=height, **profile) as out:
            out.write(pixels)
            if nodata is None:
                out.write_mask(np.where(valid[0], 255, 0).astype(np.uint8))
        with rasterio.open(copy, "r+") as out:
            out.build_overviews([2], Resampling.average)
        with rasterio.open(copy, OVERVIEW_LEVEL=0) as half:
            return half.read(), half.read_masks() > 0
