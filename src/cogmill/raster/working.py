"""How small the work has to be cut to fit the memory of one child, and what each way then costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from cogmill.raster.cog_image import CogImage
from cogmill.raster.costs import Cost, Output, direct_cost, two_stage_cost
from cogmill.raster.cutting import RowUnits, cut_pieces, units_per_piece, work_sizes
from cogmill.raster.encode import encode_memory
from cogmill.raster.fetching import BATCH_BYTES, REQUEST_BYTES
from cogmill.raster.footprint import warp_buffer_bytes
from cogmill.raster.grid import Grid, Window, output_tiles
from cogmill.raster.layout import ImageLayout
from cogmill.raster.memory import (
    DEFAULT_CHILD_MEMORY,
    PROCESS_BASE,
    MemoryEstimate,
    TileDemand,
    piece_memory,
    tile_memory,
)
from cogmill.raster.options import PlanOptions
from cogmill.raster.reads import (
    Read,
    WorkSize,
    bands,
    packing_ratio,
    piece_codec_of,
    source_pixel_bytes,
    window_reads,
)
from cogmill.raster.structure import Structure
from cogmill.raster.warpspec import WarpSpec

#: Side of the squares of the naive plan, in target pixels.
NAIVE_SIDE: Final = 4096
#: A row of an intermediate's blocks grows in one buffer (an eighth too large) and is handed over
#: in another.
_ENCODED_ROWS: Final = 2.125
#: By output: what its blocks may be larger than the source's, both lossless (LZW packs worse).
_RATIO_MARGINS: Final = {"deflate": 1.15, "zstd": 1.15, "lzw": 1.5}
#: What pixels pack to at most, by output; LZW makes noise larger. `encode_memory` adds an eighth
#: for a growing buffer, of which only what is filled is resident, so these are that much smaller.
_WORST_RATIOS: Final = {"raw": 0.9, "deflate": 0.9, "zstd": 0.9, "lzw": 1.25}
_LOSSY: Final = frozenset({"jpeg", "webp"})


@dataclass(frozen=True)
class Job:
    """What is to be done, before it is known how.

    Attributes
    ----------
    structure : Structure
        The source.
    options : PlanOptions
        For tile size, memory, work tile and workers.
    target : Grid
        The target grid.
    spec : WarpSpec or None
        None: pixels are copied.
    image : CogImage
        The whole output.
    kernel : str or None
        Resampling; None: pixels are copied.
    """

    structure: Structure
    options: PlanOptions
    target: Grid
    spec: WarpSpec | None
    image: CogImage
    kernel: str | None

    @property
    def memory(self) -> int:
        """Bytes that one child may use."""
        return self.options.memory or DEFAULT_CHILD_MEMORY

    @property
    def output(self) -> Output:
        """What every way makes alike."""
        return Output(
            pixels=self.target.width * self.target.height,
            pixel_bytes=self.pixel_bytes,
            bands=self.image.bands,
            kernel=self.kernel,
        )

    @cached_property
    def source_pixel_bytes(self) -> int:
        """Decoded bytes of a source pixel, mask included."""
        return source_pixel_bytes(self.structure)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a target pixel, mask included."""
        masked = 1 if self.image.has_mask else 0
        return self.image.bands * np.dtype(self.image.dtype).itemsize + masked

    @cached_property
    def tiles(self) -> tuple[Window, ...]:
        """The output tiles."""
        return tuple(tile.window for tile in output_tiles(self.target, self.options.tile_size))

    @cached_property
    def units(self) -> RowUnits:
        """The source's strips, or its rows of blocks."""
        layout = self.structure.image
        return RowUnits(
            width=layout.width,
            height=layout.height,
            rows=min(layout.block_height, layout.height),
            row_bytes=layout.width * self.source_pixel_bytes,
        )

    def reads(self, size: WorkSize) -> list[tuple[Read, ...]]:
        """Return each output tile's work tiles with what they read."""
        return [window_reads(self.spec, tile, size) for tile in self.tiles]

    @cached_property
    def whole(self) -> list[tuple[Read, ...]]:
        """What is read when a work tile is a whole output tile."""
        side = self.options.tile_size
        return self.reads(WorkSize(side, side, self.options.block))

    @cached_property
    def largest_tile(self) -> Window:
        """The output tile that needs the largest part of the source."""
        sizes = [0 if source is None else source.size for ((_, source),) in self.whole]
        return self.tiles[int(np.argmax(sizes))]

    @cached_property
    def encoder_bytes(self) -> tuple[int, int]:
        """What encoding the largest output tile holds: rows of blocks, and encoded blocks."""
        tile = self.image.model_copy(update={"grid": self.target.window_grid(self.tiles[0])})
        ratio = _packs_to(self.structure, self.image.codec.compression)
        rows = encode_memory(tile, 0.0)
        return rows, encode_memory(tile, ratio) - rows

    def demand(self, read: Read, decoding: int, cols: int) -> MemoryEstimate:
        """Return the peak of a task whose largest work tile is this one."""
        work, source = read
        width = min(self.options.tile_size, self.target.width)
        held = 0 if source is None else source.size * self.source_pixel_bytes
        warping = 0
        if self.spec is not None and source is not None:
            warping = max(
                warp_buffer_bytes(self.spec, band) for band in bands(work, self.options.block)
            )
        rows, encoded = self.encoder_bytes
        tile_height = min(self.options.tile_size, self.target.height)
        # One group of work tiles side by side is being filled while the encoder has another.
        groups = 2 if tile_height > work.height else 1
        before = max(tile_height - work.height, 0) / tile_height
        return tile_memory(
            TileDemand(
                held=held,
                decoding=decoding,
                warping=warping,
                buffered=groups * work.height * width * self.pixel_bytes if cols < width else 0,
                rows=rows,
                encoded=encoded,
                encoded_before=round(encoded * before),
            )
        )


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a job, cut as small as it has to be.

    Attributes
    ----------
    size : WorkSize
        Of work tiles.
    memory : MemoryEstimate
        Of the largest tile task.
    pieces : tuple of Window
        Stage 1; empty for direct.
    piece_memory : MemoryEstimate or None
        Of the largest piece task.
    cost : Cost
        Predicted.
    """

    size: WorkSize
    memory: MemoryEstimate
    pieces: tuple[Window, ...]
    piece_memory: MemoryEstimate | None
    cost: Cost

    @property
    def needs(self) -> int:
        """Bytes that one child must have."""
        pieces = 0 if self.piece_memory is None else self.piece_memory.total
        return max(self.memory.total, pieces)


def direct(job: Job) -> Way:
    """Return the direct way: every work tile reads its part of the source."""
    size, memory, reads = _fit(job, _source_decoding(job.structure.image))
    cost = direct_cost(job.structure, _sources(reads), len(job.tiles), memory.total, job.output)
    fits = memory.total <= job.memory
    return Way(size, memory, (), None, cost.model_copy(update={"fits": fits}))


def two_stage(job: Job) -> Way:
    """Return the two-stage way: every strip is decoded once, into intermediates."""
    codec = piece_codec_of(job.structure)
    pixel = job.source_pixel_bytes
    block_bytes = codec.block * codec.block * pixel
    size, memory, reads = _fit(job, BATCH_BYTES + REQUEST_BYTES + 2 * block_bytes)
    pieces, estimate = _pieces(job, codec.block)
    peak = max(memory.total, estimate.total)
    cost = two_stage_cost(
        job.structure, pieces, _sources(reads), (len(job.tiles), peak), job.output
    )
    fits = peak <= job.memory
    return Way(size, memory, pieces, estimate, cost.model_copy(update={"fits": fits}))


def naive(job: Job) -> Cost:
    """Return the cost of one task a target square, each fetching every block it touches."""
    if job.options.tile_size == NAIVE_SIDE:
        reads = job.whole
    else:
        size = WorkSize(NAIVE_SIDE, NAIVE_SIDE, NAIVE_SIDE)
        squares = [tile.window for tile in output_tiles(job.target, NAIVE_SIDE)]
        reads = [window_reads(job.spec, square, size) for square in squares]
    layout = job.structure.image
    peak = 0
    for tile in reads:
        for work, source in tile:
            if source is not None:
                peak = max(peak, _naive_bytes(job, layout, work, source))
    cost = direct_cost(job.structure, _sources(reads), len(reads), PROCESS_BASE + peak, job.output)
    return cost.model_copy(update={"fits": PROCESS_BASE + peak <= job.memory})


def _naive_bytes(job: Job, layout: ImageLayout, work: Window, source: Window) -> int:
    """Return what a square holds: all its blocks whole, and its target pixels."""
    rows = -(-source.row_stop // layout.block_height) - source.row_off // layout.block_height
    cols = -(-source.col_stop // layout.block_width) - source.col_off // layout.block_width
    held = rows * layout.block_height * cols * layout.block_width * job.source_pixel_bytes
    return held + 2 * work.size * job.pixel_bytes


def _fit(job: Job, decoding: int) -> tuple[WorkSize, MemoryEstimate, list[tuple[Read, ...]]]:
    """Return the largest work tiles that fit, or the smallest there are."""
    block, side = job.options.block, job.options.tile_size
    sizes = [
        WorkSize(rows, cols, block) for rows, cols in work_sizes(side, block, job.options.work_tile)
    ]
    for size in sizes:
        # The largest tile is a quick look; only what passes it is worth all the other tiles.
        quick = _largest(job, [window_reads(job.spec, job.largest_tile, size)], decoding, size)
        if quick.total > job.memory and size != sizes[-1]:
            continue
        whole = size.rows == size.cols == side
        reads = job.whole if whole else job.reads(size)
        estimate = _largest(job, reads, decoding, size)
        if estimate.total <= job.memory or size == sizes[-1]:
            break
    return size, estimate, reads


def _largest(
    job: Job, reads: list[tuple[Read, ...]], decoding: int, size: WorkSize
) -> MemoryEstimate:
    estimates = (job.demand(read, decoding, size.cols) for tile in reads for read in tile)
    return max(estimates, key=lambda estimate: estimate.total)


def _pieces(job: Job, block: int) -> tuple[tuple[Window, ...], MemoryEstimate]:
    """Return the pieces that fit, or those of a single unit, and the largest one's peak."""
    units, image = job.units, job.structure.image
    decoding = _source_decoding(image)
    # zstd without a predictor packs worse than what a predictor prepared.
    ratio = packing_ratio(job.structure) if image.predictor == 1 else None
    packed = 1.0 if ratio is None else min(1.0, ratio * _RATIO_MARGINS["lzw"])
    row = round(_ENCODED_ROWS * packed * min(block, units.height) * units.row_bytes)
    budget = job.memory - piece_memory(0, decoding, row).total
    taken = max(units_per_piece(units, max(budget, 0), job.options.workers), 1)
    pieces = cut_pieces(units, taken)
    largest = max(piece.size for piece in pieces) * job.source_pixel_bytes
    return pieces, piece_memory(largest, decoding, row)


