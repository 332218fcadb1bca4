"""Which blocks a window touches and how they are fetched; plans and readers count by it alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, Ints
from cogmill.raster.geometry.grid import Window
from cogmill.raster.tiff.block_table import BlockTable, ImageLayout
from cogmill.raster.tiff.header import ByteSource, read_exactly

#: Blocks no further apart than this are fetched in one request: cheaper than another round trip.
GAP_BYTES: Final = 1 << 15
#: A request ends with the block in which it passes this size.
REQUEST_BYTES: Final = 1 << 23
#: Encoded bytes held at a time; a single longer block is held whole.
BATCH_BYTES: Final = 1 << 25
#: Seconds for one ranged read, over what its bytes take.
REQUEST_SECONDS: Final = 0.02
#: Encoded bytes a second from a store.
FETCH_RATE: Final = 100e6
#: How many times what is wanted may be fetched: a strip is decoded whole for any part of it, a
#: block of a tiled source for its neighbour's halo, and gaps come along.
STRIPED_FETCHES: Final = 1.10
TILED_FETCHES: Final = 1.25


@dataclass(slots=True)
class ReadCounts:
    """What a reader did so far.

    Attributes
    ----------
    requests : int
        Ranges asked for.
    bytes_fetched : int
        Their length in bytes, gaps between blocks included.
    blocks_decoded : int
        Blocks of pixels.
    mask_blocks_decoded : int
        Blocks of the mask.
    whole_reads, windowed_reads : int
        Reads of blocks that were one download, and those that were several ranges.
    decodes : ndarray
        How often each block of pixels was decoded, by its index.
    """

    decodes: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    requests: int = 0
    bytes_fetched: int = 0
    blocks_decoded: int = 0
    mask_blocks_decoded: int = 0
    whole_reads: int = 0
    windowed_reads: int = 0

    def block(self, index: int) -> None:
        """Count one decoded block of pixels."""
        self.blocks_decoded += 1
        self.decodes[index] += 1


@dataclass(frozen=True, slots=True)
class BlockRequests:
    """Ranges of a file and the blocks that lie in them.

    Attributes
    ----------
    ranges : list of (int, int)
        Offset and length of each in bytes.
    members : list of ndarray
        The indices of the blocks of each, in the order of the file.
    """

    ranges: list[tuple[int, int]]
    members: list[Ints]

    @property
    def nbytes(self) -> int:
        """Return the length of all ranges in bytes."""
        return sum(length for _, length in self.ranges)

    @property
    def seconds(self) -> float:
        """Return what fetching them is expected to take."""
        return fetch_seconds(len(self.ranges), self.nbytes)

    @property
    def reads(self) -> tuple[int, int]:
        """Return 1 and 0 for one download of the whole span, 0 and 1 for several ranges."""
        return int(len(self.ranges) == 1), int(len(self.ranges) > 1)


def fetch_seconds(requests: int, nbytes: int) -> float:
    """Return the seconds that so many ranged reads of so many bytes in all are expected to take."""
    return requests * REQUEST_SECONDS + nbytes / FETCH_RATE


def most_fetched(layout: ImageLayout) -> float:
    """Return how many times the bytes that are wanted of an image may be fetched."""
    return STRIPED_FETCHES if layout.striped else TILED_FETCHES


def touched_blocks(layout: ImageLayout, window: Window, bands: Sequence[int] | None = None) -> Ints:
    """Return the indices of the blocks that a window touches.

    Parameters
    ----------
    layout : ImageLayout
        The image.
    window : Window
        Within the image.
    bands : sequence of int, optional
        Counted from 1; all of them by default. They matter where each band has its own blocks.

    Returns
    -------
    ndarray
        Ascending within a band.
    """
    rows = np.arange(
        window.row_off // layout.block_height,
        ceil_div(window.row_stop, layout.block_height),
        dtype=np.int64,
    )
    cols = np.arange(
        window.col_off // layout.block_width,
        ceil_div(window.col_stop, layout.block_width),
        dtype=np.int64,
    )
    one = (rows[:, None] * layout.blocks_across + cols).ravel()
    if layout.planes == 1:
        return one
    wanted = np.asarray(bands or range(1, layout.samples + 1), np.int64) - 1
    plane = layout.blocks_across * layout.blocks_down
    return np.asarray((wanted[:, None] * plane + one).ravel())


def block_requests(table: BlockTable, indices: Ints, most: float) -> BlockRequests:
    """Return the ranges that hold these blocks; those that were never written need none.

    Neighbours are merged; or all that lies between the first and the last block is one range,
    where that is expected to take no longer and may be held.

    Parameters
    ----------
    table : BlockTable
        Where the blocks are.
    indices : ndarray
        The blocks, each once.
    most : float
        How many times the blocks' bytes one range of all may have.

    Returns
    -------
    BlockRequests
        In the order of the file.
    """
    stored = indices[~table.sparse[indices]]
    if not len(stored):
        return BlockRequests(ranges=[], members=[])
    order = stored[np.argsort(table.offsets[stored], kind="stable")]
    starts = table.offsets[order]
    ends = starts + table.byte_counts[order]
    windows = _ranges(order, starts, ends, _firsts(starts, ends))
    whole = _ranges(order, starts, ends, np.zeros(1, np.int64))
    # Blocks may share their bytes, which are wanted once.
    behind = np.maximum.accumulate(np.concatenate((starts[:1], ends[:-1])))
    wanted = int(np.maximum(ends - np.maximum(starts, behind), 0).sum())
    if whole.nbytes <= min(BATCH_BYTES, most * wanted) and whole.seconds <= windows.seconds:
        return whole
    return windows


def _ranges(order: Ints, starts: Ints, ends: Ints, firsts: Ints) -> BlockRequests:
    """Return the ranges that begin with these blocks of an order."""
    lasts = np.maximum.reduceat(ends, firsts)
    ranges = list(zip(starts[firsts].tolist(), (lasts - starts[firsts]).tolist(), strict=True))
    return BlockRequests(ranges=ranges, members=np.split(order, firsts[1:]))


def _firsts(starts: Ints, ends: Ints) -> Ints:
    """Return where a new request begins: behind a gap, and where one has grown long enough."""
    apart = np.concatenate(([True], starts[1:] - np.maximum.accumulate(ends)[:-1] > GAP_BYTES))
    runs = np.flatnonzero(apart)
    lengths = np.diff(np.append(runs, len(starts)))
    portion = (starts - np.repeat(starts[runs], lengths)) // REQUEST_BYTES
    apart[1:] |= portion[1:] != portion[:-1]
    return np.flatnonzero(apart)


def fetch_blocks(
    data: ByteSource, table: BlockTable, indices: Ints, most: float, counts: ReadCounts
) -> Iterator[tuple[int, bytes]]:
    """Yield each stored block among `indices` with its encoded bytes, in the order of the file.

    Parameters
    ----------
    data : ByteSource
        The file.
    table : BlockTable
        Where its blocks are.
    indices : ndarray
        The blocks that are wanted.
    most : float
        As `block_requests` takes it.
    counts : ReadCounts
        Gets the requests and bytes.

    Yields
    ------
    tuple of (int, bytes)
        Index and encoded bytes. At most `BATCH_BYTES` and one request are held at a time.

    Raises
    ------
    StorageUnavailable
        When the store does not answer, or answers short.
    """
    todo = block_requests(table, indices, most)
    whole, windowed = todo.reads
    counts.whole_reads += whole
    counts.windowed_reads += windowed
    first = 0
    while first < len(todo.ranges):
        last, size = first, 0
        while last < len(todo.ranges) and (last == first or size < BATCH_BYTES):
            size += todo.ranges[last][1]
            last += 1
        yield from _batch(
            data, table, BlockRequests(todo.ranges[first:last], todo.members[first:last]), counts
        )
        first = last


def _batch(
    data: ByteSource, table: BlockTable, todo: BlockRequests, counts: ReadCounts
) -> Iterator[tuple[int, bytes]]:
    parts = read_exactly(data, todo.ranges)
    counts.requests += len(todo.ranges)
    counts.bytes_fetched += todo.nbytes
    for (start, _), members, part in zip(todo.ranges, todo.members, parts, strict=True):
        offsets = (table.offsets[members] - start).tolist()
        lengths = table.byte_counts[members].tolist()
        for index, offset, length in zip(members.tolist(), offsets, lengths, strict=True):
            yield index, part[offset : offset + length]


class BlockCanvas:
    """An array of pixels that blocks are put into, each clipped to the window.

    Parameters
    ----------
    layout : ImageLayout
        The image that the blocks are of.
    window : Window
        The part of the image that the array holds.
    bands : sequence of int
        Counted from 1: the bands that the array holds.
    pixels : ndarray
        Shape ``(band, row, col)``; it is written.
    """

    def __init__(
        self, layout: ImageLayout, window: Window, bands: Sequence[int], pixels: Array
    ) -> None:
        self._layout = layout
        self._window = window
        self._bands = bands
        self._pixels = pixels

    def _parts(self, index: int) -> tuple[int, tuple[slice, slice], tuple[slice, slice]]:
        """Return plane, place in the array and place in the block; the rows come first."""
        layout, window = self._layout, self._window
        plane, rest = divmod(index, layout.blocks_across * layout.blocks_down)
        row, col = divmod(rest, layout.blocks_across)
        rows = _overlap(
            row * layout.block_height, layout.block_height, window.row_off, window.height
        )
        cols = _overlap(col * layout.block_width, layout.block_width, window.col_off, window.width)
        return plane, (rows[0], cols[0]), (rows[1], cols[1])

    def _samples(self, plane: int) -> list[tuple[int, int]]:
        """Return which band of the array is which sample of a block in this plane."""
        if self._layout.planes == 1:
            return [(to, band - 1) for to, band in enumerate(self._bands)]
        return [(to, 0) for to, band in enumerate(self._bands) if band - 1 == plane]

    def put(self, index: int, block: Array) -> None:
        """Copy a block's pixels, shape ``(row, col, sample)``."""
        plane, there, here = self._parts(index)
        for to, sample in self._samples(plane):
            self._pixels[(to, *there)] = block[(*here, sample)]

    def fill(self, index: int, values: Sequence[Any]) -> None:
        """Write each band's value where a block would be."""
        plane, there, _ = self._parts(index)
        for to, _ in self._samples(plane):
            self._pixels[(to, *there)] = values[self._bands[to] - 1]


def _overlap(start: int, length: int, window: int, size: int) -> tuple[slice, slice]:
    """Return the overlap of a block and a window along one axis, seen from the window and block."""
    low, high = max(start, window), min(start + length, window + size)
    return slice(low - window, high - window), slice(low - start, high - start)
