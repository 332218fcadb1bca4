"""One block of pixels to bytes and back, as TIFF readers expect them.

A codec is a value: it travels in a plan as JSON, and the same codec gives the same bytes in every
process of one engine. Deflate is libdeflate's (zlib container), the only one used for writing; LZW
is libtiff's. What takes a block as an image (JPEG, WebP, LERC) is in `image_codecs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import imagecodecs
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, BoolMask
from cogmill.raster.codecs.image_codecs import (
    ENCODING_SCRATCH,
    decode_jpeg,
    decode_lerc,
    decode_webp,
    encode_jpeg,
    encode_lerc,
    encode_webp,
    is_lossy,
    jpeg_tables,
    most_lerc_bytes,
)
from cogmill.raster.codecs.lzw_blocks import encode_lzw
from cogmill.raster.options.creation_options import Compression

Predictor = Literal[1, 2, 3]

#: What readers may get from a damaged block; imagecodecs has an error class for each codec.
DECODE_ERRORS: Final = (ValueError, RuntimeError, IndexError, TypeError)

_TIFF_TAG: Final[Mapping[str, int]] = MappingProxyType(
    {
        "raw": 1, "lzw": 5, "jpeg": 7, "deflate": 8, "zstd": 50000, "webp": 50001,
        "lerc": 34887, "lerc_deflate": 34887, "lerc_zstd": 34887,
    }
)  # fmt: skip
#: What packs the bytes of LERC once more.
_AROUND_LERC: Final[Mapping[str, str]] = MappingProxyType(
    {"lerc": "raw", "lerc_deflate": "deflate", "lerc_zstd": "zstd"}
)
_MASK_LEVEL: Final = 6


class _Packer(BaseModel):
    """How one compression turns bytes into fewer bytes, and which levels it knows."""

    model_config = ConfigDict(frozen=True)

    encode: Callable[[bytes, int | None], bytes]
    decode: Callable[[bytes, int], bytes]
    levels: tuple[int, int] | None = None


def _deflate(data: bytes, level: int | None) -> bytes:
    return bytes(imagecodecs.deflate_encode(data, level=level))


def _inflate(data: bytes, size: int) -> bytes:
    return bytes(imagecodecs.deflate_decode(data, out=size))


_PACKERS: Final[Mapping[str, _Packer]] = MappingProxyType(
    {
        "raw": _Packer(
            encode=lambda data, level: data,
            decode=lambda data, size: data,
        ),
        "deflate": _Packer(encode=_deflate, decode=_inflate, levels=(1, 12)),
        "lzw": _Packer(
            encode=lambda data, level: encode_lzw(data),
            decode=lambda data, size: bytes(imagecodecs.lzw_decode(data, out=size)),
        ),
        "zstd": _Packer(
            encode=lambda data, level: bytes(imagecodecs.zstd_encode(data, level=level)),
            decode=lambda data, size: bytes(imagecodecs.zstd_decode(data, out=size)),
            levels=(1, 22),
        ),
    }
)


class BlockCodec(BaseModel):
    """How the blocks of one image are encoded: square tiles, little-endian, padded to full size.

    Attributes
    ----------
    compression : str
        One of `Compression`.
    level : int or None
        The effort, where the compression has one.
    quality : int or None
        Of JPEG and WebP, 1 to 100; 100 is lossless for WebP.
    max_z_error : float or None
        Of LERC, how far a decoded value may be off (floats: and half a unit in the last place).
    predictor : int
        The TIFF predictor: 1 none, 2 horizontal differencing, 3 floating point.
    dtype : str
        NumPy name of one sample, as ``uint8``.
    samples : int
        Samples of one pixel in one block: all bands where they are interleaved by pixel, else 1.
    block : int
        Width and height of a block in pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    compression: Compression
    level: int | None = None
    quality: int | None = None
    max_z_error: float | None = None
    predictor: Predictor = 1
    dtype: str
    samples: int = Field(default=1, ge=1)
    block: int = Field(default=512, ge=16, multiple_of=16)

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str) -> str:
        np.dtype(value)
        return value

    @property
    def tag(self) -> int:
        """Return the number of the compression in TIFF's tag 259."""
        return _TIFF_TAG[self.compression]

    @property
    def nbytes(self) -> int:
        """Return the size of one decoded block in bytes."""
        return self.block * self.block * self.samples * self._stored.itemsize

    @property
    def scratch(self) -> int:
        """Return what encoding one block holds, in bytes, beside the block and its copies."""
        return self.block * self.block * ENCODING_SCRATCH.get(self.compression, 0)

    @property
    def lossy(self) -> bool:
        """Return whether pixels come back changed, so that no value can mark invalid ones."""
        return is_lossy(self.compression, self.dtype, self.quality, self.max_z_error)

    @property
    def keeps_bits(self) -> bool:
        """Return whether what is decoded is what was encoded, bit by bit; LERC has but one NaN."""
        return not self.lossy and (self.max_z_error is None or np.dtype(self.dtype).kind != "f")

    @property
    def exact(self) -> BlockCodec:
        """Return the codec of the same blocks where they must come back the same, for a while."""
        return BlockCodec(
            compression="zstd", level=1, dtype=self.dtype, samples=self.samples, block=self.block
        )

    @property
    def jpeg_tables(self) -> bytes | None:
        """Return the tables that all blocks share, as TIFF's tag 347; None but for JPEG."""
        if self.compression != "jpeg" or self.quality is None:
            return None
        return jpeg_tables(self.quality, self.samples)

    @property
    def _stored(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")

    def encode(self, block: Array) -> bytes:
        """Return the bytes of one block.

        Parameters
        ----------
        block : ndarray
            Shape ``(row, col, sample)``, or ``(row, col)`` where a block holds one sample a pixel.

        Returns
        -------
        bytes
            As they stand in the file.

        Raises
        ------
        ValueError
            When the shape is not that of a whole block, or the dtype is another one.
        """
        shape = (self.block, self.block, self.samples)
        if block.dtype != np.dtype(self.dtype):
            raise ValueError(f"a block of {block.dtype} for a codec of {self.dtype}")
        if block.size != self.block * self.block * self.samples or block.shape[:2] != shape[:2]:
            raise ValueError(f"a block of shape {block.shape} where {shape} is due")
        data = np.ascontiguousarray(block.reshape(shape), dtype=self._stored)
        if self.compression == "jpeg" and self.quality is not None:
            return encode_jpeg(data, self.quality)
        if self.compression == "webp" and self.quality is not None:
            return encode_webp(data, self.quality)
        if self.max_z_error is not None:
            around = _PACKERS[_AROUND_LERC[self.compression]]
            return around.encode(encode_lerc(data, self.max_z_error), self.level)
        if self.predictor == 2:
            data = imagecodecs.delta_encode(data, axis=1)
        elif self.predictor == 3:
            data = imagecodecs.floatpred_encode(data, axis=1)
        return _PACKERS[self.compression].encode(data.tobytes(), self.level)

    def decode(self, data: bytes) -> Array:
        """Return the pixels of one block, shape ``(row, col, sample)``.

        Parameters
        ----------
        data : bytes
            What `encode` gave.

        Returns
        -------
        ndarray
            Of the codec's dtype; it may be read-only.

        Raises
        ------
        ValueError
            When the bytes are damaged, cut off or too many.
        """
        shape = (self.block, self.block, self.samples)
        try:
            if self.quality is not None or self.max_z_error is not None:
                return self._decode_image(data).reshape(shape)
            unpacked = _PACKERS[self.compression].decode(data, self.nbytes)
        except DECODE_ERRORS as error:
            raise ValueError(f"not {self.compression}: {error}") from error
        if len(unpacked) != self.nbytes:
            raise ValueError(f"{len(unpacked)} bytes decoded where {self.nbytes} are due")
        pixels = np.frombuffer(unpacked, self._stored).reshape(shape)
        if self.predictor == 2:
            pixels = imagecodecs.delta_decode(pixels, axis=1)
        elif self.predictor == 3:
            pixels = imagecodecs.floatpred_decode(pixels, axis=1)
        return pixels.astype(self.dtype, copy=False)

    def _decode_image(self, data: bytes) -> Array:
        if self.compression == "jpeg" and self.quality is not None:
            return decode_jpeg(data, self.quality, self.samples)
        if self.compression == "webp":
            return decode_webp(data, self.samples)
        around = _PACKERS[_AROUND_LERC[self.compression]]
        pixels = decode_lerc(around.decode(data, most_lerc_bytes(self.nbytes)))
        return pixels.astype(self.dtype, copy=False)


def encode_mask(valid: BoolMask) -> bytes:
    """Return one block of an internal mask: a bit a pixel, the first in the highest, deflate.

    Parameters
    ----------
    valid : ndarray of bool
        Shape ``(row, col)``; True is a valid pixel. Rows fill whole bytes in the file.

    Returns
    -------
    bytes
        As they stand in the file.
    """
    return _deflate(np.packbits(valid.astype(bool, copy=False), axis=1).tobytes(), _MASK_LEVEL)


def decode_mask(data: bytes, block: int) -> BoolMask:
    """Return the valid pixels of a mask block, shape ``(row, col)``.

    Parameters
    ----------
    data : bytes
        What `encode_mask` gave.
    block : int
        Width and height of the block in pixels.

    Returns
    -------
    ndarray of bool
        True is a valid pixel.

    Raises
    ------
    ValueError
        When the bytes are damaged, cut off or too many.
    """
    stride = ceil_div(block, 8)
    try:
        unpacked = _inflate(data, block * stride)
    except DECODE_ERRORS as error:
        raise ValueError(f"not deflate: {error}") from error
    if len(unpacked) != block * stride:
        raise ValueError(f"{len(unpacked)} bytes decoded where {block * stride} are due")
    bits = np.frombuffer(unpacked, np.uint8).reshape(block, stride)
    return np.unpackbits(bits, axis=1, count=block).astype(bool)
