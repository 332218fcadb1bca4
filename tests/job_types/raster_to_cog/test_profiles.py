"""Whole jobs under every profile that takes a block as an image, with GDAL as the judge."""

from __future__ import annotations

import hashlib
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import MaskFlags
from rio_cogeo.cogeo import cog_validate
from tests.harness import gdal_validator
from tests.harness.whole_job import SMALL, WholeJob, write_raster

from cogmill.errors import Refused

HEIGHT, WIDTH = 1069, 1131
Array = np.ndarray[Any, Any]
#: A photograph's signal to noise may be so much worse than GDAL's own, in decibels.
MARGIN = 0.5


def photo(bands: int) -> Array:
    """Return waves, edges and a little noise, none of it 0: shape ``(band, row, col)``."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(4).normal(0, 3, (bands, HEIGHT, WIDTH))
    planes = [
        110 + 60 * np.sin(rows / (31 + 7 * band)) * np.cos(cols / 43) + 30 * ((cols // 150) % 2)
        for band in range(bands)
    ]
    return np.clip(np.stack(planes) + noise, 1, 255).astype(np.uint8)


def hole(pixels: Array) -> Array:
    """Return which pixels are valid where a rectangle across output tiles is not."""
    valid = np.ones(pixels.shape[1:], bool)
    valid[300:690, 411:900] = False
    return valid


RGB = photo(3)
VALID = hole(RGB)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give sources by what they are; one of 3 x 3 output tiles each."""
    folder = tmp_path_factory.mktemp("sources")
    blanked = np.where(VALID, RGB, np.uint8(0))
    alpha = np.where(VALID, np.uint8(255), np.uint8(0))
    half = np.where(VALID, np.uint8(100), np.uint8(0))
    relief = (RGB[:2] * 31.7).astype(np.float32)
    relief[0, 100:230, 50:500] = np.nan
    return {
        "rgb": write_raster(folder / "rgb.tif", RGB, photometric="rgb"),
        "gray": write_raster(folder / "gray.tif", RGB[:1]),
        "nodata": write_raster(folder / "nodata.tif", blanked, photometric="rgb", nodata=0),
        "rgba": write_raster(
            folder / "rgba.tif", np.stack([*blanked, alpha]), photometric="rgb", alpha="yes"
        ),
        "gray and alpha": write_raster(
            folder / "ga.tif", np.stack([blanked[0], half]), photometric="minisblack", alpha="yes"
        ),
        "int16": write_raster(
            folder / "int16.tif", np.where(VALID, RGB * np.int16(40), np.int16(-999)), nodata=-999
        ),
        "relief": write_raster(folder / "relief.tif", relief),
        "sentinel": write_raster(
            folder / "sentinel.tif", np.where(VALID, relief[1:], np.float32(-9999)), nodata=-9999
        ),
    }


def job(source: Path, destination: str, profile: str, **options: Any) -> WholeJob:
    co = {key: options.pop(key) for key in list(options) if key.isupper()}
    chosen = SMALL | {"profile": profile, "creation_options": co} | options
    return WholeJob(source, destination, options=chosen)


class Shelf:
    """One COGs by source and options, each made once."""

    def __init__(self, sources: dict[str, Path], folder: Path) -> None:
        self._sources = sources
        self._folder = folder
        self._made: dict[str, tuple[Path, str]] = {}

    def one(self, kind: str, profile: str, **options: Any) -> Path:
        return self._get(kind, profile, options)[0]

    def warnings(self, kind: str, profile: str, **options: Any) -> str:
        return self._get(kind, profile, options)[1]

    def _get(self, kind: str, profile: str, options: dict[str, Any]) -> tuple[Path, str]:
        key = f"{kind} {profile} {sorted(options.items())}"
        if key not in self._made:
            path = self._folder / f"{len(self._made)}.tif"
            run = job(self._sources[kind], str(path), profile, **options).run()
            prepared: Any = run.found.prepared
            self._made[key] = path, "; ".join(prepared["plan"]["warnings"])
        return self._made[key]


