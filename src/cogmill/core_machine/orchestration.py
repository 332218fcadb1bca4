"""JobProcessor submits; TaskProcessor works, a message at a time.

Both only call the transitions of the state. A job type appears here as what its contract says and
nothing else.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from cogmill.core_machine import frames, wakeups
from cogmill.core_machine.children import ChildProcess, SpareChild
from cogmill.core_machine.contracts import Job, JobStatus, JobType, JobTypes, Preflight
from cogmill.core_machine.identity import job_id
from cogmill.core_machine.preflighting import preflight
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.generations import NewJob, NewStage
from cogmill.core_machine.wakeups import WakeupPublisher
from cogmill.core_machine.worker import Worker
from cogmill.errors import (
    CogmillError,
    DatabaseUnavailable,
    DestinationBusy,
    Refused,
    TransientError,
)

log = logging.getLogger(__name__)

SUBMIT_LOOKS = 10
CLEANED_SECONDS = 60.0
"""So long a submit waits for a clean-up of its destination; for a dead worker's it is less."""
LOOK_SECONDS = 0.5
MOST_PRIORITY = 2**15 - 1
"""The database keeps it in two bytes."""


@dataclass(frozen=True)
class Submitted:
    """The job that answers a submit, and whether this submit made it."""

    job: Job
    created: bool


@dataclass(frozen=True)
class _Request:
    """A submit: what is asked for, and what of earlier generations does not count."""

    job_type: JobType[Any, Any]
    inputs: BaseModel
    priority: int
    anew: bool
    adopt_before: int | None


class JobProcessor:
    """Turns a request into a recorded job, or finds the job that already answers it.

    Parameters
    ----------
    spawn : callable
        Makes the child that runs preflight; called only when one is needed.
    """

    def __init__(
        self,
        state: StateManager,
        types: JobTypes,
        publisher: WakeupPublisher,
        spawn: Callable[[], ChildProcess],
    ) -> None:
        self._state = state
        self._types = types
        self._publisher = publisher
        self._spawn = spawn

    def submit(
        self, type_id: str, inputs: BaseModel, *, priority: int = 0, force: bool = False
    ) -> Submitted:
        """Record a job before answering, or answer with the one of the same lineage.

        Raises
        ------
        Refused
            Preflight refused the input, another live job owns the destination, or a priority that
            the database has no room for.
        """
        with SpareChild(self._spawn) as preflights:
            return self._submit(self._request(type_id, inputs, priority, force), preflights)

    def submit_all(
        self, type_id: str, many: Iterable[BaseModel], *, priority: int = 0, force: bool = False
    ) -> Iterator[Submitted | CogmillError]:
        """Submit one job for each of the inputs, all looked at by one child.

        Yields
        ------
        Submitted or CogmillError
            For each inputs the answer, or why there is none; it does not stop the others.

        Raises
        ------
        DatabaseUnavailable
            The database does not answer.
        """
        with SpareChild(self._spawn) as preflights:
            for inputs in many:
                try:
                    request = self._request(type_id, inputs, priority, force)
                    answer: Submitted | CogmillError = self._submit(request, preflights)
                except DatabaseUnavailable:
                    raise
                except CogmillError as error:
                    answer = error
                yield answer

    def _request(self, type_id: str, inputs: BaseModel, priority: int, force: bool) -> _Request:
        if abs(priority) > MOST_PRIORITY:
            raise Refused(
                f"priority {priority} is out of range",
                f"use one from -{MOST_PRIORITY} to {MOST_PRIORITY}",
            )
        job_type = self._types.get(type_id)
        return _Request(job_type, inputs, priority, anew=force, adopt_before=0 if force else None)

    def retry(self, prefix: str, *, from_stage: str | None = None) -> Submitted:
        """Make the next generation of an ended job's lineage; what succeeded is taken over.

        Parameters
        ----------
        prefix : str
            The beginning of the job's id.
        from_stage : str, optional
            The first stage that is done again whatever is there of it; a successful job can be
            retried only so.

        Raises
        ------
        JobNotFound, UnknownJobType
            There is no such job, or its type is not installed here.
        Refused
            There is nothing to retry, the stage is unknown, or preflight refused the input.
        """
        job = self._state.jobs.get(prefix)
        job_type = self._types.get(job.type)
        names = [stage.name for stage in job_type.stages]
        if from_stage is not None and from_stage not in names:
            raise Refused(
                f"job type {job.type} has no stage {from_stage!r}", f"it has {', '.join(names)}"
            )
        newest = self._state.generations.newest(job.lineage) or job
        if newest.status is JobStatus.SUCCESSFUL and from_stage is None:
            raise Refused(
                f"job {newest.id[:12]} of the same lineage is successful already",
                "name the stage to begin with (--from-stage), or run it with --force",
            )
        inputs = job_type.inputs.model_validate(newest.inputs)
        before = None if from_stage is None else names.index(from_stage)
        request = _Request(job_type, inputs, newest.priority, anew=True, adopt_before=before)
        with SpareChild(self._spawn) as preflights:
            return self._submit(request, preflights)

    def _submit(self, request: _Request, preflights: SpareChild) -> Submitted:
        job_type = request.job_type
        lineage = job_type.lineage(request.inputs)
        for _ in range(SUBMIT_LOOKS):
            newest = self._state.generations.newest(lineage)
            if newest is not None and not newest.status.terminal:
                if newest.engine in self._state.workers.engines():
                    return Submitted(job=newest, created=False)
                if newest.engine == preflights.get().engines[job_type.id]:
                    return Submitted(job=newest, created=False)
                self._supersede(newest)
                continue
            child = preflights.get()
            asked = frames.Preflight(
                job_type=job_type.id,
                inputs=request.inputs.model_dump(mode="json"),
                previous=None if newest is None else self._state.generations.previous(lineage),
            )
            found, intact = preflight(child, asked)
            engine = child.engines[job_type.id]
            if newest and intact and not request.anew and _same(newest, found, engine):
                return Submitted(job=newest, created=False)
            try:
                job = self._record(request, found, engine, newest)
            except DestinationBusy as busy:
                self._await_clean(found.owns, busy)
                continue
            if job is not None:
                wakeups.flush(self._state, self._publisher)
                return Submitted(job=job, created=True)
        raise TransientError("other submits of the same job keep overtaking this one", "try again")

    def _await_clean(self, owns: str | None, busy: DestinationBusy) -> None:
        """Wait until nobody removes anything from a destination; then what lies there is judged.

        Raises
        ------
        DestinationBusy
            It takes too long.
        """
        patience = time.monotonic() + CLEANED_SECONDS
        while self._state.cleanups.under_way(owns):
            if time.monotonic() > patience:
                raise busy
            time.sleep(LOOK_SECONDS)

    def _supersede(self, job: Job) -> None:
        """End a job that nobody here can work on any more: its engine is gone."""
        log.warning("job %s is superseded: no live worker offers its engine", job.id[:12])
        self._state.jobs.dismiss(job.id)

    def _record(
        self, request: _Request, found: Preflight, engine: str, newest: Job | None
    ) -> Job | None:
        job_type = request.job_type
        lineage = job_type.lineage(request.inputs)
        generation = 1 if newest is None else newest.generation + 1
        return self._state.generations.submit(
            NewJob(
                id=job_id(lineage, job_type.version, found.source_identity, engine, generation),
                lineage=lineage,
                generation=generation,
                type=job_type.id,
                version=job_type.version,
                inputs=request.inputs.model_dump(mode="json"),
                engine=engine,
                priority=request.priority,
                preflight=found,
                adopt_before=request.adopt_before,
                stages=tuple(
                    NewStage(
                        name=stage.name,
                        plan_seconds=stage.plan_seconds,
                        max_failures=stage.max_failures,
                    )
                    for stage in job_type.stages
                ),
            )
        )


