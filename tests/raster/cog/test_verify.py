"""What is not as it was meant does not pass, whatever the reader would have made of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cogmill.errors import VerificationFailed
from cogmill.raster.codecs.profiles import Samples, profile_codec
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.tile_encoding import EncodedFile, encode_tile
from cogmill.raster.cog.verify import verify_cog, verify_cog_header
from cogmill.raster.geometry.grid import Grid

TRANSFORM = (300000.0, 10.3, 0.0, 5000000.0, 0.0, -10.3)


def image_of(compression: str = "deflate", **change: Any) -> CogImage:
    parts: dict[str, Any] = {
        "grid": Grid(crs="EPSG:32630", transform=TRANSFORM, width=150, height=100),
        "bands": 2,
        "codec": profile_codec(compression, Samples(dtype="uint16", bands=2), 64),
        "has_mask": True,
    }
    return CogImage(**(parts | change))


def encoded(image: CogImage) -> EncodedFile:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 9, (image.bands, image.grid.height, image.grid.width))
    mask = random.random(pixels.shape[1:]) < 0.8 if image.has_mask else None
    return encode_tile(image, [(pixels.astype(image.dtype), mask)], "average")


def test_what_was_encoded_passes_as_bytes_and_as_a_path(tmp_path: Path) -> None:
    image = image_of()
    file = encoded(image)
    verify_cog(file.data, image, 3, file.tile)
    (tmp_path / "a.tif").write_bytes(file.data)
    verify_cog(str(tmp_path / "a.tif"), image, 3, file.tile)


@pytest.mark.parametrize("compression", ["deflate", "lzw", "zstd", "raw"])
def test_a_flipped_bit_in_any_block_is_found(compression: str) -> None:
    image = image_of(compression)
    file = encoded(image)
    with tifffile.TiffFile(io.BytesIO(file.data)) as tiff:
        # In the middle of compressed data; in a raw block where it does not lie outside the image.
        places = [
            offset + (17 if page.compression == 1 else count // 2)
            for page in list[Any](tiff.pages)
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    assert len(places) == 2 * (6 + 2 + 1 + 1)
    for place in places:
        damaged = bytearray(file.data)
        damaged[place] ^= 16
        with pytest.raises(VerificationFailed):
            verify_cog(bytes(damaged), image, 3, file.tile)


def test_deflate_finds_a_flipped_bit_without_checksums_too() -> None:
    image = image_of()
    file = encoded(image)
    with tifffile.TiffFile(io.BytesIO(file.data)) as tiff:
        page = tiff.pages.first
        offset, count = page.dataoffsets[3], page.databytecounts[3]
    damaged = bytearray(file.data)
    damaged[offset + count // 2] ^= 1
    with pytest.raises(VerificationFailed, match="level 0 in rows 64 to 99 does not decode"):
        verify_cog(bytes(damaged), image, 3)


def test_pixels_of_another_image_are_found() -> None:
    image = image_of("raw")
    file = encoded(image)
    sums = (*file.tile.checksums[:2], 0, file.tile.checksums[3])
    with pytest.raises(VerificationFailed, match="the pixels of level 2 are not those"):
        verify_cog(file.data, image, 3, file.tile.model_copy(update={"checksums": sums}))


GRID = image_of().grid


@pytest.mark.parametrize(
    ("meant", "sentence"),
    [
        ({"grid": GRID.model_copy(update={"crs": "EPSG:32631"})}, "the coordinate system is"),
        ({"grid": GRID.model_copy(update={"width": 149})}, "the size is"),
        (
            {"grid": GRID.model_copy(update={"transform": (*TRANSFORM[:5], -10.300000000000002)})},
            "the geotransform is",
        ),
        ({"has_mask": False}, "whether there is a mask is True, not False"),
        ({"has_mask": False, "nodata": (0.0, 0.0)}, "the nodata value is None, not 0.0"),
        (
            {"codec": profile_codec("deflate", Samples(dtype="uint16", bands=2), 128)},
            "the block size is",
        ),
        (
            {"codec": profile_codec("deflate", Samples(dtype="int16", bands=2), 64)},
            "the sample type is",
        ),
        (
            {"bands": 3, "codec": profile_codec("deflate", Samples(dtype="uint16", bands=3), 64)},
            "the number of bands is 2, not 3",
        ),
    ],
)
def test_what_the_file_says_otherwise_is_named(meant: dict[str, Any], sentence: str) -> None:
    file = encoded(image_of())
    with pytest.raises(VerificationFailed, match=sentence):
        verify_cog(file.data, image_of(**meant), 3)


def test_a_point_raster_may_lose_a_rounding_but_no_more() -> None:
    image = image_of(area_or_point="Point")
    file = encoded(image)
    verify_cog(file.data, image, 3)
    moved = (TRANSFORM[0] + 0.001, *TRANSFORM[1:])
    other = image_of(area_or_point="Point", grid=GRID.model_copy(update={"transform": moved}))
    with pytest.raises(VerificationFailed, match="the geotransform is"):
        verify_cog(file.data, other, 3)


def test_a_header_is_compared_without_reading_a_block() -> None:
    image = image_of()
    file = encoded(image)
    blocks = file.tile.blocks.run(3, 0, 0)[0]
    header_only = file.data[:blocks] + b"\xff" * (len(file.data) - blocks)
    verify_cog_header(header_only, image, 3)
    with pytest.raises(VerificationFailed, match="the size is"):
        verify_cog_header(header_only, image_of(grid=GRID.model_copy(update={"width": 149})), 3)


def test_a_missing_overview_is_found() -> None:
    image = image_of()
    with pytest.raises(VerificationFailed, match="the number of overviews is 3, not 4"):
        verify_cog(encoded(image).data, image, 4)


def test_a_file_that_was_cut_off_or_is_none_is_found() -> None:
    image = image_of()
    file = encoded(image)
    for data in (file.data[:-200], file.data[:100], b"no file at all"):
        with pytest.raises(VerificationFailed):
            verify_cog(data, image, 3)


def test_a_tiff_that_is_no_cog_is_found() -> None:
    image = image_of()
    data = encoded(image).data
    with pytest.raises(VerificationFailed, match="the layout is None"):
        verify_cog(data.replace(b"LAYOUT=IFDS_BEFORE_DATA", b"LAYOUT=IFDS_BEHIND_DATA"), image, 3)


@pytest.mark.parametrize("nodata", [float("nan"), -9999.1, 1e-40, -3.4028234663852886e38])
def test_nodata_of_any_kind_comes_back(nodata: float) -> None:
    image = image_of(
        has_mask=False,
        bands=1,
        nodata=(nodata,),
        codec=profile_codec("zstd", Samples(dtype="float32"), 64),
    )
    file = encoded(image)
    verify_cog(file.data, image, 3, file.tile)


def test_an_image_without_a_place_on_earth_passes() -> None:
    grid = Grid(crs="", transform=(0, 1, 0, 0, 0, 1), width=70, height=3)
    image = image_of(grid=grid)
    file = encoded(image)
    verify_cog(file.data, image, 3, file.tile)


def jpeg_image(bands: int) -> CogImage:
    codec = profile_codec("jpeg", Samples(dtype="uint8", bands=bands), 64)
    colors = ("red", "green", "blue") if bands == 3 else ("gray",)
    return image_of(bands=bands, codec=codec, color_interpretation=colors)


def photographed(image: CogImage) -> EncodedFile:
    shape = (image.bands, image.grid.height, image.grid.width)
    pixels = np.random.default_rng(3).integers(60, 190, shape).astype(np.uint8)
    return encode_tile(image, [(pixels, np.ones(shape[1:], bool))], "average")


def test_a_jpeg_of_noise_is_proved_though_gdal_makes_its_colours_whole_otherwise() -> None:
    for bands in (1, 3):
        image = jpeg_image(bands)
        file = photographed(image)
        verify_cog(file.data, image, 3, file.tile)


def test_a_jpeg_that_gdal_decodes_otherwise_is_found() -> None:
    """GDAL takes the tables from the file's tag, our decoder does not look there."""
    image = jpeg_image(3)
    file = photographed(image)
    tables = image.codec.jpeg_tables
    assert tables is not None
    other = bytes([*tables[:7], *(min(value + 9, 255) for value in tables[7:40]), *tables[40:]])
    with pytest.raises(VerificationFailed, match="GDAL decodes other pixels of level 0"):
        verify_cog(file.data.replace(tables, other), image, 3, file.tile)


def test_a_jpeg_of_other_pixels_is_found() -> None:
    image = jpeg_image(3)
    file = photographed(image)
    sums = (*file.tile.checksums[:2], 0, file.tile.checksums[3])
    with pytest.raises(VerificationFailed, match="the pixels of level 2 are not those"):
        verify_cog(file.data, image, 3, file.tile.model_copy(update={"checksums": sums}))
