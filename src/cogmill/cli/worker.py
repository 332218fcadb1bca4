"""``cogmill worker`` and ``cogmill reconcile``: what keeps a machine going."""

from __future__ import annotations

import random
import threading

import click

from cogmill import runtime
from cogmill.cli.console import Output, size_text
from cogmill.cli.options import demand_memory, load_settings, output_options, worker_options
from cogmill.cli.signals import INTERRUPTED, draining
from cogmill.core_machine.reconciliation import Action
from cogmill.core_machine.worker.worker import Worker
from cogmill.errors import DatabaseUnavailable
from cogmill.runtime import Machine

IDLE_LOOKS = 3
"""So many looks in a row must find nothing before a worker believes that all is done."""


@click.command("worker")
@click.option(
    "--until-idle", is_flag=True,
    help="End when there is nothing left to do; with 1 where a job has failed meanwhile.",
)  # fmt: skip
@worker_options
@output_options
def worker(
    *,
    out: Output,
    until_idle: bool,
    memory: int | None,
    workers: int | None,
    log_level: str | None,
) -> int:
    """Work on whatever is submitted.

    Ctrl-C or SIGTERM lets running tasks end within a grace, then gives them back; a second one
    gives them back at once.
    """
    settings = load_settings(memory=memory, workers=workers, log_level=log_level)
    demand_memory(settings)
    with (
        runtime.machine(settings, wants_child=True) as machine,
        draining(out.say, patient=True) as drain,
    ):
        stop = drain.stop
        part = machine.worker()
        part.start()
        begun_as = part.incarnation
        out.say(
            f"worker {str(part.incarnation)[:8]}: {settings.workers} children, "
            f"{size_text(settings.memory)} of memory"
        )
        try:
            if until_idle:
                _until_idle(machine, part, stop)
            else:
                stop.wait()
        finally:
            part.stop(settings.effective_pace.grace, drain.hurry)
        failed = machine.state.jobs.failed_since(begun_as) if until_idle else []
        for job in failed:
            out.error(f"job {job.id[:12]} failed: {job.failure}; see `cogmill show {job.id[:12]}`")
        out.result(
            {
                "worker": str(part.incarnation),
                "interrupted": stop.is_set(),
                "failed": [job.id for job in failed],
            }
        )
        if until_idle and stop.is_set():
            return INTERRUPTED
        return 1 if failed else 0


def _until_idle(machine: Machine, part: Worker, stop: threading.Event) -> None:
    looks = 0
    while looks < IDLE_LOOKS and not stop.wait(machine.settings.effective_pace.look):
        try:
            busy = not part.idle or machine.state.workers.has_work_ahead(part.incarnation)
        except DatabaseUnavailable:
            busy = True
        looks = 0 if busy else looks + 1


@click.command("reconcile")
@click.option("--once", is_flag=True, help="Look once, and end.")
@click.option("--dry-run", is_flag=True, help="Find, and change nothing.")
@output_options
def reconcile(*, out: Output, once: bool, dry_run: bool, log_level: str | None) -> int:
    """Find and repair what crashes left behind. Workers do so themselves."""
    settings = load_settings(log_level=log_level)
    found: list[Action] = []
    with runtime.machine(settings) as machine, draining(lambda text: None) as drain:
        stop = drain.stop
        reconciler = machine.reconciler()
        look = settings.effective_pace.look
        while not stop.is_set():
            actions = reconciler.step(dry_run=dry_run)
            for action in actions:
                out.say(f"{action.finder}: {action.subject}: {action.reason}")
            # What a loop of days found is in the log and in the database; here is the last of it.
            found = actions or found
            if once or stop.wait(look * random.uniform(0.7, 1.3)):
                break
    if once and not found:
        out.say("nothing to repair")
    out.result({"dry_run": dry_run, "actions": [action.model_dump() for action in found]})
    return 0
