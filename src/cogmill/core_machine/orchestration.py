"""JobProcessor submits; TaskProcessor works. Both only call the transitions of the state.

A job type appears here as what its contract says and nothing else.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, JsonValue

from cogmill.core_machine import frames, wakeups
from cogmill.core_machine.children import Call, ChildDied, ChildProcess
from cogmill.core_machine.contracts import (
    Cancelled,
    Cause,
    CleanUp,
    Failed,
    Failure,
    Job,
    JobStatus,
    JobType,
    JobTypes,
    JobView,
    Preflight,
    Released,
    Retry,
    StageResult,
    Succeeded,
    TaskKind,
    TaskOutcome,
)
from cogmill.core_machine.identity import job_id
from cogmill.core_machine.preflighting import preflight
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.jobs import NewJob, NewStage
from cogmill.core_machine.state.tasks import Attempt, Settled
from cogmill.core_machine.wakeups import WakeupPublisher
from cogmill.errors import CogmillError, Refused, TransientError

log = logging.getLogger(__name__)

SUBMIT_LOOKS = 10
MAX_BACKOFF_SECONDS = 600.0
MOST_PRIORITY = 2**15 - 1
"""The database keeps it in two bytes."""


@dataclass(frozen=True)
class Submitted:
    """The job that answers a submit, and whether this submit made it."""

    job: Job
    created: bool


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
        if abs(priority) > MOST_PRIORITY:
            raise Refused(
                f"priority {priority} is out of range",
                f"use one from -{MOST_PRIORITY} to {MOST_PRIORITY}",
            )
        job_type = self._types.get(type_id)
        lineage = job_type.lineage(inputs)
        child: ChildProcess | None = None
        try:
            for _ in range(SUBMIT_LOOKS):
                newest = self._state.jobs.newest(lineage)
                if newest is not None and not newest.status.terminal:
                    if newest.engine in self._state.workers.engines():
                        return Submitted(job=newest, created=False)
                    child = child or self._spawn()
                    if newest.engine == child.engines[type_id]:
                        return Submitted(job=newest, created=False)
                    self._supersede(newest)
                    continue
                child = child or self._spawn()
                request = frames.Preflight(
                    job_type=job_type.id,
                    inputs=inputs.model_dump(mode="json"),
                    previous=None if newest is None else self._state.jobs.previous(lineage),
                )
                found, intact = preflight(child, request)
                engine = child.engines[type_id]
                if newest is not None and intact and not force and _same(newest, found, engine):
                    return Submitted(job=newest, created=False)
                job = self._record(job_type, inputs, found, engine, newest, priority)
                if job is not None:
                    wakeups.flush(self._state, self._publisher)
                    return Submitted(job=job, created=True)
        finally:
            if child is not None:
                child.close()
        raise TransientError("other submits of the same job keep overtaking this one", "try again")

    def _supersede(self, job: Job) -> None:
        """End a job that nobody here can work on any more: its engine is gone."""
        log.warning("job %s is superseded: no live worker offers its engine", job.id[:12])
        self._state.jobs.dismiss(job.id)

    def _record(
        self,
        job_type: JobType[Any, Any],
        inputs: BaseModel,
        found: Preflight,
        engine: str,
        newest: Job | None,
        priority: int,
    ) -> Job | None:
        lineage = job_type.lineage(inputs)
        generation = 1 if newest is None else newest.generation + 1
        return self._state.jobs.submit(
            NewJob(
                id=job_id(lineage, job_type.version, found.source_identity, engine, generation),
                lineage=lineage,
                generation=generation,
                type=job_type.id,
                version=job_type.version,
                inputs=inputs.model_dump(mode="json"),
                engine=engine,
                priority=priority,
                preflight=found,
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


class Watch(Protocol):
    """Who looks after an attempt while it runs."""

    def progress(self, done: int) -> None:
        """Take note of the units done."""
        ...

    def answered(self) -> None:
        """Take note that the child is free: what is left is to settle."""
        ...

    def ordered(self) -> TaskOutcome | None:
        """Return what to settle when the child was killed on order; None when nobody ordered it."""
        ...


class TaskProcessor:
    """Runs claimed attempts in a child and settles them.

    Parameters
    ----------
    backoff : callable
        Seconds until the next attempt, from the number of failures so far.
    """

    def __init__(
        self,
        state: StateManager,
        types: JobTypes,
        publisher: WakeupPublisher,
        backoff: Callable[[int], float] | None = None,
    ) -> None:
        self._state = state
        self._types = types
        self._publisher = publisher
        self._backoff = backoff or _backoff

    def process(self, attempt: Attempt, child: ChildProcess, watch: Watch) -> TaskOutcome:
        """Run one attempt and settle it.

        Returns
        -------
        TaskOutcome
            What was settled; `Cancelled` also when the lease was lost.

        Raises
        ------
        TransientError
            The database does not answer: whether the attempt is settled is not known.
        """
        try:
            outcome, planned, shared = self._run(attempt, child, watch)
            watch.answered()
            settled = self.settle(attempt, outcome, planned, shared)
        except TransientError:
            raise
        except Exception as error:
            # Given back uncharged, it would be claimed and meet the same again, without end.
            trace = None if isinstance(error, CogmillError) else error
            log.warning("task %s met a defect: %s", attempt.task.label, error, exc_info=trace)
            child.kill()
            outcome = _defect(error)
            settled = self.settle(attempt, outcome)
        if settled is Settled.LOST:
            return Cancelled()
        if settled is Settled.STAGE_DONE:
            self._state.jobs.advance(attempt.task.job_id)
        if settled is Settled.STAGE_DONE or attempt.task.kind is TaskKind.PLAN:
            wakeups.flush(self._state, self._publisher)
        return outcome

    def settle(
        self,
        attempt: Attempt,
        outcome: TaskOutcome,
        planned: Iterable[Any] = (),
        shared: JsonValue = None,
    ) -> Settled:
        """Write an outcome, fenced; the one place that decides what each outcome means."""
        tasks = self._state.tasks
        match outcome:
            case Succeeded(result=result, peak_memory=peak):
                if attempt.task.kind is TaskKind.PLAN:
                    return tasks.succeed_plan(attempt, shared, planned, peak)
                return tasks.succeed(attempt, result, peak)
            case Failed(failure=failure):
                return tasks.fail(attempt, failure)
            case Retry(failure=failure):
                failures = attempt.task.failures + 1
                if failures >= attempt.task.max_failures:
                    return tasks.fail(attempt, failure)
                return tasks.retry(attempt, failure, self._backoff(failures))
            case Released():
                return tasks.release(attempt)
            case Cancelled():
                return Settled.LOST

    def _run(
        self, attempt: Attempt, child: ChildProcess, watch: Watch
    ) -> tuple[TaskOutcome, list[Any], JsonValue]:
        try:
            request = self._request(attempt)
            call = _Call(self._state, attempt.task.job_id, watch.progress)
            answer, planned = child.run(request, self._state.jobs.payload, call)
        except ChildDied as death:
            return watch.ordered() or Retry(failure=_death(death)), [], None
        match answer:
            case frames.Returned(value=value, peak_memory=peak):
                if attempt.task.kind is TaskKind.PLAN:
                    return Succeeded(result=None, peak_memory=peak), planned, value
                return Succeeded(result=value, peak_memory=peak), [], None
            case frames.Raised(failure=failure, detail=detail):
                log.debug("task %s failed: %s", attempt.task.label, detail)
                if failure.cause in (Cause.PERMANENT, Cause.SOURCE_CHANGED):
                    return Failed(failure=failure), [], None
                return Retry(failure=failure), [], None

    def _request(self, attempt: Attempt) -> frames.Run:
        task = attempt.task
        job = self._state.jobs.get(task.job_id)
        stage, shared, prepared = self._state.jobs.stage_shared(task.job_id, task.position)
        return frames.Run(
            what="plan" if task.kind is TaskKind.PLAN else "execute",
            job=_view(job, task.label),
            prepared=prepared,
            shared=shared,
            stage=stage,
            params=task.params,
            memory=task.memory,
        )

    def clean(
        self, claimed: CleanUp, child: ChildProcess, settle: Callable[[Failure | None], None]
    ) -> None:
        """Run one clean-up that is owed and settle it through `settle`."""
        job = self._state.jobs.get(claimed.job_id)
        request = frames.Run(
            what="clean",
            job=_view(job, f"c{claimed.attempt}"),
            prepared=job.prepared,
            successful=claimed.result_stays,
        )
        try:
            answer, _ = child.run(request, self._state.jobs.payload, _Call(self._state, job.id))
        except ChildDied as death:
            settle(_death(death))
            raise
        settle(answer.failure if isinstance(answer, frames.Raised) else None)


class _Call(Call):
    """Answers a child's questions from the state."""

    def __init__(
        self, state: StateManager, job: str, progress: Callable[[int], None] | None = None
    ) -> None:
        self._state = state
        self._job = job
        self._progress = progress

    def results(self, stage: str) -> Iterable[StageResult]:
        return self._state.jobs.results(self._job, stage)

    def progress(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done)


def _view(job: Job, attempt: str) -> JobView:
    return JobView(
        id=job.id,
        lineage=job.lineage,
        generation=job.generation,
        type=job.type,
        version=job.version,
        inputs=job.inputs,
        source_identity=job.source_identity,
        engine=job.engine,
        prepared=None,
        attempt=attempt,
    )


def _defect(error: Exception) -> Failed | Retry:
    if isinstance(error, CogmillError):
        message = error.message
        return Failed(
            failure=Failure(
                code=error.code, cause=Cause.PERMANENT, message=message, remedy=error.remedy
            )
        )
    message = f"{type(error).__name__}: {error}"[:1000]
    return Retry(failure=Failure(code="defect", cause=Cause.TRANSIENT, message=message))


def _death(death: ChildDied) -> Failure:
    return Failure(code="child-died", cause=Cause.LOST, message=str(death))


def _backoff(failures: int) -> float:
    """Exponential with jitter; the first retry is soon, since most causes pass at once."""
    return min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.5)
