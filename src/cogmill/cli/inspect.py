"""``cogmill inspect``: what a raster is and how it would be worked on. No database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from pydantic import JsonValue

from cogmill import runtime
from cogmill.cli.console import Output
from cogmill.cli.options import (
    demand_parent,
    load_settings,
    output_options,
    plan_fields,
    plan_options,
    worker_options,
)
from cogmill.cli.report import plan_document, plan_lines
from cogmill.core_machine.child import frames
from cogmill.core_machine.transitions.preflight import preflight
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.request import plan_summary, raster_inputs
from cogmill.settings import Settings


@click.command("inspect")
@click.argument("source", metavar="SRC")
@plan_options
@worker_options
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png",
    help="Draw blocks, pieces, work tiles and output tiles.",
)  # fmt: skip
@output_options
def inspect(
    *,
    out: Output,
    source: str,
    memory: int | None,
    workers: int | None,
    log_level: str | None,
    plot: Path | None,
    **given: Any,
) -> int:
    """Show how SRC is stored, and the plan with its reasons."""
    settings = load_settings(memory=memory, workers=workers, log_level=log_level)
    if plot is not None:
        demand_parent(plot)
    with runtime.tools(settings, lambda done: None, memory=0) as tools:
        inputs = raster_inputs(source, None, plan_fields(given), tools.storage)
    prepared = _prepare(settings, inputs)
    for line in plan_lines(prepared):
        out.say(line)
    if plot is not None:
        _draw(prepared, plot)
        out.say(f"Drawn: {plot}")
    document: dict[str, Any] = {
        "source": str(inputs.source),
        "plan": plan_document(plan_summary(prepared)),
    }
    out.result(document if plot is None else {**document, "plot": str(plot.absolute())})
    return 0


def _prepare(settings: Settings, inputs: Inputs) -> JsonValue:
    """Inspect and plan in a child, which may die of a damaged file."""
    child = runtime.spawn(settings)
    try:
        request = frames.PreflightRequest(
            job_type=RasterToCog.id, inputs=inputs.model_dump(mode="json")
        )
        found, _ = preflight(child, request)
        return found.prepared
    finally:
        child.close()


def _draw(prepared: JsonValue, path: Path) -> None:
    # Here and not at the top: no other command loads GDAL in this process.
    from cogmill.raster.plan.plot import draw_plan
    from cogmill.raster.plan.raster_plan import RasterPlan

    match prepared:
        case {"plan": plan}:
            draw_plan(RasterPlan.model_validate(plan), str(path))
