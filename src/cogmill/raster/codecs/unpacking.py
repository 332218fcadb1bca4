"""The compressions of TIFF that can be undone piece by piece, in a bounded amount of memory.

An unpacker takes an iterator over the encoded bytes of one strip and yields the decoded ones.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import imagecodecs
import numpy as np
import numpy.typing as npt

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, Ints

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Unpacker = Callable[[Iterable[bytes]], Iterator[bytes]]

#: Decoded bytes that are made at a time, whatever the encoded ones say: a bomb grows no more.
PORTION: Final = 1 << 22

_CLEAR, _END = 256, 257
_FIRST_WIDTH: Final = 9
#: How a strip begins: the highest eight of the nine bits of a clear code.
_CLEAR_FIRST: Final = b"\x80"
#: The widths of LZW codes after a clear code, by how many have that width. TIFF widens one code
#: early (TIFF 6.0, section 13): 254 codes of 9 bits, 512 of 10, 1024 of 11; then 12 until a clear
#: code, which is due before the table of 4096 is full.
_WIDTHS: Final = np.repeat(np.array([9, 10, 11, 12]), [254, 512, 1024, 2304])
_STARTS: Final = np.cumsum(_WIDTHS) - _WIDTHS
#: Encoded bytes that the codes between two clear codes may take, and what a code reads beyond.
_SEGMENT_BYTES: Final = int(_STARTS[-1] + 12) // 8 + 4


class DamagedStream(ValueError):
    """Encoded bytes that no encoder writes; what is said is for the message."""


def _stored(parts: Iterable[bytes]) -> Iterator[bytes]:
    yield from parts


def _inflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    try:
        for part in parts:
            yield unpacker.decompress(part, PORTION)
            while rest := unpacker.unconsumed_tail:
                yield unpacker.decompress(rest, PORTION)
        yield unpacker.flush()
    except zlib.error as error:
        raise DamagedStream(str(error)) from error


def _zstd(parts: Iterable[bytes]) -> Iterator[bytes]:
    unpacker = zstd.ZstdDecompressor()
    try:
        for part in parts:
            yield unpacker.decompress(part, PORTION)
            while not (unpacker.eof or unpacker.needs_input):
                yield unpacker.decompress(b"", PORTION)
            if unpacker.eof:
                return
    except zstd.ZstdError as error:
        raise DamagedStream(str(error)) from error


def _packbits(parts: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for part in parts:
        held += part
        end = _whole_runs(held)
        if end:
            yield bytes(imagecodecs.packbits_decode(held[:end]))
            held = held[end:]


def _whole_runs(data: bytes) -> int:
    """Return where the last run ends that is there in full (TIFF 6.0, section 9)."""
    at = 0
    while at < len(data):
        head = data[at]
        length = head + 2 if head < 128 else 1 if head == 128 else 2
        if at + length > len(data):
            break
        at += length
    return at


def _lzw(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the codes at clear codes, where a decoder forgets everything, and decode what is whole.

    Where codes lie depends on nothing but how many came since the last clear code, so that the
    next one is found without decoding.
    """
    held = b""
    begin = _FIRST_WIDTH  # the bit of `held` behind a clear code
    for part in parts:
        if not held and part[:1] != _CLEAR_FIRST:
            raise DamagedStream("LZW that does not begin with a clear code")
        held += part
        at, stop = begin, begin
        while (found := _next_clear(held, at)) is not None:
            stop, width, ended = found
            at = stop + width
            if ended:
                yield _decoded_codes(held, begin, at)
                return
        if stop > begin:
            yield _decoded_codes(held, begin, at)
            # The nine bits before the next run stay, for a clear code to be put there.
            gone = (at - _FIRST_WIDTH) // 8
            held, begin = held[gone:], at - 8 * gone
        elif len(held) > 2 * _SEGMENT_BYTES:
            raise DamagedStream(f"LZW with no clear code in {_SEGMENT_BYTES} bytes")
    if 8 * len(held) > begin:
        # An encoder may leave its end code out.
        yield _decoded_codes(held, begin, 8 * len(held), whole=False)


def _next_clear(data: bytes, start: int) -> tuple[int, int, bool] | None:
    """Return bit and width of the code that ends a run, and whether it ends the strip.

    None where it may lie beyond `data`.
    """
    first = start // 8
    window = np.frombuffer(data[first : first + _SEGMENT_BYTES + 4], np.uint8)
    bits = _STARTS + start % 8
    known = int(np.searchsorted(bits + _WIDTHS, 8 * (len(window) - 2), side="right"))
    bits, widths = bits[:known], _WIDTHS[:known]
    codes = _codes(window, bits, widths)
    ends = np.flatnonzero((codes == _CLEAR) | (codes == _END))
    if not len(ends):
        return None
    place = int(ends[0])
    return 8 * first + int(bits[place]), int(widths[place]), codes[place] == _END


def _codes(data: npt.NDArray[np.uint8], bits: Array, widths: Array) -> Ints:
    """Return the numbers of `widths` bits that begin at `bits`, the highest bit first."""
    at = bits >> 3
    wide = data.astype(np.int64)
    three = (wide[at] << 16) | (wide[at + 1] << 8) | wide[at + 2]
    found: Ints = (three >> (24 - (bits & 7) - widths)) & ((1 << widths) - 1)
    return found


def _decoded_codes(data: bytes, start: int, stop: int, *, whole: bool = True) -> bytes:
    """Return what the codes between two bits stand for; a clear code came before them.

    `whole`: the last of them is a clear or an end code, and is read as an end code.
    """
    first = start - _FIRST_WIDTH
    taken = np.frombuffer(data[first // 8 : ceil_div(stop, 8)], np.uint8)
    following = np.append(taken[1:], np.uint8(0))
    shift = first % 8
    if shift:
        taken = np.bitwise_or(taken << shift, following >> (8 - shift), dtype=np.uint8)
    # It had the width of the codes before it, and a decoder begins with nine bits.
    codes = bytearray(taken.tobytes())
    codes[:2] = bytes((_CLEAR_FIRST[0], codes[1] & 0x7F))
    if whole:
        last = stop - first - 1
        codes[last // 8] |= 0x80 >> last % 8
    return bytes(imagecodecs.lzw_decode(bytes(codes)))


#: By the names of `block_table.COMPRESSIONS`.
UNPACKERS: Final[Mapping[str, Unpacker]] = MappingProxyType(
    {
        "none": _stored,
        "deflate": _inflated,
        "zstd": _zstd,
        "packbits": _packbits,
        "lzw": _lzw,
    }
)
