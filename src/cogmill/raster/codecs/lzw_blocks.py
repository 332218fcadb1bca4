"""LZW as libtiff writes it, so that every reader of TIFF has room for the table of codes.

imagecodecs' own encoder clears the table after 3838 codes, which the specification allows; libtiff
clears it after 3836, and some readers hold no more than that.
"""

from __future__ import annotations

import struct
from typing import Final

import imagecodecs
import numpy as np

_LZW: Final = 5
_OFFSETS, _BYTE_COUNTS = 273, 279
_ENTRY: Final = struct.Struct("<HHII")
#: TIFF's numbers of 16 bits; where one is alone it lies in the first bytes of its field.
_SHORT: Final = 3


def encode_lzw(data: bytes) -> bytes:
    """Return bytes as one strip of LZW.

    Parameters
    ----------
    data : bytes
        At least one.

    Returns
    -------
    bytes
        From a clear code to an end code, with no more than 3836 codes between two clear codes.
    """
    row = np.frombuffer(data, np.uint8).reshape(1, -1)
    file = memoryview(
        imagecodecs.tiff_encode(
            row,
            compression=_LZW,
            photometric="minisblack",
            rowsperstrip=1,
            bigtiff=False,
            byteorder="<",
        )
    )
    start, size = _only_strip(file)
    return bytes(file[start : start + size])


def _only_strip(file: memoryview) -> tuple[int, int]:
    """Return where the strip of a little-endian classic TIFF begins, and how many bytes it has."""
    (directory,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, directory)
    found: dict[int, int] = {}
    for number in range(count):
        tag, kind, _, value = _ENTRY.unpack_from(file, directory + 2 + number * _ENTRY.size)
        found[tag] = value & 0xFFFF if kind == _SHORT else value
    return found[_OFFSETS], found[_BYTE_COUNTS]
