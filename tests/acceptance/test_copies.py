"""Without a grid option everything is kept: pixels, validity, and all that says what they mean."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from tests.harness import matrix, sources
from tests.harness.figure import Figure
from tests.harness.matrix import Made, Shelf
from tests.harness.picture import place
from tests.harness.rasters import Case

#: Of a corpus of real files: palette, masks, alpha, scale and offset, NaN, floats, JPEG, WebP.
#: Not goes.tif: a JPEG with subsampled colours, which two decoders make up to 11 levels apart.
CORPUS = (
    "RGB.byte.tif",
    "RGB2.byte.tif",
    "RGBA.byte.tif",
    "RGBA.uint16.tif",
    "alpha.tif",
    "float_nan.tif",
    "float_raster_with_extra_nodata.tif",
    "graymask.tif",
    "image_51px.tif",
    "image_colormap.tif",
    "image_nan.tif",
    "image_rgb_mask.tif",
    "image_tags.tif",
    "image_with_offsets.tif",
    "rgb_deflate.tif",
    "shade.tif",
    "world.byte.tif",
)
#: What GDAL says of the file's storage, not of its pixels' meaning.
STORAGE = {"AREA_OR_POINT", "TIFFTAG_SOFTWARE", "TIFFTAG_DATETIME", "OVR_RESAMPLING_ALG"}


def _described(folder: Path) -> Path:
    """Make a raster that says all that a GeoTIFF can say of its bands."""
    case = Case("int16", 3, sources.strips(7, compress="deflate", interleave="band"), nodata=-99)
    path = sources.make(
        folder / "described.tif", sources.Raster(case, colors=("blue", "gray", "red"))
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1, 2.0, 1.0), (1 / 3, 0.0, -7.5)
        dataset.descriptions = ("height", "Größe", None)
        dataset.units = ("metre", "", "K")
        dataset.update_tags(TITLE="<a & b>", AREA_OR_POINT="Point", EMPTY="x ")
        dataset.update_tags(2, WAVELENGTH="0.66", STATISTICS_MEAN="12")
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"name", "kind"} <= set(metafunc.fixturenames):
        names = ("described", *sources.AWKWARD)
        rows = matrix.both_kinds(names, metafunc.config.getoption("--full"))
        metafunc.parametrize(("name", "kind"), rows, ids=[", ".join(row) for row in rows])
    elif "real_file" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        # Alone, `tests/job_types/raster_to_cog/test_inputs.py` copies each of them.
        metafunc.parametrize("real_file", CORPUS if full else CORPUS[::4])


def test_without_dst_crs_pixels_and_their_meaning_are_copied_exactly(
    name: str, kind: str, tmp_path: Path, figure: Figure
) -> None:
    if name == "described":
        source = _described(tmp_path)
    else:
        source = sources.make_awkward(tmp_path / "source.tif", name)
    made = matrix.make(source, matrix.destination(tmp_path, kind))
    figure.command, figure.seed = made.text, sources.SEED
    _all_kept(source, made)
    figure.measured("0 differ")


@pytest.mark.parametrize("layout", list(sources.LAYOUTS))
def test_without_dst_crs_every_layout_is_copied_exactly(
    layout: str, shelf: Shelf, figure: Figure
) -> None:
    made = shelf.copied(layout, "mosaic")
    figure.command, figure.seed = made.text, sources.SEED
    _all_kept(shelf.source(layout), made)
    figure.measured("0 differ")


def _all_kept(source: Path, made: Made) -> None:
    assert made.plan["warp"] is None
    if not made.destination.endswith("/"):
        _kept(source, Path(made.destination))
        return
    tiles = list(Path(made.destination).glob("*.tif"))
    assert len(tiles) == made.plan["tiles"]["output"]
    for tile in tiles:
        _kept(source, tile, made.plan["target_grid"])


@pytest.mark.external
def test_a_real_file_is_copied_exactly(
    real_file: str, corpus: Path, tmp_path: Path, figure: Figure
) -> None:
    made = matrix.make(corpus / real_file, f"{tmp_path}/one.tif")
    figure.command = made.text
    _kept(corpus / real_file, tmp_path / "one.tif")
    figure.measured("0 differ")


def _kept(source: Path, made: Path, grid: dict[str, Any] | None = None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", rasterio.errors.NodataShadowWarning)
        with rasterio.open(source) as one, rasterio.open(made) as two:
            left, top = (0, 0) if grid is None else place(two.transform, grid)
            window = rasterio.windows.Window(left, top, two.width, two.height)
            if grid is None:
                assert (two.width, two.height) == (one.width, one.height)
                assert two.transform == one.transform
            corner = (
                one.transform.c + left * one.transform.a,
                one.transform.f + top * one.transform.e,
            )
            moved = Affine(one.transform.a, 0, corner[0], 0, one.transform.e, corner[1])
            assert two.transform.almost_equals(moved, 1e-9)
            _same_meaning(one, two)
            pixels = one.read(window=window)
            assert np.array_equal(two.read(), pixels, equal_nan=pixels.dtype.kind in "fc")
            assert np.array_equal(two.read_masks(), one.read_masks(window=window))


def _same_meaning(one: Any, two: Any) -> None:
    assert two.crs == one.crs
    assert two.dtypes == one.dtypes
    np.testing.assert_array_equal(_numbers(two.nodatavals), _numbers(one.nodatavals))
    assert two.colorinterp == one.colorinterp
    assert two.mask_flag_enums == one.mask_flag_enums
    assert (two.scales, two.offsets) == (one.scales, one.offsets)
    assert _words(two.units) == _words(one.units)
    assert _words(two.descriptions) == _words(one.descriptions)
    assert two.tags().get("AREA_OR_POINT", "Area") == one.tags().get("AREA_OR_POINT", "Area")
    for band in range(one.count + 1):
        assert _said(two, band) == _said(one, band)
    if one.colorinterp[0].name == "palette":
        assert two.colormap(1) == one.colormap(1)


def _said(dataset: Any, band: int) -> dict[str, str]:
    """Return tags, without statistics, which are never copied, and words about storage."""
    return {
        key: value
        for key, value in dataset.tags(band).items()
        if key not in STORAGE and not key.startswith("STATISTICS_")
    }


def _numbers(values: Any) -> Any:
    return np.array([np.inf if value is None else value for value in values], float)


def _words(values: Any) -> list[str]:
    return [value or "" for value in values]


def test_statistics_are_never_copied(tmp_path: Path) -> None:
    source = _described(tmp_path)
    matrix.make(source, f"{tmp_path}/one.tif")
    with rasterio.open(source) as one, rasterio.open(tmp_path / "one.tif") as two:
        assert "STATISTICS_MEAN" in one.tags(2)
        assert "STATISTICS_MEAN" not in two.tags(2)
