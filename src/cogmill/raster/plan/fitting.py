"""How small the work has to be cut to fit a memory, what each way then costs, and cutting again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cogmill.raster.cog.fragments import assembly_memory, fragment_sizes
from cogmill.raster.geometry.grid import Window, output_tiles, work_tiles
from cogmill.raster.memory import PROCESS_BASE, MemoryEstimate
from cogmill.raster.plan.costs import Cost, direct_cost, two_stage_cost
from cogmill.raster.plan.cutting import (
    cut_pieces,
    fitting_columns,
    fitting_units,
    units_per_piece,
    work_sizes,
)
from cogmill.raster.plan.demands import (
    Job,
    intermediate_decoding,
    piece_estimate,
    piece_room,
    source_decoding,
    streamed_estimate,
)
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.plan.reads import Read, WorkSize, window_reads
from cogmill.raster.read.streaming import can_stream
from cogmill.raster.tiff.block_table import ImageLayout

#: Side of the squares of the naive plan, in target pixels.
NAIVE_SIDE: Final = 4096


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a job, cut as small as it has to be.

    Attributes
    ----------
    size : WorkSize
        Of work tiles.
    fragments : bool
        Whether each work tile is a task of its own, which writes a fragment.
    memory : MemoryEstimate
        Of the largest tile task.
    assembling : int
        Bytes of the task that puts fragments together; 0 where there are none.
    pieces : tuple of Window
        Stage 1; empty for direct.
    streamed : bool
        Whether each piece is a row of strips that is decoded as a stream.
    piece_memory : MemoryEstimate or None
        Of the largest piece task.
    cost : Cost
        Predicted.
    """

    size: WorkSize
    fragments: bool
    memory: MemoryEstimate
    assembling: int
    pieces: tuple[Window, ...]
    streamed: bool
    piece_memory: MemoryEstimate | None
    cost: Cost

    @property
    def needs(self) -> int:
        """Bytes that one child must have."""
        pieces = 0 if self.piece_memory is None else self.piece_memory.total
        return max(self.memory.total, self.assembling, pieces)


def direct(job: Job) -> Way:
    """Return the direct way: every work tile reads its part of the source."""
    cut = _fit(job, source_decoding(job.structure))
    cost = direct_cost(job.structure, _sources(cut.reads), cut.tasks, cut.peak, job.output)
    cost = cost.model_copy(update={"fits": cut.peak <= job.memory})
    return Way(cut.size, cut.fragments, cut.memory, cut.assembling, (), False, None, cost)


def two_stage(job: Job) -> Way:
    """Return the two-stage way: every strip is decoded once, into intermediates."""
    cut = _fit(job, intermediate_decoding(job.structure))
    pieces, streamed, estimate = _pieces(job)
    peak = max(cut.peak, estimate.total)
    cost = two_stage_cost(
        job.structure, pieces, _sources(cut.reads), (cut.tasks, peak), job.output
    ).model_copy(update={"fits": peak <= job.memory})
    tiles = (cut.size, cut.fragments, cut.memory, cut.assembling)
    return Way(*tiles, pieces, streamed, estimate, cost)


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


@dataclass(frozen=True, slots=True)
class _Cut:
    """How the target is cut: what each work tile reads, and the largest tasks."""

    size: WorkSize
    fragments: bool
    memory: MemoryEstimate
    assembling: int
    reads: list[tuple[Read, ...]]

    @property
    def peak(self) -> int:
        """Bytes of the largest task, those that put fragments together included."""
        return max(self.memory.total, self.assembling)

    @property
    def tasks(self) -> int:
        """Tasks that compute pixels, and those that put fragments together."""
        works = sum(len(tile) for tile in self.reads)
        return works + len(self.reads) if self.fragments else len(self.reads)


def _fit(job: Job, decoding: int) -> _Cut:
    """Return the largest work tiles that fit, or what there is that needs the least.

    Whole output tiles first, cut within their task; then fragments, a task each.
    """
    block, side = job.options.block, job.options.tile_size
    largest = job.options.work_tile
    whole: _Cut | None = None
    if largest is None or largest >= side:
        whole = _fitted(job, decoding, list(work_sizes(side, block)), fragments=False)
        if whole.memory.total <= job.memory:
            return whole
    sizes = list(fragment_sizes(side, block, largest))
    if not sizes and whole is not None:
        return whole
    parts = _fitted(job, decoding, sizes, fragments=True)
    if whole is not None and whole.peak <= parts.peak > job.memory:
        return whole
    return parts