@pytest.fixture(scope="module")
def shelf(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(sources, tmp_path_factory.mktemp("shelf"))


def levels(path: Path) -> Iterator[Array]:
    """Yield pixels of every level as GDAL decodes them, the full resolution first."""
    with rasterio.open(path) as dataset:
        yield dataset.read()
        count = len(dataset.overviews(1))
    for level in range(count):
        with rasterio.open(path, overview_level=level) as dataset:
            yield dataset.read()


def psnr(found: Array, expected: Array, valid: Array | None = None) -> float:
    off = (found.astype(np.float64) - expected)[:, VALID if valid is None else valid]
    return float(10 * np.log10(255**2 / np.mean(off**2)))


EVERYWHERE = np.ones((HEIGHT, WIDTH), bool)


@pytest.mark.parametrize(
    ("profile", "kind", "quality"),
    [
        ("jpeg", "rgb", "75"),
        ("jpeg", "rgb", "95"),
        ("jpeg", "gray", "30"),
        ("webp", "rgb", "75"),
        ("webp", "rgb", "95"),
    ],
)
def test_a_photograph_is_as_near_as_gdals_cog_driver_leaves_it(
    profile: str, kind: str, quality: str, sources: dict[str, Path], shelf: Shelf, tmp_path: Path
) -> None:
    path = shelf.one(kind, profile, QUALITY=quality)
    with rasterio.open(sources[kind]) as dataset:
        expected = dataset.read()
        options = {"compress": profile, "quality": quality, "blocksize": 128}
        rasterio.shutil.copy(dataset, tmp_path / "theirs.tif", driver="COG", **options)
    floor = psnr(next(levels(tmp_path / "theirs.tif")), expected, EVERYWHERE) - MARGIN
    assert psnr(next(levels(path)), expected, EVERYWHERE) >= floor
    with rasterio.open(path) as mine, rasterio.open(tmp_path / "theirs.tif") as gdals:
        assert mine.tags(ns="IMAGE_STRUCTURE") == gdals.tags(ns="IMAGE_STRUCTURE")
        assert mine.colorinterp == gdals.colorinterp


EXACT = [
    ("webp", "rgba", {"QUALITY": "100"}),
    ("lerc", "rgba", {}),
    ("lerc_deflate", "int16", {}),
    ("lerc_zstd", "relief", {}),
    ("lerc", "sentinel", {}),
]


@pytest.mark.parametrize(("profile", "kind", "options"), EXACT)
def test_where_nothing_is_lost_every_level_is_that_of_deflate(
    profile: str, kind: str, options: dict[str, str], sources: dict[str, Path], shelf: Shelf
) -> None:
    path = shelf.one(kind, profile, **options)
    found = list(levels(path))
    assert len(found) == 6
    for ours, exact in zip(found, levels(shelf.one(kind, "deflate")), strict=True):
        np.testing.assert_array_equal(ours, exact)
    with rasterio.open(path) as ours, rasterio.open(sources[kind]) as source:
        np.testing.assert_array_equal(found[0], source.read())
        assert ours.nodata == source.nodata
        assert ours.mask_flag_enums == source.mask_flag_enums


@pytest.mark.parametrize("kind", ["int16", "sentinel", "relief"])
def test_lerc_is_within_its_error_on_every_level_those_above_the_tiles_too(
    kind: str, shelf: Shelf
) -> None:
    path = shelf.one(kind, "lerc_zstd", MAX_Z_ERROR="3")
    for level in range(6):
        chosen = {} if level == 0 else {"overview_level": level - 1}
        with (
            rasterio.open(path, **chosen) as ours,
            rasterio.open(shelf.one(kind, "deflate"), **chosen) as exact,
        ):
            valid = exact.read_masks() > 0
            np.testing.assert_array_equal(ours.read_masks() > 0, valid)
            off = np.abs(ours.read().astype(np.float64) - exact.read())[valid]
            np.testing.assert_array_equal(np.isnan(ours.read()), np.isnan(exact.read()))
            assert 0 < np.nanmax(off) <= 3.001


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [("lerc_zstd", "relief", {"MAX_Z_ERROR": "3"}), ("jpeg", "gray", {"QUALITY": "30"})],
)
def test_levels_above_the_tiles_are_encoded_once_from_exact_pixels(
    name: str, kind: str, options: dict[str, str], shelf: Shelf
) -> None:
    found = list(levels(shelf.one(kind, name, **options)))[4][0, :64, :64]
    exact = list(levels(shelf.one(kind, "deflate")))[4][0, :64, :64]
    assert found.shape == (64, 64)
    if name == "jpeg":
        stream = imagecodecs.jpeg8_encode(exact, level=30)
        expected = imagecodecs.jpeg8_decode(stream)
    else:
        stream = imagecodecs.lerc_encode(exact, level=3, version=4)
        expected = imagecodecs.lerc_decode(stream)
    known = ~np.isnan(exact)
    assert known.mean() > 0.5
    np.testing.assert_array_equal(found[known], expected[known])