def _same(newest: Job, found: Preflight, engine: str) -> bool:
    return (
        newest.status is JobStatus.SUCCESSFUL
        and newest.source_identity == found.source_identity
        and newest.engine == engine
    )


class TaskProcessor:
    """The queue trigger: does one piece of work a message, in whatever process the host has.

    The process becomes a worker at its first message and stays one: its threads beat between
    messages, its children wait for the next. A fork of it becomes a worker of its own.

    Parameters
    ----------
    open_worker : callable
        Opens what a worker needs, and the worker, not yet started; once in each process.
    """

    def __init__(self, open_worker: Callable[[], AbstractContextManager[Worker]]) -> None:
        self._open_worker = open_worker
        self._hosts: dict[int, _Host] = {}

    def process(self, reference: str) -> bool:
        """Do one task or clean-up: of the job `reference`, or else whatever is due.

        Called with any message, late, doubled or wrong, by any thread, it does what there is to do
        and nothing twice. When it did something it sends the message on, as there may be more.

        Parameters
        ----------
        reference : str
            What a `WakeupPublisher` sent.

        Returns
        -------
        bool
            Whether there was anything to do.

        Raises
        ------
        TransientError
            The database does not answer; let the message be delivered again.
        """
        # By process, and never a lock from before a fork, which a thread that is gone may hold.
        host = self._hosts.setdefault(os.getpid(), _Host(self._open_worker))
        return host.worker().do_one(reference)

    def close(self) -> None:
        """Give back what runs and sign off."""
        host = self._hosts.pop(os.getpid(), None)
        if host is not None:
            host.close()


class _Host:
    """The worker of one process, opened at its first use."""

    def __init__(self, open_worker: Callable[[], AbstractContextManager[Worker]]) -> None:
        self._open_worker = open_worker
        self._lock = threading.Lock()
        self._parts = ExitStack()
        self._worker: Worker | None = None

    def worker(self) -> Worker:
        with self._lock:
            if self._worker is None:
                worker = self._parts.enter_context(self._open_worker())
                worker.start()
                self._parts.callback(worker.stop)
                self._worker = worker
            return self._worker

    def close(self) -> None:
        with self._lock:
            self._worker = None
            self._parts.close()
