"""A plan in words and numbers: lines for a person, and the same as data for ``--json``."""

from __future__ import annotations

from typing import Any

import numpy as np

from cogmill.raster.geometry.control import Rational, residuals
from cogmill.raster.inspect.source_file import TiffSource, VrtSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.options.grid_options import json_number
from cogmill.raster.plan.choosing import bytes_text
from cogmill.raster.plan.costs import Cost
from cogmill.raster.plan.plan_summary import (
    CostSummary,
    GridSummary,
    MemorySummary,
    PlanSummary,
    PointsSummary,
    ReadsSummary,
    SourceSummary,
    TilesSummary,
    WarpSummary,
)
from cogmill.raster.plan.raster_plan import RasterPlan

_STRATEGIES = ("direct", "two-stage", "naive")


def explain_plan(plan: RasterPlan) -> list[str]:
    """Return the plan for a person, a line each, the most important first.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    """
    return [
        f"Source: {structure_text(plan.structure)}",
        f"Strategy: {plan.strategy}. {_sentence(plan.reason)}",
        *_placed_lines(plan),
        *_target_lines(plan),
        *_warp_lines(plan),
        *_work_lines(plan),
        _reads_line(plan),
        *_memory_lines(plan),
        *cost_table(plan),
        *_estimate_lines(plan),
        # Their coordinate systems are pages long: they are for programs, and for pasting.
        *(
            ["Equals: the gdalwarp commands that --json prints (plan.gdalwarp)"]
            * bool(plan.gdalwarp)
        ),
        *(f"Warning: {_sentence(warning)}" for warning in plan.warnings),
    ]


def structure_text(structure: Structure) -> str:
    """Return how a raster is stored, in one clause."""
    image = structure.image
    blocks = f"{image.block_width} x {image.block_height} blocks"
    if image.striped:
        count = image.blocks_down * image.planes
        strips = "one strip" if count == 1 else f"{count} strips"
        blocks = f"{strips} of {min(image.block_height, image.height)} rows"
    virtual = structure.file if isinstance(structure.file, VrtSource) else None
    packed = "" if virtual else image.compression
    if image.predictor != 1:
        packed += f", predictor {image.predictor}"
    parts = [
        "" if structure.page is None else f"page {structure.page}",
        f"VRT of {virtual.members} rasters" if virtual else "",
        f"{image.width} x {image.height} pixels",
        f"{structure.bands} x {structure.dtype}",
        blocks,
        f"bands interleaved by {image.planar}" if structure.bands > 1 else "",
        packed,
        bytes_text(structure.size_bytes),
        f"{structure.mask_source} mask" if structure.mask is not None else "",
        f"{structure.sparse_blocks} blocks never written" if structure.sparse_blocks else "",
    ]
    return ", ".join(part for part in parts if part)


def summarize_plan(plan: RasterPlan) -> PlanSummary:
    """Return what ``--json`` shows of the plan.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    """
    grid, first = plan.target_grid, plan.pieces[0] if plan.pieces else None
    return PlanSummary(
        structure=_structure(plan.structure),
        strategy=plan.strategy,
        reason=plan.reason,
        target_grid=GridSummary(
            crs=grid.crs or None, transform=grid.transform, width=grid.width, height=grid.height
        ),
        placed_by=_placed_by(plan),
        warp=_warp(plan),
        validity=plan.validity.model_dump(mode="json"),
        tiles=TilesSummary(
            output=len(plan.tiles),
            size=plan.tile_size,
            work=(plan.work_rows, plan.work_cols),
            fragments=plan.fragments,
            pieces=len(plan.pieces),
            piece=None if first is None else (first.height, first.width),
            streamed=plan.streamed,
        ),
        memory=MemorySummary(
            total=plan.memory.total,
            parts=dict(plan.memory.parts),
            pieces=None if plan.piece_memory is None else dict(plan.piece_memory.parts),
        ),
        cost={
            strategy: _cost_summary(cost)
            for strategy, cost in zip(_STRATEGIES, _costs(plan), strict=True)
        },
        reads=ReadsSummary(whole=_cost(plan).whole_reads, windows=_cost(plan).windowed_reads),
        gdalwarp=plan.gdalwarp,
        warnings=plan.warnings,
    )


