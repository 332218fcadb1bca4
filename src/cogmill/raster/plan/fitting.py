"""Each strategy cut as small as the memory wants it, with its cost; and cutting work again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.cog.fragments import assembly_memory, fragment_sizes
from cogmill.raster.geometry.grid import Window, output_tiles, work_tiles
from cogmill.raster.memory import PROCESS_BASE, MemoryEstimate
from cogmill.raster.plan.costs import Cost, direct_cost, two_stage_cost
from cogmill.raster.plan.cutting import (
    cut_pieces,
    fitting_columns,
    fitting_units,
    piece_size,
    strip_is_giant,
    work_sizes,
)
from cogmill.raster.plan.demands import (
    Workload,
    intermediate_decoding,
    piece_estimate,
    piece_room,
    source_decoding,
    streamed_estimate,
)
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.plan.reads import WorkRead, WorkSize, window_reads
from cogmill.raster.read.streaming import can_stream
from cogmill.raster.tiff.block_table import ImageLayout

#: Side of the squares of the naive plan, in target pixels.
NAIVE_SIDE: Final = 4096


@dataclass(frozen=True, slots=True)
class FittedStrategy:
    """A strategy, cut as small as it has to be.

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


def fit_direct(workload: Workload) -> FittedStrategy:
    """Return the direct strategy: every work tile reads its part of the source."""
    cut = _fit_cut(workload, source_decoding(workload.structure))
    cost = direct_cost(
        workload.structure, _sources(cut.reads), cut.tasks, cut.peak, workload.target_work
    )
    cost = cost.model_copy(update={"fits": cut.peak <= workload.memory})
    return FittedStrategy(
        cut.size, cut.fragments, cut.memory, cut.assembling, (), False, None, cost
    )


def fit_two_stage(workload: Workload) -> FittedStrategy:
    """Return the two-stage strategy: every strip is decoded once, into intermediates."""
    cut = _fit_cut(workload, intermediate_decoding(workload.structure))
    pieces, streamed, estimate = _pieces(workload)
    peak = max(cut.peak, estimate.total)
    cost = two_stage_cost(
        workload.structure, pieces, _sources(cut.reads), (cut.tasks, peak), workload.target_work
    ).model_copy(update={"fits": peak <= workload.memory})
    tiles = (cut.size, cut.fragments, cut.memory, cut.assembling)
    return FittedStrategy(*tiles, pieces, streamed, estimate, cost)


def naive_cost(workload: Workload) -> Cost:
    """Return the cost of one task a target square, each fetching every block it touches."""
    if workload.options.tile_size == NAIVE_SIDE:
        reads = workload.whole
    else:
        size = WorkSize(NAIVE_SIDE, NAIVE_SIDE, NAIVE_SIDE)
        squares = [tile.window for tile in output_tiles(workload.target, NAIVE_SIDE)]
        reads = [window_reads(workload.spec, square, size) for square in squares]
    layout = workload.structure.image
    peak = 0
    for tile in reads:
        for work, source in tile:
            if source is not None:
                peak = max(peak, _naive_bytes(workload, layout, work, source))
    cost = direct_cost(
        workload.structure, _sources(reads), len(reads), PROCESS_BASE + peak, workload.target_work
    )
    return cost.model_copy(update={"fits": PROCESS_BASE + peak <= workload.memory})


def _naive_bytes(workload: Workload, layout: ImageLayout, work: Window, source: Window) -> int:
    """Return what a square holds: all its blocks whole, and its target pixels."""
    rows = ceil_div(source.row_stop, layout.block_height) - source.row_off // layout.block_height
    cols = ceil_div(source.col_stop, layout.block_width) - source.col_off // layout.block_width
    held = rows * layout.block_height * cols * layout.block_width * workload.source_pixel_bytes
    return held + 2 * work.size * workload.pixel_bytes


@dataclass(frozen=True, slots=True)
class _Cut:
    """How the target is cut: what each work tile reads, and the largest tasks."""

    size: WorkSize
    fragments: bool
    memory: MemoryEstimate
    assembling: int
    reads: list[tuple[WorkRead, ...]]

    @property
    def peak(self) -> int:
        """Bytes of the largest task, those that put fragments together included."""
        return max(self.memory.total, self.assembling)

    @property
    def tasks(self) -> int:
        """Tasks that compute pixels, and those that put fragments together."""
        works = sum(len(tile) for tile in self.reads)
        return works + len(self.reads) if self.fragments else len(self.reads)


