"""Run jobs to their end in this process: what `cogmill run` and `Job.wait` share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cogmill.core_machine.contracts import Job, Stage
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.worker.worker import Worker
from cogmill.errors import DatabaseUnavailable

CLEANING_SECONDS = 60.0
"""How long to wait for a clean-up that another worker holds, or that a dead one held."""
UNANSWERED_SECONDS = 120.0
"""How long the database may be silent: as long as the recovery of an embedded server may take."""


@dataclass(frozen=True)
class Look:
    """What a look at the first job that has not ended found.

    Attributes
    ----------
    job : Job
        The job.
    stages : tuple of Stage
        Its stages with the counts of their tasks.
    done : int
        Units (pixels) that its running attempts report.
    open : int
        Of the jobs that are run, how many have not ended.
    """

    job: Job
    stages: tuple[Stage, ...]
    done: int
    open: int = 1


@dataclass(frozen=True)
class Watch:
    """How running jobs are watched.

    Attributes
    ----------
    seconds : float
        Between two looks.
    on_look : callable
        Told what every look found.
    stop : threading.Event
        Set by whoever wants to end early; the unfinished tasks are given back.
    """

    seconds: float
    on_look: Callable[[Look], None] = lambda look: None
    stop: threading.Event = field(default_factory=threading.Event)


def needs_work(state: StateManager, job: Job) -> bool:
    """Whether the job has not ended, or is owed a clean-up that is due."""
    return not job.status.terminal or state.cleanups.owed(job.id)


def run_job(state: StateManager, worker: Worker, job_id: str, watch: Watch) -> Job:
    """Work on one job; see `run_jobs`.

    Returns
    -------
    Job
        The job as it was seen last.
    """
    run_jobs(state, worker, [job_id], watch)
    return state.jobs.get(job_id)


def run_jobs(state: StateManager, worker: Worker, job_ids: Sequence[str], watch: Watch) -> None:
    """Work on jobs until all have ended and what they left is removed, or until told to stop.

    Several processes may do so for one job: they share its tasks.

    Parameters
    ----------
    worker : Worker
        Not started yet; it is stopped at the end, and its unfinished tasks are given back.
    job_ids : sequence of str
        Those that the worker works for.

    Raises
    ------
    CogmillError
        No child could be started, or the database stays silent.
    """
    worker.start()
    try:
        for look in _looks(state, job_ids, watch):
            watch.on_look(look)
            if not look.open:
                # What the last beat reported is over, and clean-up waits for that.
                worker.heartbeat.step()
                worker.wake()
                _until_clean(state, job_ids, watch)
                break
    finally:
        worker.stop()


def _looks(state: StateManager, job_ids: Sequence[str], watch: Watch) -> Iterator[Look]:
    answered = time.monotonic()
    while not watch.stop.is_set():
        try:
            look = _look(state, job_ids)
            answered = time.monotonic()
        except DatabaseUnavailable:
            if time.monotonic() - answered > UNANSWERED_SECONDS:
                raise
        else:
            yield look
        watch.stop.wait(watch.seconds)


def _look(state: StateManager, job_ids: Sequence[str]) -> Look:
    still_open = state.jobs.open(job_ids)
    shown = still_open[0] if still_open else job_ids[-1]
    return Look(
        job=state.jobs.get(shown),
        stages=tuple(state.jobs.stages(shown)),
        done=state.jobs.progress(shown),
        open=len(still_open),
    )


def _until_clean(state: StateManager, job_ids: Sequence[str], watch: Watch) -> None:
    until = time.monotonic() + CLEANING_SECONDS
    owing = list(job_ids)
    while owing := [job_id for job_id in owing if state.cleanups.owed(job_id)]:
        if time.monotonic() > until or watch.stop.wait(min(watch.seconds, 0.1)):
            return