def _fitted(job: Job, decoding: int, sizes: list[tuple[int, int]], *, fragments: bool) -> _Cut:
    """Return the cut of the first size that fits, else that of the last."""
    block, side = job.options.block, job.options.tile_size
    todo = [WorkSize(rows, cols, block) for rows, cols in sizes]
    assembling = assembly_memory(job.image, side).total if fragments else 0
    for size in todo:
        # The largest tile is a quick look; only what passes it is worth all the other tiles.
        quick = [window_reads(job.spec, job.largest_tile, size)]
        if _largest(job, quick, decoding, fragments).total > job.memory and size != todo[-1]:
            continue
        whole = size.rows == size.cols == side
        reads = job.whole if whole else job.reads(size)
        memory = _largest(job, reads, decoding, fragments)
        cut = _Cut(size, fragments, memory, assembling, reads)
        if cut.memory.total <= job.memory:
            break
    return cut


def _largest(
    job: Job, reads: list[tuple[Read, ...]], decoding: int, fragments: bool
) -> MemoryEstimate:
    demand = job.fragment_demand if fragments else job.demand
    estimates = (demand(read, decoding) for tile in reads for read in tile)
    return max(estimates, key=lambda estimate: estimate.total)


def _pieces(job: Job) -> tuple[tuple[Window, ...], bool, MemoryEstimate]:
    """Return the pieces that fit, whether they stream, and the largest one's peak.

    Where not even one strip fits, it is decoded as a stream; where its codec cannot, or a row of
    blocks of the intermediate is too large to be gathered from it, the strip is cut in X, and
    decoded again for each part. If nothing fits: what needs the least.
    """
    units = job.units
    budget = piece_room(job, job.memory)
    taken = units_per_piece(units, budget, job.options.workers)
    if taken:
        pieces = cut_pieces(units, taken)
        return pieces, False, piece_estimate(job, pieces)
    single = cut_pieces(units, 1)
    stream = streamed_estimate(job) if can_stream(job.structure) else None
    if stream is not None and stream.total <= job.memory:
        return single, True, stream
    width = fitting_columns(units, budget)
    parts = tuple(part for piece in single for part in work_tiles(piece, piece.height, width))
    cut = piece_estimate(job, parts)
    if stream is not None and stream.total <= cut.total:
        return single, True, stream
    return parts, False, cut


def _sources(reads: list[tuple[Read, ...]]) -> list[Window]:
    return list(_each_source(reads))


def _each_source(reads: list[tuple[Read, ...]]) -> Iterator[Window]:
    for tile in reads:
        for _, source in tile:
            if source is not None:
                yield source


def smaller_tiles(plan: RasterPlan, whole: Window, budget: int) -> tuple[int, list[Window]]:
    """Return fragments that make up a tile, or a larger fragment, and what each needs in bytes.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    whole : Window
        What they make up, on the target grid; its corner lies on a block.
    budget : int
        Bytes that one task may use.

    Returns
    -------
    (int, list of Window)
        As few as fit the budget; 0 and none where not even single blocks do.
    """
    job, block = _job(plan), plan.options.block
    decoding = source_decoding(plan.structure)
    if plan.strategy == "two-stage":
        decoding = intermediate_decoding(plan.structure)
    for rows, cols in fragment_sizes(plan.tile_size, block, None):
        if rows >= whole.height and cols >= whole.width:
            continue
        reads = window_reads(plan.warp, whole, WorkSize(rows, cols, block))
        needs = max(job.fragment_demand(read, decoding).total for read in reads)
        if needs <= budget:
            return needs, work_tiles(whole, rows, cols)
    return 0, []


def smaller_pieces(plan: RasterPlan, whole: Window, budget: int) -> tuple[int, list[Window]]:
    """Return pieces that make up a larger one, and what each needs in bytes.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    whole : Window
        What they make up: whole strips or rows of blocks of the source.
    budget : int
        Bytes that one task may use.

    Returns
    -------
    (int, list of Window)
        As few as fit the budget; 0 and none where not even single strips do, or one is a stream.
    """
    if plan.streamed:
        return 0, []
    job = _job(plan)
    units = job.units.model_copy(update={"height": whole.height})
    taken = fitting_units(units, piece_room(job, budget))
    if not 0 < taken < units.count:
        return 0, []
    pieces = [piece.shift(0, whole.row_off) for piece in cut_pieces(units, taken)]
    return piece_estimate(job, pieces).total, pieces


def _job(plan: RasterPlan) -> Job:
    return Job(
        structure=plan.structure,
        options=plan.options,
        target=plan.target_grid,
        spec=plan.warp,
        image=plan.image,
        kernel=None if plan.copies else plan.resampling,
    )
