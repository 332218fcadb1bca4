"""The proof: GDAL, not our own reader, opens what was encoded and finds what was meant.

Pixels are compared by checksum with what the encoder's own decoder gives, which is the encoded
pixels themselves where the codec is lossless. One kind cannot be: a JPEG of colours keeps chroma at
half the resolution, and JPEG libraries make it whole in ways of their own (libjpeg-turbo and GDAL's
libjpeg 9 were seen 200 levels apart at sharp edges). Luma is the same in all of them, so there our
decoder's pixels must have the checksum, and GDAL's must have their luma, within the rounding of
three channels, wherever no channel is cut off at 0 or 255.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from cogmill.errors import VerificationFailed
from cogmill.raster.arrays import Array
from cogmill.raster.cog.block_index import EncodedTile
from cogmill.raster.cog.block_rows import checksum, decode_row
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.file_layout import unframe_blocks
from cogmill.raster.cog.reduction import level_sizes
from cogmill.raster.cog.tags import crs_of, ungeoreferenced_is_no_news

#: Relative to a pixel: GDAL moves the origin of a point raster by half a pixel and back.
_POINT_TOLERANCE: Final = 1e-6
#: ITU-R BT.601's weights of red, green and blue, which JFIF takes too.
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
#: Each channel is rounded to a level on both sides: half a level of luma each, and float32's own.
_LUMA_TOLERANCE: Final = 1.01
_REMEDY: Final = "report it: nothing was published"
#: Row of blocks and how many of its rows are in the image, to our decoder's pixels.
_OurRows = Callable[[int, int], Array]


def verify_cog(
    file: bytes | str,
    image: CogImage,
    overviews: int,
    tile: EncodedTile | None = None,
) -> None:
    """Read a COG with GDAL, every block of it, and compare it with what was meant.

    Parameters
    ----------
    file : bytes or str
        The file itself, or its path as GDAL takes it. Bytes are not copied.
    image : CogImage
        What the file is of.
    overviews : int
        How many it has.
    tile : EncodedTile, optional
        What the encoder told: then pixels and masks are compared too. Without it a damaged block is
        found where the compression has a checksum (deflate has, LZW, Zstandard and raw have none)
        or does not decode.

    Raises
    ------
    VerificationFailed
        With what is not as it was meant.
    ValueError
        When a JPEG of colours is to be compared and not given as bytes.
    """
    verify_cog_header(file, image, overviews)
    with _opened(file) as (path, options):
        for number in range(overviews + 1):
            with _level(path, options, number) as dataset:
                ours = None if tile is None else _our_rows(file, image, tile, number)
                found = _read_all(dataset, image, number, ours)
            if tile is not None and found != tile.checksums[number]:
                raise VerificationFailed(
                    f"the pixels of level {number} are not those that were encoded", _REMEDY
                )


def verify_cog_header(file: bytes | str, image: CogImage, overviews: int) -> None:
    """Compare what a COG says of itself with what was meant; no block is read.

    For a committed file: its bytes were proved before they were staged, and again by checksum.

    Parameters
    ----------
    file, image, overviews
        As in `verify_cog`.

    Raises
    ------
    VerificationFailed
        With what is not as it was meant.
    """
    grid = image.grid
    with _opened(file) as (path, options):
        with _level(path, options, 0) as dataset:
            _check_description(dataset, image, overviews)
        for number, size in enumerate(level_sizes(grid.width, grid.height, overviews)):
            with _level(path, options, number) as dataset:
                _same(f"the size of level {number}", (dataset.width, dataset.height), size)


def verify_levels(file: bytes | str, image: CogImage, levels: range) -> None:
    """Decode every block of those levels that were not proved with the parts of a file.

    Parameters
    ----------
    file, image
        As in `verify_cog`.
    levels : range
        Their numbers; 0 is the full resolution.

    Raises
    ------
    VerificationFailed
        With what does not decode.
    """
    with _opened(file) as (path, options):
        for number in levels:
            with _level(path, options, number) as dataset:
                _read_all(dataset, image, number)


@contextmanager
def _level(path: str, options: dict[str, Any], number: int) -> Iterator[Any]:
    chosen = {} if number == 0 else {"overview_level": number - 1}
    try:
        dataset = rasterio.open(path, **options, **chosen)
    except RasterioError as error:
        raise VerificationFailed(f"GDAL cannot open the file: {error}", _REMEDY) from error
    with dataset:
        yield dataset


@contextmanager
def _opened(file: bytes | str) -> Iterator[tuple[str, dict[str, Any]]]:
    with ungeoreferenced_is_no_news():
        if isinstance(file, str):
            yield file, {"driver": "GTiff"}
            return
        with MemoryFile(file) as memory:
            yield memory.name, {"driver": "GTiff"}


def _check_description(dataset: Any, image: CogImage, overviews: int) -> None:
    grid = image.grid
    _same("the size", (dataset.width, dataset.height), (grid.width, grid.height))
    _same("the number of bands", dataset.count, image.bands)
    _same("the sample type", set(dataset.dtypes), {image.dtype})
    _same("the block size", set(dataset.block_shapes), {(image.block, image.block)})
    _same("the layout", dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"), "COG")
    _same("the coordinate system", dataset.crs, crs_of(image))
    _check_transform(dataset.transform, image)
    for value in dataset.nodatavals:
        if not _same_nodata(value, image):
            raise VerificationFailed(
                f"the nodata value is {value}, not {image.nodata_value}", _REMEDY
            )
    masked = MaskFlags.per_dataset in dataset.mask_flag_enums[0]
    alpha = MaskFlags.alpha in dataset.mask_flag_enums[0]
    _same("whether there is a mask", masked and not alpha, image.has_mask)
    _same("the number of overviews", len(dataset.overviews(1)), overviews)


def _same(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise VerificationFailed(f"{what} is {found}, not {expected}", _REMEDY)


def _same_nodata(value: float | None, image: CogImage) -> bool:
    expected = image.nodata_value
    if value is None or expected is None:
        return value is expected
    as_sample = np.asarray([value, expected], np.float64)
    if np.dtype(image.dtype).kind == "f":
        with np.errstate(over="ignore"):
            as_sample = as_sample.astype(image.dtype)
    return bool(np.array_equal(as_sample[:1], as_sample[1:], equal_nan=True))


def _check_transform(found: Affine, image: CogImage) -> None:
    expected = image.grid.transform
    if image.area_or_point == "Point":
        _, dx, rx, _, ry, dy = expected
        pixel = max(map(abs, (dx, rx, ry, dy)))
        far = max(abs(a - b) for a, b in zip(found.to_gdal(), expected, strict=True))
        if far <= pixel * _POINT_TOLERANCE:
            return
    _same("the geotransform", tuple(found.to_gdal()), tuple(expected))


def _our_rows(
    file: bytes | str, image: CogImage, tile: EncodedTile, number: int
) -> _OurRows | None:
    """Return our decoder of one level where GDAL's pixels differ from ours by right."""
    if image.codec.compression != "jpeg" or image.codec.samples == 1:
        return None
    if isinstance(file, str):
        raise ValueError("a JPEG of colours is compared as bytes, not by its path")
    width = tile.blocks.sizes[number][0]

    def decoded(row: int, rows: int) -> Array:
        offset, length = tile.blocks.run(number, 0, row)
        blocks = list(unframe_blocks([file[offset : offset + length]]))
        # The mask's blocks lie between those of the image.
        try:
            return decode_row(image, (rows, width), [blocks[:: 1 + image.has_mask]])
        except ValueError as error:
            raise VerificationFailed(f"a block of level {number}: {error}", _REMEDY) from error

    return decoded


