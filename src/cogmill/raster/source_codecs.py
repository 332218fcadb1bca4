"""Blocks that are images of their own: JPEG, WebP and LERC, decoded as GDAL shows them.

A module of its own beside `source`, which knows where blocks lie and not what is in them. None is
decoded before its own header has said that it is no larger than a block is (`stream_claims`).

- JPEG: libtiff converts colours where the photometric tag says YCbCr, and nowhere else; tifffile
  leaves that to what libjpeg makes of the stream.
- WebP: an opaque alpha band is left out of the stream.
- LERC: libtiff has its mask mean NaN in floats, and the alpha band where alpha is the last of 8-bit
  samples that lie together and the stream has one sample less; tifffile drops the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from cogmill.raster.image_codecs import most_lerc_bytes
from cogmill.raster.stream_claims import Claim, demand_within

Array = npt.NDArray[Any]
#: Bytes of a block to its pixels, shape ``(row, col, sample)``.
BlockDecoder = Callable[[bytes], Array]

_JPEG, _WEBP, _LERC, _LERC_PARAMETERS = 7, 50001, 34887, 50674
_YCBCR, _SEPARATE = 6, 2
#: How libjpeg calls samples that it must leave as they are, by their number.
_AS_THEY_ARE: Final = {1: "grayscale", 3: "rgb", 4: "cmyk"}
#: The second of LERC's parameters: what packs its bytes once more.
_UNPACK: Final[dict[int, Callable[[bytes, int], bytes]]] = {
    0: lambda data, most: data,
    1: lambda data, most: bytes(imagecodecs.deflate_decode(data, out=most)),
    2: lambda data, most: bytes(imagecodecs.zstd_decode(data, out=most)),
}


def own_decoder(page: tifffile.TiffPage) -> BlockDecoder | None:
    """Return the decoder of an image's blocks, None where tifffile's own is GDAL's equal.

    Parameters
    ----------
    page : TiffPage
        The image, with all of its tags.

    Raises
    ------
    ValueError
        When LERC's bytes are packed in a way that is not known.
    """
    most = _most(page)
    compression = int(page.compression)
    if compression == _JPEG:
        return _jpeg(page, most)
    if compression == _WEBP:
        return _webp(most)
    if compression == _LERC:
        return _lerc(_unpacker(page, most), most)
    return None


def claim_check(page: tifffile.TiffPage) -> Callable[[bytes], None]:
    """Return what raises a ValueError for a block that says that it is too large.

    Parameters
    ----------
    page : TiffPage
        The image; of one whose blocks are no images of their own nothing is checked.

    Raises
    ------
    ValueError
        When LERC's bytes are packed in a way that is not known.
    """
    most = _most(page)
    compression = int(page.compression)
    if compression == _LERC:
        unpack = _unpacker(page, most)
        return lambda data: demand_within("lerc", unpack(data), most)
    name = {_JPEG: "jpeg", _WEBP: "webp"}.get(compression)
    if name is None:
        return lambda data: None
    return lambda data: demand_within(name, data, most)


def _most(page: tifffile.TiffPage) -> Claim:
    """Return how large a block is at most: a tile, or a strip of all its rows."""
    samples = 1 if int(page.planarconfig) == _SEPARATE else page.samplesperpixel
    rows, cols = min(page.rowsperstrip, page.imagelength), page.imagewidth
    if page.is_tiled:
        rows, cols = page.tilelength, page.tilewidth
    return Claim(rows, cols, samples, np.dtype(page.dtype).itemsize)


def _jpeg(page: tifffile.TiffPage, most: Claim) -> BlockDecoder:
    tables, bits, samples = page.jpegtables, page.bitspersample, most.samples
    stored = out = _AS_THEY_ARE.get(samples, "unknown")
    if int(page.photometric) == _YCBCR and samples == 3:
        stored = "ycbcr"

    def decode(data: bytes) -> Array:
        demand_within("jpeg", data, most)
        pixels: Array = imagecodecs.jpeg_decode(
            data, bitspersample=bits, tables=tables, colorspace=stored, outcolorspace=out
        )
        return pixels.reshape(*pixels.shape[:2], samples)

    return decode


def _webp(most: Claim) -> BlockDecoder:
    def decode(data: bytes) -> Array:
        demand_within("webp", data, most)
        pixels: Array = imagecodecs.webp_decode(data, hasalpha=most.samples == 4 or None)
        return pixels

    return decode


def _unpacker(page: tifffile.TiffPage, most: Claim) -> Callable[[bytes], bytes]:
    """Return what undoes the packing of LERC's bytes, as far as they can be LERC."""
    _, packed = page.tags.valueof(_LERC_PARAMETERS, (0, 0))
    unpack = _UNPACK.get(packed)
    if unpack is None:
        raise ValueError(f"LERC packed by method {packed}")
    return lambda data: unpack(data, most_lerc_bytes(most.nbytes))


def _lerc(unpack: Callable[[bytes], bytes], most: Claim) -> BlockDecoder:
    samples = most.samples

    def decode(data: bytes) -> Array:
        stream = unpack(data)
        demand_within("lerc", stream, most)
        # The stub knows no stream without a mask.
        found: tuple[Array, Array | None] = imagecodecs.lerc_decode(stream, masks=True)
        values, mask = (None if each is None else _samples_last(each) for each in found)
        if values is None:
            raise ValueError("nothing in it")
        valid = np.ones((1, 1, 1), bool) if mask is None else mask.astype(bool)
        if values.shape[2] == samples - 1:
            alpha = np.where(valid, np.uint8(255), np.uint8(0))
            return np.dstack([values, np.broadcast_to(alpha, (*values.shape[:2], 1))])
        if values.dtype.kind == "f" and not valid.all():
            values = np.where(valid, values, values.dtype.type(np.nan))
        return values

    def _samples_last(array: Array) -> Array:
        """Bands that were encoded one by one, each with its mask, come band first."""
        if array.ndim == 2:
            return array[:, :, None]
        return array if array.shape[2] in (samples, samples - 1) else np.moveaxis(array, 0, 2)

    return decode