def plan_event(plan: RasterPlan) -> dict[str, Any]:
    """Return what is logged of a plan, as one structured event: structure, strategy, counts."""
    image = plan.structure.image
    return {
        "source": plan.structure.name,
        "structure": structure_text(plan.structure),
        "layout": "striped" if image.striped else "tiled",
        "block": [image.block_width, image.block_height],
        "blocks": image.blocks.length,
        "strategy": plan.strategy,
        "reason": plan.reason,
        "output_tiles": len(plan.tiles),
        "pieces": len(plan.pieces),
        "work_rows": plan.work_rows,
        "work_cols": plan.work_cols,
        "fragments": plan.fragments,
        "peak_memory_bytes": _cost(plan).peak_memory_bytes,
    }


def _structure(structure: Structure) -> SourceSummary:
    image = structure.image
    return SourceSummary(
        text=structure_text(structure),
        page=structure.page,
        members=None if isinstance(structure.file, TiffSource) else structure.file.members,
        width=image.width,
        height=image.height,
        bands=structure.bands,
        dtype=structure.dtype,
        layout="striped" if image.striped else "tiled",
        block_width=image.block_width,
        block_height=image.block_height,
        blocks=image.blocks.length,
        sparse_blocks=structure.sparse_blocks,
        interleave=image.planar,
        compression=image.compression,
        predictor=image.predictor,
        size_bytes=structure.size_bytes,
        crs=structure.crs,
        nodata=tuple(None if value is None else json_number(value) for value in structure.nodata),
        alpha_band=structure.alpha_band,
        mask=structure.mask_source,
        color_interpretation=structure.color_interpretation,
        overviews=structure.overviews,
    )


def _placed_by(plan: RasterPlan) -> PointsSummary | None:
    """Return what places the source, where no transform does, and how well its points fit."""
    control = plan.source_grid.control
    if control is None:
        return None
    off = residuals(control)
    return PointsSummary(
        kind=control.kind,
        text=control.text,
        residual_rms=None if off is None else float(np.sqrt((off**2).mean())),
        residual_max=None if off is None else float(off.max()),
    )


def _warp(plan: RasterPlan) -> WarpSummary | None:
    if plan.warp is None:
        return None
    operation, scales = plan.operation, plan.scales
    return WarpSummary(
        engine="gdal",
        resampling=plan.resampling,
        overview_resampling=plan.overview_resampling,
        xscale=plan.warp.xscale,
        yscale=plan.warp.yscale,
        coordinate_operation=plan.warp.coordinate_operation,
        operation=None if operation is None else operation.model_dump(mode="json"),
        scales=None if scales is None else scales.model_dump(mode="json"),
    )


def _cost_summary(cost: Cost) -> CostSummary:
    data = cost.model_dump()
    counted = {"bytes": data.pop("bytes_fetched"), "decodes": data.pop("blocks_decoded")}
    return CostSummary(**counted, **data)


def _costs(plan: RasterPlan) -> tuple[Cost, Cost, Cost]:
    return plan.costs.direct, plan.costs.two_stage, plan.costs.naive


def _cost(plan: RasterPlan) -> Cost:
    return plan.costs.direct if plan.strategy == "direct" else plan.costs.two_stage


def _placed_lines(plan: RasterPlan) -> list[str]:
    control, found = plan.source_grid.control, _placed_by(plan)
    if control is None or found is None:
        return []
    line = f"Placed by: {control.text}"
    off = residuals(control)
    if off is None or isinstance(control, Rational):
        return [line]
    worst = control.points[int(off.argmax())]
    return [
        f"{line}; residuals {found.residual_rms:.3g} pixels RMS, {found.residual_max:.3g} at "
        f"most (column {worst[0]:g}, row {worst[1]:g})"
    ]