def _read_all(dataset: Any, image: CogImage, number: int, ours: _OurRows | None = None) -> int:
    """Decode every block of a level, a row of blocks at a time; return the checksum of all."""
    value = 0
    for first in range(0, dataset.height, image.block):
        rows = min(image.block, dataset.height - first)
        window = RasterioWindow(0, first, dataset.width, rows)
        try:
            pixels = dataset.read(window=window)
            mask = dataset.read_masks(1, window=window) if image.has_mask else None
        except RasterioError as error:
            raise VerificationFailed(
                f"a block of level {number} in rows {first} to {first + rows - 1} does not decode",
                _REMEDY,
            ) from error
        if ours is not None:
            own = ours(first // image.block, rows)
            if not _same_luma(pixels, own):
                raise VerificationFailed(
                    f"GDAL decodes other pixels of level {number} in rows {first} to "
                    f"{first + rows - 1}",
                    _REMEDY,
                )
            pixels = own
        value = checksum((pixels, mask), value)
    return value


def _same_luma(pixels: Array, own: Array) -> bool:
    """Return whether two decoders agree, shapes ``(3, row, col)``: see the module."""
    free = np.ones(own.shape[1:], np.bool_)
    luma = np.zeros(own.shape[1:], np.float32)
    for theirs, mine, weight in zip(pixels, own, _LUMA, strict=True):
        for channel in (theirs, mine):
            free &= (channel > 0) & (channel < 255)
        luma += weight * (theirs.astype(np.float32) - mine)
    return bool((np.abs(luma, out=luma)[free] <= _LUMA_TOLERANCE).all())
