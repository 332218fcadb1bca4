"""The source windows that work tiles read, counted alike by the plan and by the task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Ints
from cogmill.raster.codecs.block_codec import BlockCodec
from cogmill.raster.geometry.grid import Window, work_tiles
from cogmill.raster.inspect.source_file import VrtSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.intermediate.piece_reading import piece_codec
from cogmill.raster.read.fetching import block_requests, most_fetched, touched_blocks
from cogmill.raster.tiff.block_table import ImageLayout
from cogmill.raster.warp.footprint import source_window
from cogmill.raster.warp.warp_spec import WarpSpec

#: A work tile on the target grid and the window of the source that it needs; None: none at all.
WorkRead = tuple[Window, Window | None]


@dataclass(frozen=True, slots=True)
class WorkSize:
    """The largest work tile, in pixels, whole blocks.

    Attributes
    ----------
    rows, cols : int
        Multiples of `block`.
    block : int
        Side of a block of the output.
    """

    rows: int
    cols: int
    block: int


def window_reads(spec: WarpSpec | None, window: Window, size: WorkSize) -> tuple[WorkRead, ...]:
    """Return the work tiles of an output tile, row by row, each with what it reads.

    Parameters
    ----------
    spec : WarpSpec or None
        None: pixels are copied, so that a work tile reads itself.
    window : Window
        The output tile on the target grid.
    size : WorkSize
        How large a work tile may be.
    """
    works = work_tiles(window, size.rows, size.cols)
    if spec is None:
        return tuple((work, work) for work in works)
    return tuple((work, _needed(spec, work, size.block)) for work in works)


def block_row_windows(work: Window, block: int) -> tuple[Window, ...]:
    """Return the rows of blocks of a work tile, from the top: what is warped at a time.

    Parameters
    ----------
    work : Window
        A work tile on the target grid.
    block : int
        Side of a block of the output.
    """
    return tuple(work_tiles(work, block, work.width))


def _needed(spec: WarpSpec, work: Window, block: int) -> Window | None:
    """Return what a work tile needs, looking at the footprint of each of its rows of blocks."""
    needed: Window | None = None
    for row in block_row_windows(work, block):
        source = source_window(spec, row)
        if source is not None:
            needed = source if needed is None else needed.union(source)
    return needed


@dataclass(frozen=True, slots=True)
class SourceReads:
    """The requests, bytes and blocks that reading windows of the source comes to.

    Attributes
    ----------
    requests, bytes_fetched : int
        Ranged reads and their bytes, the mask's included.
    blocks_decoded : int
        Blocks of pixels, repetitions counted; those of the mask are not.
    bytes_decoded : int
        Decoded bytes of those blocks.
    whole_reads, windowed_reads : int
        Reads of pixels or of a mask that are one download, and those that are several ranges.
    """

    requests: int = 0
    bytes_fetched: int = 0
    blocks_decoded: int = 0
    bytes_decoded: int = 0
    whole_reads: int = 0
    windowed_reads: int = 0

    def __add__(self, other: SourceReads) -> SourceReads:
        """Return both together."""
        return SourceReads(
            self.requests + other.requests,
            self.bytes_fetched + other.bytes_fetched,
            self.blocks_decoded + other.blocks_decoded,
            self.bytes_decoded + other.bytes_decoded,
            self.whole_reads + other.whole_reads,
            self.windowed_reads + other.windowed_reads,
        )


def decoded_sizes(layout: ImageLayout) -> Ints:
    """Return the decoded bytes of each block: a last strip is cut off, a tile never is."""
    sizes = np.full(
        (layout.planes, layout.blocks_down, layout.blocks_across), layout.block_bytes, np.int64
    )
    if layout.striped:
        last = layout.height - (layout.blocks_down - 1) * layout.block_height
        sizes[:, -1] = layout.block_bytes // layout.block_height * last
    return sizes.ravel()


def source_reads(structure: Structure, windows: Iterable[Window]) -> SourceReads:
    """Return what `SourceReader` counts when it reads these windows one by one.

    Parameters
    ----------
    structure : Structure
        The source.
    windows : iterable of Window
        Within the source; one read each.
    """
    image, mask = structure.image, structure.mask
    sizes = np.where(image.blocks.sparse, 0, decoded_sizes(image))
    stored = ~image.blocks.sparse
    total = SourceReads()
    for window in windows:
        indices = touched_blocks(image, window)
        total += SourceReads(
            blocks_decoded=int(stored[indices].sum()), bytes_decoded=int(sizes[indices].sum())
        )
        total += _fetched(image, indices)
        if mask is not None:
            total += _fetched(mask, touched_blocks(mask, window))
    return total


def _fetched(layout: ImageLayout, indices: Ints) -> SourceReads:
    todo = block_requests(layout.blocks, indices, most_fetched(layout))
    return SourceReads(len(todo.ranges), todo.nbytes, 0, 0, *todo.reads)


def piece_blocks(pieces: Iterable[Window], windows: Iterable[Window], block: int) -> int:
    """Return how many blocks of the intermediates these windows touch, repetitions counted.

    Parameters
    ----------
    pieces, windows : iterable of Window
        On the source grid.
    block : int
        Side of a block of an intermediate, which is cut from its piece's corner.
    """
    wanted = np.array(
        [(w.col_off, w.row_off, w.col_stop, w.row_stop) for w in windows], np.int64
    ).reshape(-1, 4)
    total = 0
    for piece in pieces:
        across = _blocks(wanted[:, 0], wanted[:, 2], piece.col_off, piece.width, block)
        down = _blocks(wanted[:, 1], wanted[:, 3], piece.row_off, piece.height, block)
        total += int((across * down).sum())
    return total


def _blocks(starts: Ints, stops: Ints, origin: int, length: int, block: int) -> Ints:
    """Return how many blocks of a piece each stretch touches along one axis, 0 where none."""
    low, high = np.maximum(starts - origin, 0), np.minimum(stops - origin, length)
    return np.where(high > low, ceil_div(high, block) - low // block, 0)


def source_pixel_bytes(structure: Structure) -> int:
    """Return the decoded bytes of one pixel: all bands, and the mask's byte where there is one."""
    masked = 0 if structure.mask is None else 1
    return structure.bands * np.dtype(structure.dtype).itemsize + masked


def packing_ratio(structure: Structure) -> float | None:
    """Return encoded over decoded bytes of the source, None where it is stored raw or sparse.

    None for a VRT too: how much of it its members cover is not known.
    """
    if isinstance(structure.file, VrtSource):
        return None
    encoded = int(structure.image.blocks.byte_counts.sum())
    decoded = int(decoded_sizes(structure.image)[~structure.image.blocks.sparse].sum())
    if structure.image.compression == "none" or not decoded:
        return None
    return encoded / decoded


def piece_codec_of(structure: Structure) -> BlockCodec:
    """Return the codec of the source's intermediates, whose blocks are interleaved as its own."""
    apart = structure.image.planes > 1
    return piece_codec(structure.dtype, 1 if apart else structure.bands)
