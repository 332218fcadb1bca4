"""What each outcome of an attempt means: the one place that decides it, for whoever settles."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from pydantic import JsonValue

from cogmill.core_machine.child.process import ChildDied
from cogmill.core_machine.contracts import (
    Cancelled,
    Cause,
    Failed,
    Failure,
    PlannedTask,
    Released,
    Retry,
    Split,
    Succeeded,
    Task,
    TaskKind,
    TaskOutcome,
)
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.tasks import Attempt, Settled
from cogmill.errors import CogmillError

MAX_BACKOFF_SECONDS = 600.0
MEMORY_DEATHS = 2
"""So often may a task die of memory before it is planned again, in half of what it had."""


class Settlement:
    """Writes outcomes, fenced.

    Parameters
    ----------
    backoff : callable, optional
        Seconds until the next attempt, from the number of failures so far.
    """

    def __init__(self, state: StateManager, backoff: Callable[[int], float] | None = None) -> None:
        self._state = state
        self._backoff = backoff or exponential

    def settle(
        self,
        attempt: Attempt,
        outcome: TaskOutcome,
        planned: Iterable[PlannedTask] = (),
        shared: JsonValue = None,
    ) -> Settled:
        """Write an outcome; `planned` and `shared` are what a plan or a split returned."""
        tasks, task = self._state.tasks, attempt.task
        match decided(task, outcome):
            case Succeeded(peak_memory=peak) if task.kind is TaskKind.PLAN:
                return tasks.succeed_plan(attempt, shared, planned, peak)
            case Succeeded(peak_memory=peak) if task.kind is TaskKind.SPLIT:
                return tasks.succeed_split(attempt, planned, peak)
            case Succeeded(result=result, peak_memory=peak):
                return tasks.succeed(attempt, result, peak)
            case Failed(failure=failure):
                return tasks.fail(attempt, failure)
            case Retry(failure=failure):
                return tasks.retry(attempt, failure, self._backoff(task.failures + 1))
            case Split(failure=failure, budget=budget):
                return tasks.split(attempt, failure, budget)
            case Released():
                return tasks.release(attempt)
            case Cancelled():
                return Settled.LOST


def decided(task: Task, outcome: TaskOutcome) -> TaskOutcome:
    """Return what an outcome comes to for this task: a retry may be one too many, or too large."""
    match outcome:
        case Retry(failure=Failure(cause=Cause.MEMORY) as failure) if (
            task.kind is TaskKind.WORK and task.memory_failures + 1 >= MEMORY_DEATHS
        ):
            return Split(failure=failure, budget=max(1, task.memory // 2))
        case Retry(failure=failure) if task.failures + 1 >= task.max_failures:
            return Failed(failure=failure)
        case _:
            return outcome


def exponential(failures: int) -> float:
    """Return seconds with jitter; the first retry is soon, since most causes pass at once."""
    return min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.5)


def defect(error: Exception) -> Failed | Retry:
    """Return what an attempt comes to whose settling met an error that was not foreseen."""
    if isinstance(error, CogmillError):
        message = error.message
        return Failed(
            failure=Failure(
                code=error.code, cause=Cause.PERMANENT, message=message, remedy=error.remedy
            )
        )
    message = f"{type(error).__name__}: {error}"[:1000]
    return Retry(failure=Failure(code="defect", cause=Cause.TRANSIENT, message=message))


def death_failure(death: ChildDied) -> Failure:
    """Return what a person is told about an attempt whose child died."""
    cause = Cause.MEMORY if death.of_memory else Cause.LOST
    return Failure(code="child-died", cause=cause, message=str(death))
