"""Codecs that take a block as an image, not as bytes: JPEG, WebP and LERC, as TIFF holds them.

What goes in is pixels, not bytes, and what comes back may only be near them.

- JPEG as in TIFF Technical Note 2: three samples become YCbCr with chroma at half the resolution,
  one stays gray; the quantization tables are shared by all blocks (tag 347), each block has Huffman
  tables of its own.
- WebP: quality 100 means lossless, as in GDAL's COG driver.
- LERC version 2.4, which every reader of LERC in TIFF knows; NaN travels as LERC's own mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import imagecodecs
import numpy as np

from cogmill.raster.arrays import Array, BoolMask

#: The WebP quality that GDAL's COG driver takes for lossless, and so do we.
LOSSLESS_QUALITY: Final = 100
#: What encoding one block holds at most, in bytes a pixel: measured, noise, 512 to 4096 pixels.
ENCODING_SCRATCH: Final[Mapping[str, int]] = MappingProxyType({"webp": 72, "jpeg": 12})
#: Types that LERC knows.
LERC_TYPES: Final = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64",
)  # fmt: skip

_WEBP_METHOD: Final = 4
_LERC_VERSION: Final = 4
_QUANTIZATION, _APPLICATION, _SCAN = 0xDB, 0xE0, 0xDA
_START, _END = b"\xff\xd8", b"\xff\xd9"


def is_lossy(
    compression: str, dtype: str, quality: int | None = None, max_z_error: float | None = None
) -> bool:
    """Return whether pixels come back changed.

    Parameters
    ----------
    compression : str
        By name, as ``jpeg``.
    dtype : str
        NumPy name of one sample.
    quality : int, optional
        Of JPEG and WebP.
    max_z_error : float, optional
        Of LERC, which rounds it down for whole numbers.
    """
    if compression == "webp":
        return quality != LOSSLESS_QUALITY
    if max_z_error is not None:
        return max_z_error >= 1 if np.dtype(dtype).kind in "iu" else max_z_error > 0
    return compression == "jpeg"


def encode_jpeg(block: Array, quality: int) -> bytes:
    """Return a block as an abbreviated JPEG stream: its quantization tables are `jpeg_tables`.

    Parameters
    ----------
    block : ndarray of uint8
        Shape ``(row, col, sample)``, one sample or three.
    quality : int
        1 to 100, as libjpeg scales its tables.
    """
    kept = [
        data
        for marker, data in _segments(_whole_jpeg(block, quality))
        if marker not in (_QUANTIZATION, _APPLICATION)
    ]
    return b"".join((_START, *kept))


@cache
def jpeg_tables(quality: int, samples: int) -> bytes:
    """Return the tables that all blocks of an image share, as TIFF's tag 347 holds them."""
    stream = _whole_jpeg(np.zeros((16, 16, samples), np.uint8), quality)
    tables = [data for marker, data in _segments(stream) if marker == _QUANTIZATION]
    return b"".join((_START, *tables, _END))


def decode_jpeg(data: bytes, quality: int, samples: int) -> Array:
    """Return the pixels of what `encode_jpeg` gave, as libjpeg-turbo decodes them."""
    colors: dict[str, Any] = {"colorspace": "ycbcr", "outcolorspace": "rgb"} if samples == 3 else {}
    pixels: Array = imagecodecs.jpeg8_decode(data, tables=jpeg_tables(quality, samples), **colors)
    return pixels


def _whole_jpeg(block: Array, quality: int) -> bytes:
    colors: dict[str, Any] = {}
    if block.shape[2] == 3:
        colors = {"colorspace": "rgb", "outcolorspace": "ycbcr", "subsampling": "420"}
    else:
        block = block[:, :, 0]
    return bytes(imagecodecs.jpeg8_encode(block, level=quality, optimize=True, **colors))


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment; the last one is the scan with all that follows."""
    position = len(_START)
    while True:
        marker = stream[position + 1]
        length = 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        if marker == _SCAN:
            yield marker, stream[position:]
            return
        yield marker, stream[position : position + length]
        position += length


def encode_webp(block: Array, quality: int) -> bytes:
    """Return a block of uint8 as WebP, shape ``(row, col, sample)``, three samples or four."""
    return bytes(
        imagecodecs.webp_encode(
            block, level=quality, lossless=quality == LOSSLESS_QUALITY, method=_WEBP_METHOD
        )
    )


def decode_webp(data: bytes, samples: int) -> Array:
    """Return the pixels of what `encode_webp` gave; libwebp leaves an opaque alpha out."""
    pixels: Array = imagecodecs.webp_decode(data, hasalpha=samples == 4)
    return pixels


def encode_lerc(block: Array, max_z_error: float) -> bytes:
    """Return a block as LERC, shape ``(row, col, sample)``; NaN only where there is one sample.

    Parameters
    ----------
    block : ndarray
        Of one of `LERC_TYPES`.
    max_z_error : float
        How far a decoded value may be off; 0 is lossless.
    """
    if block.shape[2] == 1:
        block = block[:, :, 0]
    # Of 8-bit values LERC's encoder leaves some bits as it finds them in the buffer.
    zeroed = bytearray(most_lerc_bytes(block.nbytes))
    return bytes(
        imagecodecs.lerc_encode(
            block, level=max_z_error, version=_LERC_VERSION, planar=False, out=zeroed
        )
    )


def most_lerc_bytes(decoded: int) -> int:
    """Return how long a LERC stream of so many decoded bytes can be: noise grows by 2 %.

    What packs it once more must stop there, be it cut off or a bomb.
    """
    return 2 * decoded + 4096


def decode_lerc(data: bytes) -> Array:
    """Return the pixels of what `encode_lerc` gave."""
    pixels, mask = imagecodecs.lerc_decode(data, masks=True)
    values: Array = np.asarray(pixels)
    if values.dtype.kind == "f" and mask is not None:
        valid = np.asarray(mask, bool)
        if not valid.all():
            values = values.copy()
            values[~valid] = np.nan
    return values


def fill_invalid(block: Array, valid: BoolMask) -> None:
    """Fill the invalid pixels of a block, in place, with what disturbs the others least.

    What lies under a mask costs bytes, and bleeds into its neighbours where a codec is lossy. Whole
    numbers get the mean of the block's valid pixels, floats the least of them, since the order of a
    sum of floats is not fixed; without a valid pixel all are 0.

    Parameters
    ----------
    block : ndarray
        Shape ``(row, col, sample)``.
    valid : ndarray of bool
        Shape ``(row, col)``.
    """
    if valid.all():
        return
    known = block[valid]
    if block.dtype.kind == "f":
        numbers = np.where(np.isnan(known), np.inf, known)
        least = numbers.min(axis=0, initial=np.inf)
        block[~valid] = np.where(np.isinf(least), 0, least)
    else:
        block[~valid] = known.sum(axis=0, dtype=np.int64) // max(len(known), 1)
