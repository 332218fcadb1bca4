"""Blocks that are images of their own: JPEG, WebP and LERC, decoded as GDAL shows them.

Such a stream has a header of its own, and its decoder believes that header, not the TIFF: some
hundred bytes may ask for a gigabyte. So what the header claims is read first, and a block that
claims to be larger than the TIFF's blocks are is refused before it is decoded.

How each is decoded:

- JPEG: libtiff converts colours where the photometric tag says YCbCr, and nowhere else; tifffile
  leaves that to what libjpeg makes of the stream.
- WebP: an opaque alpha band is left out of the stream.
- LERC: libtiff has its mask mean NaN in floats, and the alpha band where alpha is the last of 8-bit
  samples that lie together and the stream has one sample less; tifffile drops the mask.

Where each claims its size:

- JPEG: the first frame header (ITU-T T.81, B.2.2), found as libjpeg finds it.
- WebP: the first chunk of the RIFF container (RFC 9649, section 2; VP8 frame: RFC 6386, 9.1).
- LERC: the header of each blob of LERC2, whose blobs follow each other, one a band; of the older
  LERC1, whose blobs do not say where they end, as many as their beginnings could be.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import imagecodecs
import numpy as np
import tifffile

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array
from cogmill.raster.codecs.image_codecs import most_lerc_bytes

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
        return lambda data: demand_claim_within("lerc", unpack(data), most)
    name = {_JPEG: "jpeg", _WEBP: "webp"}.get(compression)
    if name is None:
        return lambda data: None
    return lambda data: demand_claim_within(name, data, most)


def _most(page: tifffile.TiffPage) -> SizeClaim:
    """Return how large a block is at most: a tile, or a strip of all its rows."""
    samples = 1 if int(page.planarconfig) == _SEPARATE else page.samplesperpixel
    rows, cols = min(page.rowsperstrip, page.imagelength), page.imagewidth
    if page.is_tiled:
        rows, cols = page.tilelength, page.tilewidth
    return SizeClaim(rows, cols, samples, np.dtype(page.dtype).itemsize)


def _jpeg(page: tifffile.TiffPage, most: SizeClaim) -> BlockDecoder:
    tables, bits, samples = page.jpegtables, page.bitspersample, most.samples
    stored = out = _AS_THEY_ARE.get(samples, "unknown")
    if int(page.photometric) == _YCBCR and samples == 3:
        stored = "ycbcr"

    def decode(data: bytes) -> Array:
        demand_claim_within("jpeg", data, most)
        pixels: Array = imagecodecs.jpeg_decode(
            data, bitspersample=bits, tables=tables, colorspace=stored, outcolorspace=out
        )
        return pixels.reshape(*pixels.shape[:2], samples)

    return decode


def _webp(most: SizeClaim) -> BlockDecoder:
    def decode(data: bytes) -> Array:
        demand_claim_within("webp", data, most)
        pixels: Array = imagecodecs.webp_decode(data, hasalpha=most.samples == 4 or None)
        return pixels

    return decode


def _unpacker(page: tifffile.TiffPage, most: SizeClaim) -> Callable[[bytes], bytes]:
    """Return what undoes the packing of LERC's bytes, as far as they can be LERC."""
    _, packed = page.tags.valueof(_LERC_PARAMETERS, (0, 0))
    unpack = _UNPACK.get(packed)
    if unpack is None:
        raise ValueError(f"LERC packed by method {packed}")
    return lambda data: unpack(data, most_lerc_bytes(most.nbytes))


def _lerc(unpack: Callable[[bytes], bytes], most: SizeClaim) -> BlockDecoder:
    samples = most.samples

    def decode(data: bytes) -> Array:
        stream = unpack(data)
        demand_claim_within("lerc", stream, most)
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


#: Markers of frames: all of 0xC0 to 0xCF but tables (C4), what is reserved (C8), arithmetic (CC).
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers with nothing behind them: stuffing, TEM, restarts, the start of the image.
_BARE: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_SCAN, _END = 0xDA, 0xD9
_LERC1, _LERC2 = b"CntZImage ", b"Lerc2 "
#: Bytes of one value, by LERC2's number of its type.
_LERC_SIZES: Final = (1, 1, 2, 2, 4, 4, 4, 8)
#: From which version of LERC2 on a header has a checksum, and samples that lie together.
_WITH_CHECKSUM, _WITH_SAMPLES = 3, 4


