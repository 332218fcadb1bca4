"""How large an image a block of JPEG, WebP or LERC says that it is, before anybody decodes it.

Such a stream has a header of its own, and its decoder believes that header, not the TIFF: some
hundred bytes may ask for a gigabyte. Only what decides the size is read here.

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
class Claim:
    """What a stream says of itself, or what a block may be at most.

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


def demand_within(compression: str, data: bytes, most: Claim) -> None:
    """Refuse a block whose stream says that it is larger than the TIFF's blocks are.

    Parameters
    ----------
    compression : str
        ``jpeg``, ``webp`` or ``lerc``.
    data : bytes
        The stream; of LERC what was packed once more is unpacked.
    most : Claim
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


def _jpeg(data: bytes) -> Claim:
    at = 0
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _FRAMES:
            bits, rows, cols, samples = struct.unpack_from(">BHHB", data, at + 2)
            return Claim(rows, cols, samples, -(-bits // 8))
        if marker in (_SCAN, _END):
            break
        if marker not in _BARE:
            at += struct.unpack_from(">H", data, at)[0]
    raise ValueError("no frame header comes before its pixels")


def _webp(data: bytes) -> Claim:
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
    return Claim(rows, cols, 3, 1)


def _lerc(data: bytes) -> Claim:
    if data.startswith(_LERC1):
        rows, cols = struct.unpack_from("<II", data, len(_LERC1) + 8)
        return Claim(rows, cols, data.count(_LERC1), 4)
    first: Claim | None = None
    at = bands = 0
    while data[at : at + len(_LERC2)] == _LERC2:
        claim, length = _lerc2(data, at + len(_LERC2))
        first = first or claim
        bands += 1
        at += max(length, 1)
    if first is None:
        raise ValueError("it is no LERC")
    return Claim(first.rows, first.cols, first.samples * bands, first.itemsize)


def _lerc2(data: bytes, at: int) -> tuple[Claim, int]:
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
    return Claim(rows, cols, samples, _LERC_SIZES[kind]), length


_READERS: Final[Mapping[str, Callable[[bytes], Claim]]] = MappingProxyType(
    {"jpeg": _jpeg, "webp": _webp, "lerc": _lerc}
)
