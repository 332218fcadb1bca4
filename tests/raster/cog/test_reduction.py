"""Reduced pixels are GDAL's, where GDAL keeps its own promise, and never depend on the cutting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.enums import Resampling

from cogmill.raster.cog.cascade import Cascade
from cogmill.raster.cog.reduction import (
    Reduction,
    level_sizes,
    overview_count,
    reduce_by_two,
)

Array = npt.NDArray[Any]
WIDTH, HEIGHT = 84, 50


def content(dtype: str, bands: int = 2) -> Array:
    random = np.random.default_rng(11)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1000, (bands, HEIGHT, WIDTH)).astype(dtype)
    high = min(np.iinfo(dtype).max, 3000)
    return random.integers(0, high, (bands, HEIGHT, WIDTH)).astype(dtype)


def holes() -> npt.NDArray[np.bool_]:
    random = np.random.default_rng(12)
    valid = random.random((HEIGHT, WIDTH)) < 0.7
    valid[:20, :30] = False
    return valid


def gdal_overview(
    path: Path, pixels: Array, method: Resampling, **how: Any
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return GDAL's own first overview and its valid pixels per band."""
    mask, nodata = how.get("mask"), how.get("nodata")
    profile = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype.name,
        "nodata": nodata,
        "transform": rasterio.Affine(2, 0, 9, 0, -2, 9),
        "photometric": how.get("photometric", "MINISBLACK"),
        "alpha": how.get("alpha", "NO"),
    }
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(pixels)
            if mask is not None:
                dataset.write_mask(mask)
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2], method)
    with rasterio.open(path, overview_level=0) as dataset:
        return dataset.read(), dataset.read_masks() != 0


def assert_same(mine: Array, theirs: Array) -> None:
    if mine.dtype.kind == "f":
        # GDAL sums float32 in float32.
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-3)
    else:
        np.testing.assert_array_equal(mine, theirs)


DTYPES = ["uint8", "uint16", "int16", "float32"]
METHODS = ["average", "nearest", "mode"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_overview_of_valid_pixels_is_gdals(tmp_path: Path, dtype: str, method: Any) -> None:
    pixels = content(dtype)
    theirs, _ = gdal_overview(tmp_path / "a.tif", pixels, Resampling[method])
    mine, valid = reduce_by_two(pixels, None, method)
    assert valid is None
    assert_same(mine, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_average_overview_with_nodata_is_gdals(tmp_path: Path, dtype: str) -> None:
    pixels = content(dtype)
    pixels[:, ~holes()] = 7
    theirs, their_valid = gdal_overview(tmp_path / "a.tif", pixels, Resampling.average, nodata=7)
    mine, valid = reduce_by_two(pixels, pixels != 7, "average", 7)
    np.testing.assert_array_equal(valid, their_valid)
    assert_same(mine, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_average_overview_with_a_mask_is_gdals(tmp_path: Path, dtype: str) -> None:
    pixels = content(dtype)
    theirs, their_valid = gdal_overview(
        tmp_path / "a.tif", pixels, Resampling.average, mask=holes()
    )
    mine, valid = reduce_by_two(pixels, holes())
    assert valid is not None
    np.testing.assert_array_equal(np.broadcast_to(valid, mine.shape), their_valid)
    assert_same(mine, theirs)


def test_an_average_overview_with_alpha_is_gdals(tmp_path: Path) -> None:
    pixels = content("uint8", 4)
    pixels[3, ~holes()] = 0
    pixels[3, :2, :2] = [[0, 1], [0, 0]]
    theirs, _ = gdal_overview(
        tmp_path / "a.tif", pixels, Resampling.average, photometric="RGB", alpha="YES"
    )
    mine, mask = Reduction(alpha=3).halve(pixels, None)
    assert mask is None
    assert mine[3, 0, 0] == 1
    np.testing.assert_array_equal(mine, theirs)


def test_nan_pixels_count_for_nothing() -> None:
    pixels = np.array([[[1, np.nan, np.nan, np.nan], [np.nan, 4, np.nan, np.nan]]], "float32")
    for nodata in (None, np.nan):
        mine, _ = reduce_by_two(pixels, None, "average", nodata)
        np.testing.assert_array_equal(mine, [[[2.5, np.nan]]])
    mine, _ = reduce_by_two(pixels, None, "average", -9999)
    np.testing.assert_array_equal(mine, [[[2.5, -9999]]])


def test_nan_in_one_band_stays_nan_under_a_shared_mask() -> None:
    pixels = np.array([[[np.nan, np.nan, 5, 5]], [[1, 2, 5, 5]]], "float32")
    mine, valid = reduce_by_two(pixels, np.array([[True, True, False, False]]))
    np.testing.assert_array_equal(mine, [[[np.nan, 0]], [[1.5, 0]]])
    np.testing.assert_array_equal(valid, [[True, False]])


@pytest.mark.parametrize(
    ("cell", "expected"),
    [([-1, 0, -1, 0], 0), ([-3, -2, -3, -2], -2), ([1, 0, 1, 0], 1), ([-1, -1, -1, 0], -1)],
)
def test_integers_round_half_towards_plus_infinity(cell: list[int], expected: int) -> None:
    for dtype in ("int8", "int16", "int32", "int64"):
        pixels = np.array(cell, dtype).reshape(1, 2, 2)
        assert reduce_by_two(pixels, None)[0].item() == expected


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32", "int32", "uint64", "int64"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_averages_of_the_largest_integers_do_not_overflow(dtype: str, count: int) -> None:
    info = np.iinfo(dtype)
    valid = np.arange(4).reshape(2, 2) < count
    for value in (int(info.max), int(info.min)):
        pixels = np.full((1, 2, 2), value, dtype)
        assert reduce_by_two(pixels, valid)[0].item() == value
        pixels[0, 0, 0] = value - 2 if value > 0 else value + 2
        cells = [int(v) for v in pixels.ravel()[:count]]
        assert reduce_by_two(pixels, valid)[0].item() == (2 * sum(cells) + count) // (2 * count)


@pytest.mark.parametrize(
    ("dtype", "nodata", "cell"),
    [
        ("uint8", 5, [4, 6, 4, 6]),
        ("uint8", 255, [254, 254, 255, 254]),
        ("int16", -3, [-2, -4, -2, -4]),
        ("float32", -9999, [-9998, -10000, -9998, -10000]),
        ("float32", 5, [4, 6, 4, 6]),
        ("float32", 0, [-1, 1, -1, 1]),
        ("float64", 0.1, [0.2, 0, 0.2, 0]),
        ("float32", -3.4028234663852886e38, [-3.4028234663852886e38, 1, 1, 1]),
    ],
)
def test_a_valid_average_never_reads_as_nodata(
    tmp_path: Path, dtype: str, nodata: float, cell: list[float]
) -> None:
    pixels = np.array(cell, dtype).reshape(1, 2, 2)
    mine, valid = reduce_by_two(pixels, pixels != nodata, "average", nodata)
    assert valid is not None
    assert valid.all()
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        width=1,
        height=1,
        count=1,
        dtype=dtype,
        nodata=nodata,
        transform=rasterio.Affine(2, 0, 9, 0, -2, 9),
    ) as dataset:
        dataset.write(mine)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.read_masks(1).item() == 255
    assert mine.item() == pytest.approx(np.mean(pixels[pixels != nodata]), abs=1.01)


def test_nearest_takes_the_first_valid_pixel() -> None:
    pixels = np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]], "uint8")
    valid = np.array([[[False, False, True, True], [True, True, True, True]]])
    np.testing.assert_array_equal(reduce_by_two(pixels, valid, "nearest")[0], [[[5, 3]]])