@pytest.mark.parametrize(
    ("profile", "kind"),
    [("jpeg", "nodata"), ("jpeg", "rgba"), ("jpeg", "gray and alpha"), ("webp", "nodata")],
)
def test_nodata_and_alpha_become_a_mask_and_what_it_hides_disturbs_nobody(
    profile: str, kind: str, shelf: Shelf
) -> None:
    path = shelf.one(kind, profile)
    with rasterio.open(path) as dataset:
        found = dataset.read()
        assert dataset.nodata is None
        assert dataset.mask_flag_enums[0] == [MaskFlags.per_dataset]
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, VALID)
    word = "nodata becomes a mask" if kind == "nodata" else "the alpha band becomes a mask"
    assert word in shelf.warnings(kind, profile)
    # The hole begins within a block at column 411, and fills the one at row 500, column 600.
    assert (found[:, 330, 430] > 50).all()
    assert (found[:, 500, 600] <= 2).all()
    plain = "rgb" if len(found) == 3 else "gray"
    expected = RGB[: len(found)]
    whole = next(levels(shelf.one(plain, profile)))
    assert psnr(found, expected) >= psnr(whole, expected) - MARGIN
    # Overviews are made of valid pixels alone, so no dark rim grows around the hole.
    small, exact = list(levels(path))[3], list(levels(shelf.one(plain, "deflate")))[3]
    inside = VALID[::8, ::8][: small.shape[1], : small.shape[2]]
    assert np.abs(small.astype(int) - exact)[:, inside].mean() < 4


def test_lossy_webp_keeps_alpha_and_colours_beside_what_is_transparent(shelf: Shelf) -> None:
    found = next(levels(shelf.one("rgba", "webp")))
    np.testing.assert_array_equal(found[3] > 0, VALID)
    whole = next(levels(shelf.one("rgb", "webp")))
    assert psnr(found[:3], RGB) >= psnr(whole, RGB) - MARGIN


@pytest.mark.parametrize(
    ("profile", "kind", "options"),
    [
        ("jpeg", "rgba", {}),
        ("lerc_zstd", "sentinel", {"MAX_Z_ERROR": "2"}),
    ],
)
def test_the_bytes_do_not_depend_on_how_the_work_is_cut(
    profile: str, kind: str, options: dict[str, str], sources: dict[str, Path], tmp_path: Path
) -> None:
    ways: list[dict[str, Any]] = [{"work_tile": 192}, {"strategy": "two-stage"}]
    for destination in ("one.tif", "mosaic/"):
        seen = []
        for number, way in enumerate(ways):
            folder = tmp_path / str(number)
            folder.mkdir(exist_ok=True)
            target, given = f"{folder}/{destination}", way | options
            job(sources[kind], target, profile, dst_crs="EPSG:3857", **given).run()
            seen.append(hashes(folder))
        assert seen[0] == seen[1]
    assert len(seen[0]) == 1 + 9


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.tif"))
    }


