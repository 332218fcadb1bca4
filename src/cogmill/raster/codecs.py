"""One block of pixels to bytes and back, as TIFF readers expect them.

A codec is a value: it travels in a plan as JSON, and the same codec gives the same bytes in every
process of one engine. Deflate is libdeflate's (zlib container), the only one used for writing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cogmill.errors import Refused

Compression = Literal["raw", "deflate", "lzw", "zstd"]
Predictor = Literal[1, 2, 3]
Array = npt.NDArray[Any]

#: What readers may get from a damaged block; imagecodecs has an error class for each codec.
DECODE_ERRORS: Final = (ValueError, RuntimeError, IndexError, TypeError)

_TIFF_TAG: Final[Mapping[str, int]] = MappingProxyType(
    {"raw": 1, "lzw": 5, "deflate": 8, "zstd": 50000}
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
            encode=lambda data, level: bytes(imagecodecs.lzw_encode(data)),
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
        ``raw``, ``deflate``, ``lzw`` or ``zstd``.
    level : int or None
        The effort, where the compression has one.
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


def encode_mask(valid: npt.NDArray[np.bool_]) -> bytes:
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


def decode_mask(data: bytes, block: int) -> npt.NDArray[np.bool_]:
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
    stride = (block + 7) // 8
    try:
        unpacked = _inflate(data, block * stride)
    except DECODE_ERRORS as error:
        raise ValueError(f"not deflate: {error}") from error
    if len(unpacked) != block * stride:
        raise ValueError(f"{len(unpacked)} bytes decoded where {block * stride} are due")
    bits = np.frombuffer(unpacked, np.uint8).reshape(block, stride)
    return np.unpackbits(bits, axis=1, count=block).astype(bool)


class Profile(BaseModel):
    """What a profile's name stands for, before anything is known of the pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compression: Compression
    level: int | None = None
    predicts: bool = True


#: The profiles that ``--profile`` may name; the levels are GDAL's own defaults.
PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "deflate": Profile(compression="deflate", level=6),
        "lzw": Profile(compression="lzw"),
        "zstd": Profile(compression="zstd", level=9),
        "raw": Profile(compression="raw", predicts=False),
    }
)


class CodecOptions(BaseModel):
    """What a user may change of a profile: ``--co LEVEL=9``, ``--co PREDICTOR=1``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: int | None = None
    predictor: Predictor | None = None


class Samples(BaseModel):
    """What a codec must know of the pixels that it is for.

    Attributes
    ----------
    dtype : str
        NumPy name of one sample.
    per_block : int
        Samples of one pixel in one block.
    classes : bool
        True for palettes, one bit and category names, where differences mean nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str
    per_block: int = 1
    classes: bool = False


def profile(
    name: str, samples: Samples, block: int = 512, options: CodecOptions | None = None
) -> BlockCodec:
    """Return the codec that a profile stands for, for these pixels.

    Parameters
    ----------
    name : str
        A key of `PROFILES`.
    samples : Samples
        The pixels.
    block : int
        Width and height of a block in pixels, a multiple of 16.
    options : CodecOptions, optional
        What the user wants otherwise.

    Returns
    -------
    BlockCodec
        With predictor 2 for integers, 3 for floats, none for classes and complex numbers.

    Raises
    ------
    Refused
        For an unknown profile, block size, level or predictor, naming those that are known.
    """
    chosen = options or CodecOptions()
    found = PROFILES.get(name)
    if found is None:
        raise Refused(
            f"there is no profile {name!r}", f"choose one of {', '.join(sorted(PROFILES))}"
        )
    if block < 16 or block % 16:
        raise Refused(f"a block size of {block} pixels", "choose a multiple of 16, as 256 or 512")
    return BlockCodec(
        compression=found.compression,
        level=_level(name, found, chosen.level),
        predictor=_predictor(name, found, samples, chosen.predictor),
        dtype=samples.dtype,
        samples=samples.per_block,
        block=block,
    )


def _level(name: str, found: Profile, asked: int | None) -> int | None:
    if asked is None:
        return found.level
    levels = _PACKERS[found.compression].levels
    if levels is None:
        raise Refused(f"profile {name} has no level", "leave LEVEL out")
    low, high = levels
    if not low <= asked <= high:
        raise Refused(f"profile {name} has no level {asked}", f"choose {low} to {high}")
    return asked


def _predictor(name: str, found: Profile, samples: Samples, asked: Predictor | None) -> Predictor:
    kind = np.dtype(samples.dtype).kind
    natural: Predictor = 2 if kind in "iu" else 3 if kind == "f" else 1
    if asked is None:
        return natural if found.predicts and not samples.classes else 1
    if asked == 1:
        return 1
    if not found.predicts:
        raise Refused(f"profile {name} has no predictor", "leave PREDICTOR out")
    if asked != natural:
        remedy = f"choose {natural}" if natural == 1 else f"choose 1 or {natural}"
        raise Refused(f"predictor {asked} does not fit {samples.dtype} pixels", remedy)
    return asked