def test_mode_counts_only_valid_pixels() -> None:
    pixels = np.array([[[9, 2, 9, 2], [9, 2, 9, 3]]], "uint8")
    valid = pixels != 9
    np.testing.assert_array_equal(reduce_by_two(pixels, valid, "mode", 9)[0], [[[2, 2]]])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (5, 1), (3, 3), (7, 4)])
def test_odd_edges_reduce_what_is_there(height: int, width: int) -> None:
    pixels = np.arange(height * width, dtype="int32").reshape(1, height, width) * 3
    mine, _ = reduce_by_two(pixels, None)
    assert mine.shape == (1, -(-height // 2), -(-width // 2))
    for row in range(mine.shape[1]):
        for col in range(mine.shape[2]):
            cell = pixels[0, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
            assert mine[0, row, col] == (2 * int(cell.sum()) + cell.size) // (2 * cell.size)


def test_level_sizes_round_up_and_stop_at_one_block() -> None:
    assert level_sizes(100, 37, 3) == ((100, 37), (50, 19), (25, 10), (13, 5))
    assert overview_count(100, 37, 512) == 3
    assert overview_count(4096, 4096, 512) == 3
    assert overview_count(4097, 10, 512) == 4
    assert overview_count(513, 1, 512, least=0) == 1


@pytest.mark.parametrize("reduction", [Reduction(), Reduction(nodata=7), Reduction("mode", 7)])
def test_the_cascade_gives_the_levels_of_the_whole_image(reduction: Reduction) -> None:
    pixels = content("int16")
    pixels[:, ~holes()] = 7
    sizes = level_sizes(WIDTH, HEIGHT, 3)
    levels = [np.zeros((2, height, width), "int16") for width, height in sizes]
    cascade = Cascade(reduction, 16, sizes)
    order = []
    for first in range(0, HEIGHT, 16):
        for part in cascade.push(pixels[:, first : first + 16], None):
            order.append((part.level, part.row))
            levels[part.level][:, part.row * 16 : part.row * 16 + 16] = part.pixels
    assert order == [(0, 0), (0, 1), (1, 0), (0, 2), (0, 3), (1, 1), (2, 0), (3, 0)]
    whole = pixels
    for level in levels:
        np.testing.assert_array_equal(level, whole)
        whole, _ = reduction.halve(whole, None)


def test_the_cascade_refuses_rows_that_are_not_due() -> None:
    cascade = Cascade(Reduction(), 16, level_sizes(20, 20, 1))
    with pytest.raises(ValueError, match=r"\(16, 20\) are due"):
        list(cascade.push(np.zeros((1, 8, 20), "uint8"), None))
    for rows in (16, 4):
        list(cascade.push(np.zeros((1, rows, 20), "uint8"), None))
    with pytest.raises(ValueError, match=r"\(0, 20\) are due"):
        list(cascade.push(np.zeros((1, 4, 20), "uint8"), None))
