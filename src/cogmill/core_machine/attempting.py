"""AttemptRunner: runs claimed attempts and clean-ups in a child, and settles them.

A job type appears here as what its contract says and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from pydantic import JsonValue

from cogmill.core_machine import frames, wakeups
from cogmill.core_machine.children import Call, ChildDied, ChildProcess
from cogmill.core_machine.contracts import (
    Adoptable,
    Cancelled,
    Cause,
    CleanUp,
    Failed,
    Failure,
    Job,
    JobView,
    PlannedTask,
    Retry,
    StageResult,
    Succeeded,
    Task,
    TaskKind,
    TaskOutcome,
)
from cogmill.core_machine.settling import Settlement
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.tasks import Attempt, Settled
from cogmill.core_machine.wakeups import WakeupPublisher
from cogmill.errors import CogmillError, TransientError

log = logging.getLogger(__name__)

_WHAT: dict[TaskKind, frames.What] = {
    TaskKind.PLAN: "plan",
    TaskKind.WORK: "execute",
    TaskKind.SPLIT: "split",
}


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


class AttemptRunner:
    """Runs claimed attempts in a child and settles them."""

    def __init__(self, state: StateManager, publisher: WakeupPublisher) -> None:
        self._state = state
        self._publisher = publisher
        self._settlement = Settlement(state)

    def run(self, attempt: Attempt, child: ChildProcess, watch: Watch) -> TaskOutcome:
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
            settled = self._settlement.settle(attempt, outcome, planned, shared)
        except TransientError:
            raise
        except Exception as error:
            # Given back uncharged, it would be claimed and meet the same again, without end.
            trace = None if isinstance(error, CogmillError) else error
            log.warning("task %s met a defect: %s", attempt.task.label, error, exc_info=trace)
            child.kill()
            outcome = _defect(error)
            settled = self._settlement.settle(attempt, outcome)
        if settled is Settled.LOST:
            return Cancelled()
        if settled is Settled.STAGE_DONE:
            self._state.jobs.advance(attempt.task.job_id)
        if settled is Settled.STAGE_DONE or attempt.task.kind is not TaskKind.WORK:
            wakeups.flush(self._state, self._publisher)
        return outcome

    def _run(
        self, attempt: Attempt, child: ChildProcess, watch: Watch
    ) -> tuple[TaskOutcome, list[PlannedTask], JsonValue]:
        try:
            request = self._request(attempt)
            call = _Call(self._state, attempt.task, watch.progress)
            answer, planned = child.run(request, self._state.jobs.payload, call)
        except ChildDied as death:
            return watch.ordered() or Retry(failure=_death(death)), [], None
        match answer:
            case frames.Returned(value=value, peak_memory=peak):
                if attempt.task.kind is not TaskKind.WORK:
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
            what=_WHAT[task.kind],
            job=_view(job, task.label),
            prepared=prepared,
            shared=shared,
            stage=stage,
            params=task.params,
            memory=task.memory,
            budget=task.split_budget or 0,
            whole=task.split_memory or 0,
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
            answer, _ = child.run(request, self._state.jobs.payload, Call())
        except ChildDied as death:
            settle(_death(death))
            raise
        settle(answer.failure if isinstance(answer, frames.Raised) else None)


class _Call(Call):
    """Answers a child's questions from the state."""

    def __init__(self, state: StateManager, task: Task, progress: Callable[[int], None]) -> None:
        self._state = state
        self._task = task
        self._progress = progress

    def results(self, stage: str) -> Iterable[StageResult]:
        return self._state.jobs.results(self._task.job_id, stage)

    def adoptable(self) -> Iterable[Adoptable]:
        return self._state.generations.adoptable(self._task.job_id, self._task.position)

    def progress(self, done: int) -> None:
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
    cause = Cause.MEMORY if death.of_memory else Cause.LOST
    return Failure(code="child-died", cause=cause, message=str(death))
