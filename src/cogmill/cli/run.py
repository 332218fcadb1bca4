"""``cogmill run`` and ``cogmill submit``."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from typing import Any

import click
from pydantic import JsonValue

from cogmill import runtime
from cogmill.cli.console import Output, size_text, time_text
from cogmill.cli.options import (
    demand_memory,
    load_settings,
    output_options,
    plan_fields,
    plan_options,
    submit_options,
    worker_options,
)
from cogmill.cli.progress import watching
from cogmill.cli.report import job_document, next_command, plan_summary
from cogmill.cli.signals import INTERRUPTED, draining
from cogmill.core_machine import running
from cogmill.core_machine.contracts import Job, JobStatus
from cogmill.core_machine.orchestration import Submitted
from cogmill.core_machine.worker import Worker
from cogmill.errors import Refused
from cogmill.job_types.raster_request import raster_inputs
from cogmill.job_types.raster_to_cog import Inputs, RasterToCog
from cogmill.runtime import Machine
from cogmill.settings import PARENT_MEMORY, Settings

LOOK_SECONDS = 0.25
"""Between two looks at a running job: as often as a person sees a bar move."""
STALL_SECONDS = 20.0
"""So long may nothing happen before a person is told why."""


@dataclass(frozen=True)
class _Asked:
    source: str
    destination: str
    options: dict[str, Any]
    overwrite: bool
    force: bool
    priority: int

    @classmethod
    def of(cls, given: dict[str, Any]) -> _Asked:
        options = plan_fields(given)
        return cls(options=options, **given)


@click.command("run")
@click.argument("source", metavar="SRC")
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
    --resolution or --bounds pixels are kept exactly. Interrupted, the same command resumes.
    """
    settings = load_settings(memory=memory, workers=workers, log_level=log_level)
    demand_memory(settings)
    asked = _Asked.of(given)
    inputs = _inputs(settings, asked)
    with runtime.machine(settings) as machine:
        submitted = _submit(machine, asked, inputs)
        job = submitted.job
        if not running.needs_work(machine.state, job):
            out.say(f"nothing to do: job {job.id[:12]} already made {_main(job)}")
            out.result(job_document(machine.state, job))
            return 0
        _explain(out, machine, submitted)
        _demand_fit(settings, machine.state.jobs.prepared(job), job)
        job, interrupted = _work(out, machine, job)
        return _end(out, machine, job, interrupted)


@click.command("submit")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@plan_options
@worker_options
@submit_options
@output_options
def submit(
    *, out: Output, memory: int | None, workers: int | None, log_level: str | None, **given: Any
) -> int:
    """Record the job that turns SRC into COGs in DST; a worker does it.

    --memory and --workers are what the plan counts on that a worker has.
    """
    settings = load_settings(memory=memory, workers=workers, log_level=log_level)
    asked = _Asked.of(given)
    inputs = _inputs(settings, asked)
    with runtime.machine(settings) as machine:
        submitted = _submit(machine, asked, inputs)
        job = submitted.job
        _explain(out, machine, submitted)
        if job.status is JobStatus.SUCCESSFUL:
            out.say(f"nothing to do: job {job.id[:12]} already made {_main(job)}")
        else:
            out.say(f"job {job.id[:12]} is {job.status}; `cogmill worker` works on it")
        out.result({**job_document(machine.state, job), "created": submitted.created})
    return 0


def _inputs(settings: Settings, asked: _Asked) -> Inputs:
    """Check what was typed, before a database is started for it."""
    with runtime.tools(settings, lambda done: None, memory=0) as tools:
        return raster_inputs(
            asked.source, asked.destination, asked.options, tools.storage, overwrite=asked.overwrite
        )


def _submit(machine: Machine, asked: _Asked, inputs: Inputs) -> Submitted:
    return machine.job_processor().submit(
        RasterToCog.id, inputs, priority=asked.priority, force=asked.force
    )


def _explain(out: Output, machine: Machine, submitted: Submitted) -> None:
    if not submitted.created:
        if not submitted.job.status.terminal:
            out.say(f"job {submitted.job.id[:12]} is {submitted.job.status} already; joining it")
        return
    match plan_summary(machine.state.jobs.prepared(submitted.job)):
        case {"strategy": strategy, "reason": reason, "warnings": [*warnings]}:
            out.say(f"{strategy}: {reason}")
            for warning in warnings:
                out.say(f"warning: {warning}")


def _demand_fit(settings: Settings, prepared: JsonValue, job: Job) -> None:
    """Refuse to wait for tasks that were planned for more memory than this process may use."""
    needed = _largest(prepared)
    if needed > settings.memory - PARENT_MEMORY:
        raise Refused(
            f"job {job.id[:12]} was planned with tasks of {size_text(needed)}, more than "
            f"--memory {size_text(settings.memory)} leaves to one",
            f"give --memory {size_text(needed + PARENT_MEMORY + 2**20)} or more, or begin anew "
            f"after `cogmill dismiss {job.id[:12]}`",
        )


def _largest(prepared: JsonValue) -> int:
    match plan_summary(prepared).get("memory"):
        case {"total": int(total), "pieces": {**pieces}}:
            return max(total, sum(part for part in pieces.values() if isinstance(part, int)))
        case {"total": int(total)}:
            return total
    return 0


def _work(out: Output, machine: Machine, job: Job) -> tuple[Job, bool]:
    state = machine.state
    worker = machine.worker(only_job=job.id)
    with (
        draining(out.say) as drain,
        watching(out, job.id, plan_summary(state.jobs.prepared(job))) as show,
    ):
        stall = _Stall(out, worker)

        def on_look(look: running.Look) -> None:
            show(look)
            stall(look)

        watch = running.Watch(seconds=LOOK_SECONDS, on_look=on_look, stop=drain.stop)
        ended = running.run_job(state, worker, job.id, watch)
        return ended, drain.stop.is_set()


class _Stall:
    """Says once why nothing happens, when nobody can claim what is left."""

    def __init__(self, out: Output, worker: Worker) -> None:
        self._out = out
        self._worker = worker
        self._since = time.monotonic()
        self._told = False

    def __call__(self, look: running.Look) -> None:
        busy = any(stage.running or stage.retrying for stage in look.stages)
        if busy or not self._worker.idle or look.job.status.terminal:
            self._since = time.monotonic()
        elif not self._told and time.monotonic() - self._since > STALL_SECONDS:
            self._told = True
            self._out.say(
                f"warning: nobody claims what is left of job {look.job.id[:12]}: it needs more "
                "memory, another host or another version of cogmill than this process offers; "
                f"give more --memory, or `cogmill dismiss {look.job.id[:12]}` and run it again"
            )


def _end(out: Output, machine: Machine, job: Job, interrupted: bool) -> int:
    document = job_document(machine.state, job)
    out.result(document)
    if job.status is JobStatus.SUCCESSFUL:
        out.say(
            f"job {job.id[:12]} made {_main(job)} in {time_text(document['seconds'])}; "
            f"a task took at most {size_text(document['peak_memory_bytes'])} of memory"
        )
        return 0
    if job.status.terminal:
        out.error(f"job {job.id[:12]} {job.status}: {job.failure or 'somebody dismissed it'}")
        if command := next_command(job):
            out.say(f"next: {command}")
        return 1
    if interrupted:
        out.say(f"job {job.id[:12]} is not done; the same command resumes it: {_same_command()}")
    return INTERRUPTED


def _same_command() -> str:
    return shlex.join(["cogmill", *sys.argv[1:]])


def _main(job: Job) -> str:
    match job.outputs:
        case {"main": str(main)}:
            return main
    return "its outputs"
