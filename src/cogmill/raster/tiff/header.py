"""A TIFF's header: read once over ranged reads, recorded, and rebuilt anywhere without any I/O."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from cogmill.errors import StorageUnavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK: Final = 1 << 16
_RANGE: Final = struct.Struct("<QQ")


class ByteSource(Protocol):
    """One object of any store, as far as pixels are concerned."""

    @property
    def name(self) -> str:
        """Return what messages call it."""

    @property
    def size(self) -> int:
        """Return its size in bytes."""

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each ``(offset, length)``; a short read is an error."""


def read_exactly(data: ByteSource, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the bytes of each ``(offset, length)``, every one of them.

    Raises
    ------
    StorageUnavailable
        When the store answers with fewer or more.
    """
    parts = data.read_ranges(ranges)
    for (offset, length), part in zip(ranges, parts, strict=True):
        if len(part) != length:
            raise StorageUnavailable(
                f"{data.name} gave {len(part)} bytes where {length} were asked for at {offset}",
                "check that the store is reachable and that nobody is writing the file",
            )
    return parts


class _File(io.RawIOBase):
    """The part of a file object that does not depend on where its bytes come from."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        # Python would make room for all that is asked for, and a damaged header asks for terabytes.
        left = max(0, self._size - self._at)
        return super().read(left if size < 0 else min(size, left)) or b""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._size - self._at))
        if length:
            view[:length] = self._bytes(self._at, length)
            self._at += length
        return length

    def _bytes(self, offset: int, length: int) -> bytes:
        raise NotImplementedError


class RecordingFile(_File):
    """A file object over a `ByteSource` that reads in chunks and remembers what was asked for.

    Parameters
    ----------
    data : ByteSource
        The object.
    """

    def __init__(self, data: ByteSource) -> None:
        super().__init__(data.size)
        self._data = data
        self._chunks: dict[int, bytes] = {}
        self._asked: list[tuple[int, int]] = []
        self._blank: list[tuple[int, int]] = []

    def _bytes(self, offset: int, length: int) -> bytes:
        self._asked.append((offset, offset + length))
        return self._peek(offset, length)

    def _peek(self, offset: int, length: int) -> bytes:
        first, last = offset // _CHUNK, (offset + length - 1) // _CHUNK
        missing = [index for index in range(first, last + 1) if index not in self._chunks]
        if missing:
            self._fetch(missing[0], missing[-1])
        whole = b"".join(self._chunks[index] for index in range(first, last + 1))
        start = offset - first * _CHUNK
        return whole[start : start + length]

    def _fetch(self, first: int, last: int) -> None:
        start = first * _CHUNK
        length = min((last + 1) * _CHUNK, self._size) - start
        (data,) = read_exactly(self._data, [(start, length)])
        for index in range(first, last + 1):
            at = index * _CHUNK - start
            self._chunks[index] = data[at : at + _CHUNK]

    def blank(self, offset: int, length: int) -> None:
        """Leave these bytes out of the record: they read as zeros when it is played back."""
        self._blank.append((offset, offset + length))

    def record(self) -> str:
        """Return all that was read so far as text, small enough to travel in a plan."""
        packed = bytearray()
        for start, stop in _merged(self._asked):
            data = bytearray(self._peek(start, stop - start))
            for low, high in self._blank:
                a, b = max(low, start), min(high, stop)
                if a < b:
                    data[a - start : b - start] = bytes(b - a)
            packed += _RANGE.pack(start, len(data)) + data
        return base64.b64encode(zlib.compress(packed)).decode()


class ReplayedFile(_File):
    """The file object that a record stands for; it knows the recorded bytes and no others.

    Parameters
    ----------
    record : str
        What `RecordingFile.record` gave.
    size : int
        The size of the whole file in bytes.
    """

    def __init__(self, record: str, size: int) -> None:
        super().__init__(size)
        packed = zlib.decompress(base64.b64decode(record))
        self._starts: list[int] = []
        self._parts: list[bytes] = []
        at = 0
        while at < len(packed):
            start, length = _RANGE.unpack_from(packed, at)
            at += _RANGE.size
            self._starts.append(start)
            self._parts.append(packed[at : at + length])
            at += length

    def _bytes(self, offset: int, length: int) -> bytes:
        index = bisect_right(self._starts, offset) - 1
        part = b"" if index < 0 else self._parts[index]
        start = offset - self._starts[index]
        if start + length > len(part):
            raise ValueError(f"bytes {offset} to {offset + length} are not in the record")
        return part[start : start + length]


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