@dataclass(frozen=True, slots=True)
class SizeClaim:
    """The size that a stream claims to have, or the most that a block may have.

    Attributes
    ----------
    rows, cols : int
        In pixels.
    samples : int
        Of a pixel, bands that follow each other included.
    itemsize : int
        Bytes of a sample.
    """

    rows: int
    cols: int
    samples: int
    itemsize: int

    @property
    def nbytes(self) -> int:
        """Return the decoded bytes."""
        return self.rows * self.cols * self.samples * self.itemsize


def demand_claim_within(compression: str, data: bytes, most: SizeClaim) -> None:
    """Refuse a block whose stream says that it is larger than the TIFF's blocks are.

    Parameters
    ----------
    compression : str
        ``jpeg``, ``webp`` or ``lerc``.
    data : bytes
        The stream; of LERC what was packed once more is unpacked.
    most : SizeClaim
        What a block of the TIFF is.

    Raises
    ------
    ValueError
        When it is larger, or does not say how large it is.
    """
    try:
        found = _READERS[compression](data)
    except (struct.error, IndexError) as error:
        raise ValueError("it is cut off in its header") from error
    if found.rows > most.rows or found.cols > most.cols or found.nbytes > most.nbytes:
        raise ValueError(
            f"it says that it is {found.cols} x {found.rows} pixels of {found.samples} samples, "
            f"and a block here has {most.cols} x {most.rows} of {most.samples}"
        )


def _jpeg_claim(data: bytes) -> SizeClaim:
    at = 0
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _FRAMES:
            bits, rows, cols, samples = struct.unpack_from(">BHHB", data, at + 2)
            return SizeClaim(rows, cols, samples, ceil_div(bits, 8))
        if marker in (_SCAN, _END):
            break
        if marker not in _BARE:
            at += struct.unpack_from(">H", data, at)[0]
    raise ValueError("no frame header comes before its pixels")


def _webp_claim(data: bytes) -> SizeClaim:
    kind = data[12:16]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("it is no WebP")
    if kind == b"VP8X":
        cols, rows = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (sizes,) = struct.unpack_from("<I", data, 21)
        cols, rows = (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        cols, rows = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
    else:
        raise ValueError("it is no WebP of one image")
    # Alpha or not: as many samples come out as are asked for, but never fewer than colours.
    return SizeClaim(rows, cols, 3, 1)


def _lerc_claim(data: bytes) -> SizeClaim:
    if data.startswith(_LERC1):
        rows, cols = struct.unpack_from("<II", data, len(_LERC1) + 8)
        return SizeClaim(rows, cols, data.count(_LERC1), 4)
    first: SizeClaim | None = None
    at = bands = 0
    while data[at : at + len(_LERC2)] == _LERC2:
        claim, length = _lerc2_claim(data, at + len(_LERC2))
        first = first or claim
        bands += 1
        at += max(length, 1)
    if first is None:
        raise ValueError("it is no LERC")
    return SizeClaim(first.rows, first.cols, first.samples * bands, first.itemsize)


def _lerc2_claim(data: bytes, at: int) -> tuple[SizeClaim, int]:
    """Return what one blob says, and its length in bytes."""
    (version,) = struct.unpack_from("<I", data, at)
    at += 8 if version >= _WITH_CHECKSUM else 4
    rows, cols = struct.unpack_from("<II", data, at)
    samples = 1
    at += 8
    if version >= _WITH_SAMPLES:
        (samples,) = struct.unpack_from("<I", data, at)
        at += 4
    length, kind = struct.unpack_from("<II", data, at + 8)
    if kind >= len(_LERC_SIZES):
        raise ValueError(f"its type is LERC's number {kind}, which there is not")
    return SizeClaim(rows, cols, samples, _LERC_SIZES[kind]), length


_READERS: Final[Mapping[str, Callable[[bytes], SizeClaim]]] = MappingProxyType(
    {"jpeg": _jpeg_claim, "webp": _webp_claim, "lerc": _lerc_claim}
)
