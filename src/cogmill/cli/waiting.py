"""Working on jobs in this process until they end, with Ctrl-C, and a word when nothing moves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from cogmill.cli.console import Output
from cogmill.cli.progress import Watcher
from cogmill.cli.signals import draining
from cogmill.core_machine.worker import run_jobs
from cogmill.core_machine.worker.worker import Worker
from cogmill.runtime import Machine

LOOK_SECONDS = 0.25
"""Between two looks at running jobs: as often as a person sees a bar move."""
STALL_SECONDS = 20.0
"""So long may nothing happen before a person is told why."""


def work(
    out: Output,
    machine: Machine,
    job_ids: Sequence[str],
    watching: AbstractContextManager[Watcher],
    most_children: int,
) -> bool:
    """Work on jobs until all have ended; return whether a signal asked to stop."""
    worker = machine.worker(only_jobs=job_ids, most_children=most_children)
    with draining(out.say) as drain, watching as show:
        stall = _Stall(out, worker)

        def on_look(look: run_jobs.Look) -> None:
            show(look)
            stall(look)

        watch = run_jobs.Watch(seconds=LOOK_SECONDS, on_look=on_look, stop=drain.stop)
        run_jobs.run_jobs(machine.state, worker, job_ids, watch)
        return drain.stop.is_set()


class _Stall:
    """Says once why nothing happens, when nobody can claim what is left."""

    def __init__(self, out: Output, worker: Worker) -> None:
        self._out = out
        self._worker = worker
        self._since = time.monotonic()
        self._told = False

    def __call__(self, look: run_jobs.Look) -> None:
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