CHECKED = [
    ("jpeg", "rgba", {}),
    ("jpeg", "gray", {"QUALITY": "30"}),
    ("webp", "rgba", {}),
    ("lerc_deflate", "relief", {}),
    ("lerc_zstd", "int16", {"MAX_Z_ERROR": "3"}),
]


@pytest.fixture(scope="module", params=CHECKED, ids=lambda row: " ".join(row[:2]))
def checked(
    request: pytest.FixtureRequest,
    sources: dict[str, Path],
    shelf: Shelf,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Path]:
    """Give both kinds of output of one source: the one COG, and a tile of a mosaic."""
    profile, kind, options = request.param
    folder = tmp_path_factory.mktemp("checked")
    job(sources[kind], f"{folder}/mosaic/", profile, **options).run()
    tiles = sorted((folder / "mosaic").glob("*.tif"))
    return [shelf.one(kind, profile, **options), tiles[0], tiles[-1]]


def test_rio_cogeo_takes_them_for_cogs(checked: list[Path]) -> None:
    for path in checked:
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])


@pytest.mark.external("python3")
def test_gdals_validator_takes_them_for_cogs(checked: list[Path]) -> None:
    for path in checked:
        gdal_validator.assert_valid(path)


@pytest.mark.external("gdalinfo", "gdal_translate")
def test_another_gdal_with_our_jpeg_library_decodes_the_very_pixels_that_were_checked(
    shelf: Shelf, tmp_path: Path
) -> None:
    """Debian's GDAL decodes with libjpeg-turbo, as our encoder does, the wheel's with libjpeg 9."""
    for profile, kind in (("jpeg", "rgba"), ("webp", "rgba"), ("lerc_zstd", "relief")):
        path, plain = shelf.one(kind, profile), tmp_path / f"{profile}.tif"
        subprocess.run(
            ["gdal_translate", "-q", "-co", "COMPRESS=NONE", str(path), str(plain)],
            check=True,
            env={"PATH": "/usr/bin:/bin", "LANG": "C"},
        )
        theirs, ours = next(levels(plain)), next(levels(path))
        if profile == "jpeg":
            luma = np.array([0.299, 0.587, 0.114])
            off = np.abs(np.tensordot(luma, theirs.astype(float) - ours, 1))
            assert off.max() <= 1.01
            assert np.abs(theirs.astype(int) - ours).mean() < 1
        else:
            np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize(
    ("profile", "kind", "words"),
    [
        ("jpeg", "relief", "profile jpeg cannot hold these pixels: JPEG holds uint8"),
        ("webp", "gray", "WebP holds three or four bands, and they have 1; choose one of deflate"),
        ("jpeg", "int16", "JPEG holds uint8, and they are int16"),
    ],
)
def test_a_profile_that_cannot_hold_the_source_is_refused_before_any_work(
    profile: str, kind: str, words: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=words):
        job(sources[kind], f"{tmp_path}/no.tif", profile).preflight()
    assert not list(tmp_path.iterdir())


def test_a_palette_is_not_written_lossily(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "labels.tif", RGB[:1] % 4)
    with warnings.catch_warnings(), rasterio.open(path, "r+") as dataset:
        warnings.simplefilter("ignore")
        dataset.write_colormap(1, {value: (value, 9, 9, 255) for value in range(4)})
    with pytest.raises(Refused, match=r"they are labels .* and it is lossy; choose one of deflate"):
        job(path, f"{tmp_path}/no.tif", "jpeg").preflight()
    job(path, f"{tmp_path}/yes.tif", "lerc").run()
    np.testing.assert_array_equal(next(levels(tmp_path / "yes.tif")), RGB[:1] % 4)


def test_nodata_of_the_user_marks_pixels_and_an_alpha_band_is_left_out(shelf: Shelf) -> None:
    with rasterio.open(shelf.one("rgba", "jpeg", nodata=0)) as dataset:
        assert dataset.count == 3
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, VALID)
    assert "is left out" in shelf.warnings("rgba", "jpeg", nodata=0)