def _fit_cut(workload: Workload, decoding: int) -> _Cut:
    """Return the largest work tiles that fit, or what there is that needs the least.

    Whole output tiles first, cut within their task; then fragments, a task each.
    """
    block, side = workload.options.block, workload.options.tile_size
    largest = workload.options.work_tile
    whole: _Cut | None = None
    if largest is None or largest >= side:
        whole = _first_fitting_cut(
            workload, decoding, list(work_sizes(side, block)), fragments=False
        )
        if whole.memory.total <= workload.memory:
            return whole
    sizes = list(fragment_sizes(side, block, largest))
    if not sizes and whole is not None:
        return whole
    parts = _first_fitting_cut(workload, decoding, sizes, fragments=True)
    if whole is not None and whole.peak <= parts.peak > workload.memory:
        return whole
    return parts


def _first_fitting_cut(
    workload: Workload, decoding: int, sizes: list[tuple[int, int]], *, fragments: bool
) -> _Cut:
    """Return the cut of the first size that fits, else that of the last."""
    block, side = workload.options.block, workload.options.tile_size
    todo = [WorkSize(rows, cols, block) for rows, cols in sizes]
    assembling = assembly_memory(workload.image, side).total if fragments else 0
    for size in todo:
        # The largest tile is a quick look; only what passes it is worth all the other tiles.
        quick = [window_reads(workload.spec, workload.largest_tile, size)]
        if (
            _largest(workload, quick, decoding, fragments).total > workload.memory
            and size != todo[-1]
        ):
            continue
        whole = size.rows == size.cols == side
        reads = workload.whole if whole else workload.reads(size)
        memory = _largest(workload, reads, decoding, fragments)
        cut = _Cut(size, fragments, memory, assembling, reads)
        if cut.memory.total <= workload.memory:
            break
    return cut


def _largest(
    workload: Workload, reads: list[tuple[WorkRead, ...]], decoding: int, fragments: bool
) -> MemoryEstimate:
    demand = workload.fragment_demand if fragments else workload.demand
    estimates = (demand(read, decoding) for tile in reads for read in tile)
    return max(estimates, key=lambda estimate: estimate.total)


def _pieces(workload: Workload) -> tuple[tuple[Window, ...], bool, MemoryEstimate]:
    """Return the pieces that fit, whether they stream, and the largest one's peak.

    A giant strip is decoded as a stream; where its codec cannot, or a row of blocks of the
    intermediate is too large to be gathered from it, the strip is cut in X, and decoded again for
    each part. If nothing fits: what needs the least.
    """
    units = workload.units
    budget = piece_room(workload, workload.memory)
    if not strip_is_giant(units, budget):
        pieces = cut_pieces(units, piece_size(units, budget, workload.options.workers))
        return pieces, False, piece_estimate(workload, pieces)
    single = cut_pieces(units, 1)
    stream = streamed_estimate(workload) if can_stream(workload.structure) else None
    if stream is not None and stream.total <= workload.memory:
        return single, True, stream
    width = fitting_columns(units, budget)
    parts = tuple(part for piece in single for part in work_tiles(piece, piece.height, width))
    cut = piece_estimate(workload, parts)
    if stream is not None and stream.total <= cut.total:
        return single, True, stream
    return parts, False, cut


def _sources(reads: list[tuple[WorkRead, ...]]) -> list[Window]:
    return list(_each_source(reads))


def _each_source(reads: list[tuple[WorkRead, ...]]) -> Iterator[Window]:
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
    workload, block = _workload_of(plan), plan.options.block
    decoding = source_decoding(plan.structure)
    if plan.strategy == "two-stage":
        decoding = intermediate_decoding(plan.structure)
    for rows, cols in fragment_sizes(plan.tile_size, block, None):
        if rows >= whole.height and cols >= whole.width:
            continue
        reads = window_reads(plan.warp, whole, WorkSize(rows, cols, block))
        needs = max(workload.fragment_demand(read, decoding).total for read in reads)
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
    workload = _workload_of(plan)
    units = workload.units.model_copy(update={"height": whole.height})
    taken = fitting_units(units, piece_room(workload, budget))
    if not 0 < taken < units.count:
        return 0, []
    pieces = [piece.shift(0, whole.row_off) for piece in cut_pieces(units, taken)]
    return piece_estimate(workload, pieces).total, pieces


def _workload_of(plan: RasterPlan) -> Workload:
    return Workload(
        structure=plan.structure,
        options=plan.options,
        target=plan.target_grid,
        spec=plan.warp,
        image=plan.image,
        kernel=None if plan.copies else plan.resampling,
    )