def _target_lines(plan: RasterPlan) -> list[str]:
    grid = plan.target_grid
    return [
        f"Target: {grid.width} x {grid.height} pixels of {abs(grid.transform[1]):.9g} x "
        f"{abs(grid.transform[5]):.9g}, {plan.tile_cols} x {plan.tile_rows} output tiles of "
        f"{plan.tile_size}, blocks of {plan.options.block}, {plan.image.codec.compression}"
    ]


def _warp_lines(plan: RasterPlan) -> list[str]:
    validity = plan.validity
    lines = [f"Valid pixels: by {validity.kind}" if validity.kind != "none" else ""]
    if plan.warp is not None:
        lines.append(
            f"Warp: {plan.resampling}, kernel scales "
            f"{plan.warp.xscale:.4g} x {plan.warp.yscale:.4g}"
        )
    if plan.scales is not None:
        scales = plan.scales
        lines.append(
            f"Scales over the target: {scales.minimum:.4g} to {scales.maximum:.4g}, "
            f"median {scales.median:.4g}"
        )
    if plan.operation is not None:
        accuracy = plan.operation.accuracy_m
        known = "unknown accuracy" if accuracy is None else f"accurate to {accuracy:g} m"
        lines.append(f"Coordinate operation: {plan.operation.name}, {known}")
    return [line for line in lines if line]


def _work_lines(plan: RasterPlan) -> list[str]:
    lines = [f"Work tiles: up to {plan.work_cols} x {plan.work_rows} pixels"]
    if plan.fragments:
        lines[0] += ", a task each, put together as fragments of their output tiles"
    if plan.pieces:
        first = plan.pieces[0]
        lines.insert(
            0,
            f"Pieces: {len(plan.pieces)} of the source, up to {first.width} x {first.height}"
            + (", each decoded once, as a stream" if plan.streamed else ""),
        )
    return lines


def _reads_line(plan: RasterPlan) -> str:
    cost = _cost(plan)
    return (
        f"Reads of the source: {cost.whole_reads} whole, one download each, and "
        f"{cost.windowed_reads} in windows, of several ranges"
    )


def _memory_lines(plan: RasterPlan) -> list[str]:
    found = [("Memory of a tile task", plan.memory), ("Memory of a piece task", plan.piece_memory)]
    return [
        f"{name}: {bytes_text(estimate.total)} = "
        + " + ".join(f"{bytes_text(size)} {part}" for part, size in estimate.parts.items())
        for name, estimate in found
        if estimate is not None
    ]


def _estimate_lines(plan: RasterPlan) -> list[str]:
    if isinstance(plan.structure.file, TiffSource):
        return []
    return [
        "Estimates: requests, fetched and decoded are shares of the members' stored bytes, for "
        "GDAL reads them"
    ]


def cost_table(plan: RasterPlan) -> list[str]:
    """Return the three costs as a table in text, a line each below its head."""
    head = f"{'':10} {'tasks':>7} {'requests':>9} {'fetched':>10} {'decoded':>10} "
    lines = [head + f"{'blocks':>9} {'written':>10} {'peak':>9} {'seconds':>8}"]
    for strategy, cost in zip(_STRATEGIES, _costs(plan), strict=True):
        lines.append(
            f"{strategy:10} {cost.tasks:7} {cost.requests:9} {bytes_text(cost.bytes_fetched):>10} "
            f"{bytes_text(cost.bytes_decoded):>10} {cost.blocks_decoded:9} "
            f"{bytes_text(cost.intermediate_bytes_written):>10} "
            f"{bytes_text(cost.peak_memory_bytes):>9} {cost.seconds:8.0f}"
        )
    return lines


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