def _packs_to(structure: Structure, compression: str) -> float:
    """Return encoded over decoded bytes of the output, at most."""
    ratio = packing_ratio(structure)
    worst = _WORST_RATIOS[compression]
    if ratio is None or compression == "raw" or structure.image.compression in _LOSSY:
        return worst
    return min(worst, ratio * _RATIO_MARGINS[compression])


def _source_decoding(layout: ImageLayout) -> int:
    """Return what reading the source needs beside the pixels that it fills."""
    counts = layout.blocks.byte_counts
    longest = int(counts.max())
    # A batch ends with the request that fills it; a block as long as a batch is one by itself.
    batch = longest if longest >= BATCH_BYTES else BATCH_BYTES + max(REQUEST_BYTES, longest)
    rows = min(layout.block_height, layout.height) if layout.striped else layout.block_height
    decoded = layout.block_bytes // layout.block_height * rows
    copies = 0 if layout.compression == "none" else 1 if layout.predictor == 1 else 2
    return min(int(counts.sum()), batch) + longest + copies * decoded


def _sources(reads: list[tuple[Read, ...]]) -> list[Window]:
    return list(_each_source(reads))


def _each_source(reads: list[tuple[Read, ...]]) -> Iterator[Window]:
    for tile in reads:
        for _, source in tile:
            if source is not None:
                yield source
