"""``cogmill run`` and ``cogmill submit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cogmill import runtime
from cogmill.cli import many
from cogmill.cli.asking import Asked, demand_fit, main_output, same_command
from cogmill.cli.console import Output, size_text, time_text
from cogmill.cli.options import (
    demand_memory,
    load_settings,
    output_options,
    plan_options,
    submit_options,
    worker_options,
)
from cogmill.cli.progress import watching
from cogmill.cli.report import job_document, next_command
from cogmill.cli.signals import INTERRUPTED
from cogmill.core_machine.contracts import Job, JobStatus
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.request import (
    most_children,
    plan_summary,
    stage_pixels,
    widest_stage,
)
from cogmill.runtime import Machine
from cogmill.settings import Settings

if TYPE_CHECKING:
    from cogmill.core_machine.orchestration import Submitted


@click.command("run")
@click.argument("sources", metavar="SRC...", nargs=-1)
@click.argument("destination", metavar="DST")
@plan_options
@worker_options
@submit_options
@output_options
def run(
    *, out: Output, memory: int | None, workers: int | None, log_level: str | None, **given: Any
) -> int:
    """Turn SRC into COGs in DST, and wait.

    A DST that ends in .tif is one COG; anything else is the folder of a mosaic. Without --dst-crs,
    --resolution, --bounds, --like, --tiling-scheme, --gcps, --rpc-dem or --rpc-height pixels are
    kept exactly. Interrupted, the same command resumes.

    Several SRC, or a quoted pattern such as 'in/*.tif', become one COG each in the folder DST/,
    which must end in a slash.
    """
    settings = load_settings(memory=memory, workers=workers, log_level=log_level)
    demand_memory(settings)
    asked = Asked.of(given)
    wanted = _wanted(settings, asked)
    if not isinstance(wanted, Inputs):
        return many.run_many(out, settings, asked, wanted)
    with runtime.machine(settings, wants_child=True) as machine:
        # Here and not at the top: it loads the database's side, while a child starts.
        from cogmill.cli.waiting import work
        from cogmill.core_machine.worker.run_jobs import needs_work

        submitted = _submit(machine, asked, wanted)
        job = submitted.job
        if not needs_work(machine.state, job):
            out.say(f"nothing to do: job {job.id[:12]} already made {main_output(job)}")
            out.result(job_document(machine.state, job))
            return 0
        _explain(out, machine, submitted)
        prepared = machine.state.jobs.prepared(job)
        demand_fit(settings, prepared, job)
        seen = watching(out, job.id, stage_pixels(plan_summary(prepared)))
        children = most_children(settings, prepared)
        children = min(children, widest_stage(prepared) or children)
        interrupted = work(out, machine, [job.id], seen, children)
        return _end(out, machine, machine.state.jobs.get(job.id), interrupted)


@click.command("submit")
@click.argument("sources", metavar="SRC...", nargs=-1)
@click.argument("destination", metavar="DST")
@plan_options
@worker_options
@submit_options
@output_options
def submit(
    *, out: Output, memory: int | None, workers: int | None, log_level: str | None, **given: Any
) -> int:
    """Record the job that turns SRC into COGs in DST; a worker does it.

    --memory and --workers are what the plan counts on that a worker has. Several SRC are several
    jobs, as for `cogmill run`.
    """
    settings = load_settings(memory=memory, workers=workers, log_level=log_level)
    asked = Asked.of(given)
    wanted = _wanted(settings, asked)
    if not isinstance(wanted, Inputs):
        return many.submit_many(out, settings, asked, wanted)
    with runtime.machine(settings, wants_child=True) as machine:
        submitted = _submit(machine, asked, wanted)
        job = submitted.job
        _explain(out, machine, submitted)
        if job.status is JobStatus.SUCCESSFUL:
            out.say(f"nothing to do: job {job.id[:12]} already made {main_output(job)}")
        else:
            out.say(f"job {job.id[:12]} is {job.status}; `cogmill worker` works on it")
        out.result({**job_document(machine.state, job), "created": submitted.created})
    return 0


def _wanted(settings: Settings, asked: Asked) -> Inputs | list[Inputs]:
    """Check what was typed, before a database is started for it."""
    with runtime.tools(settings, lambda done: None, memory=0) as tools:
        return many.wanted(asked, tools.storage)


def _submit(machine: Machine, asked: Asked, inputs: Inputs) -> Submitted:
    return machine.job_processor().submit(
        RasterToCog.id, inputs, priority=asked.priority, force=asked.force
    )


def _explain(out: Output, machine: Machine, submitted: Submitted) -> None:
    if not submitted.created:
        if not submitted.job.status.terminal:
            out.say(f"job {submitted.job.id[:12]} is {submitted.job.status} already; joining it")
        return
    summary = plan_summary(machine.state.jobs.prepared(submitted.job))
    if summary is not None:
        width, height = summary.target_grid.width, summary.target_grid.height
        done = "copied exactly" if summary.warp is None else "reprojected"
        out.say(f"{width} x {height} pixels are {done}; `cogmill inspect` says how and why")
        for warning in summary.warnings:
            out.say(f"warning: {warning}")


def _end(out: Output, machine: Machine, job: Job, interrupted: bool) -> int:
    document = job_document(machine.state, job)
    out.result(document)
    if job.status is JobStatus.SUCCESSFUL:
        out.say(
            f"job {job.id[:12]} made {main_output(job)} in {time_text(document['seconds'])}; "
            f"a task took at most {size_text(document['peak_memory_bytes'])} of memory"
        )
        return 0
    if job.status.terminal:
        out.error(f"job {job.id[:12]} {job.status}: {job.failure or 'somebody dismissed it'}")
        if command := next_command(job):
            out.say(command)
        return 1
    if interrupted:
        # To a quiet command too: nothing else tells that what was done is kept.
        out.error(f"job {job.id[:12]} is not done; the same command resumes it: {same_command()}")
    return INTERRUPTED
