"""The process in which a failpoint is armed: ``python armed.py ROLE ARGUMENTS`` does one thing.

Run as a file, so that nothing of a test is imported but what lies beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.hurry import hurried

from cogmill import runtime
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.transitions import wakeups
from cogmill.runtime import Machine
from cogmill.settings import Settings


def work(machine: Machine, arguments: dict[str, Any]) -> None:
    """Work until standard input ends."""
    worker = machine.worker()
    worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    worker.stop()


def submit(machine: Machine, arguments: dict[str, Any]) -> None:
    """Submit a job of the type `press`."""
    inputs = machine.types.get("press").inputs.model_validate(arguments["inputs"])
    machine.job_processor().submit("press", inputs, force=bool(arguments.get("force")))


def retry(machine: Machine, arguments: dict[str, Any]) -> None:
    """Make the next generation of an ended job."""
    machine.job_processor().retry(arguments["job"])


def dismiss(machine: Machine, arguments: dict[str, Any]) -> None:
    """Dismiss a job, as the command does."""
    machine.state.jobs.dismiss(machine.state.jobs.get(arguments["job"]).id)
    wakeups.flush(machine.state, machine.publisher)


def reconcile(machine: Machine, arguments: dict[str, Any]) -> None:
    """Look and repair; from the second look on as who has slept before it."""
    reconciler = SystemReconciler(machine.state, machine.publisher, grace=0.0)
    for _ in range(3):
        reconciler.step()


def look(machine: Machine, arguments: dict[str, Any]) -> None:
    """Ask everything that people ask."""
    state, job = machine.state, arguments["job"]
    state.jobs.recent()
    state.jobs.failed("lost")
    state.jobs.stages(job)
    state.jobs.progress(job)
    state.jobs.figures(job)
    state.jobs.why(job)
    state.jobs.prepared(state.jobs.get(job))
    state.cleanups.owed(job)
    state.events.page(job_id=job)
    state.reconciliations.silent_seconds()
    for row in arguments["workers"]:
        state.workers.has_work_ahead(UUID(row))


ROLES: dict[str, Callable[[Machine, dict[str, Any]], None]] = {
    "work": work,
    "submit": submit,
    "retry": retry,
    "dismiss": dismiss,
    "reconcile": reconcile,
    "look": look,
}


def main() -> None:
    """Do what the command line says, with the settings of the environment."""
    with hurried(), runtime.machine(Settings.load()) as machine:
        ROLES[sys.argv[1]](machine, json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
