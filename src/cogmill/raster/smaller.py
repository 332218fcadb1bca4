"""A planned task again, in less memory: the same pixels in smaller rectangles."""

from __future__ import annotations

from cogmill.raster.cutting import cut_pieces, fitting_units
from cogmill.raster.demands import (
    Job,
    intermediate_decoding,
    piece_estimate,
    piece_room,
    source_decoding,
)
from cogmill.raster.fragments import fragment_sizes
from cogmill.raster.grid import Window, work_tiles
from cogmill.raster.rasterplan import RasterPlan
from cogmill.raster.reads import WorkSize, window_reads


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
