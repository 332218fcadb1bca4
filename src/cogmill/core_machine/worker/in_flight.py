"""What a worker holds: claimed attempts and clean-ups that are not settled yet.

The lock is short: it is never held during a call of the database, so that a silent one stops
nobody from killing children.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from uuid import UUID

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.contracts import (
    Cancelled,
    Cause,
    CleanUp,
    Failure,
    Released,
    Retry,
    Task,
    TaskOutcome,
)
from cogmill.core_machine.state.workers import AttemptProgress, Order

log = logging.getLogger(__name__)

CLEAN_SECONDS = 600.0
"""Seconds that one clean-up may take; a task's deadline comes with the task."""


@dataclass(eq=False)
class InFlight:
    """One claimed attempt or clean-up and the child that works on it."""

    work: Task | CleanUp
    incarnation: UUID
    child: ChildProcess
    done: int = 0
    order: str | None = None
    settling: bool = False
    since: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)

    @property
    def task(self) -> Task | None:
        """The task; None for a clean-up."""
        return self.work if isinstance(self.work, Task) else None

    def progress(self, done: int) -> None:
        """Take note of the units done."""
        if done != self.done:
            self.moved = time.monotonic()
        self.done = done

    @property
    def stands_still(self) -> bool:
        """Whether its progress has not moved for longer than the task says it may."""
        limit = None if self.task is None else self.task.still_seconds
        return limit is not None and time.monotonic() - self.moved > limit

    def answered(self) -> None:
        """Take note that the child is free; an order to kill it comes too late and does harm."""
        self.settling = True

    def ordered(self) -> TaskOutcome | None:
        """Return what to settle when the child was killed on order."""
        match self.order:
            case None:
                return None
            case "drain":
                return Released()
            case "hung":
                message = "the task passed its deadline, or stood still, and was killed"
                return Retry(failure=Failure(code="hung", cause=Cause.HUNG, message=message))
            case _:
                return Cancelled()

    def kill(self, order: str) -> None:
        """Kill the child, once, for the first reason that is given."""
        if self.order is None and not self.settling:
            self.order = order
            self.child.kill()


class Holdings:
    """All that a worker has in flight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[InFlight] = []
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether nothing more can be put."""
        return self._draining

    def put(self, claimed: InFlight) -> bool:
        """Note what is about to be worked on; false when the worker drains."""
        with self._lock:
            if not self._draining:
                self._held.append(claimed)
            return not self._draining

    def drop(self, claimed: InFlight) -> None:
        """Note that nobody works on it any more."""
        with self._lock:
            self._held.remove(claimed)

    def all(self) -> list[InFlight]:
        """Return what is in flight now."""
        with self._lock:
            return list(self._held)

    def drain(self) -> None:
        """From now on nothing can be put."""
        with self._lock:
            self._draining = True

    def kill_all(self, order: str) -> None:
        """Kill all children."""
        for held in self.all():
            held.kill(order)

    def kill_hung(self) -> None:
        """Kill what no deadline of the database ends: what stands still, endless clean-ups."""
        for held in self.all():
            endless = held.task is None and time.monotonic() - held.since > CLEAN_SECONDS
            if endless or held.stands_still:
                held.kill("hung")

    def forgive(self, seconds: float) -> None:
        """Take note that this process slept so long: nobody can have moved meanwhile."""
        for held in self.all():
            held.since += seconds
            held.moved += seconds

    def obey(self, order: Order) -> None:
        """Kill the child of one attempt, if it is still held."""
        for held in self.all():
            task = held.task
            if task is not None and (task.id, task.attempt) == (order.task_id, order.attempt):
                if not held.settling:
                    log.warning("task %s is %s: its child is killed", task.label, order.order)
                held.kill(order.order)

    def report(self) -> list[AttemptProgress]:
        """Return what a heartbeat says of every attempt."""
        return [
            AttemptProgress(
                task_id=held.task.id,
                attempt=held.task.attempt,
                job_id=held.task.job_id,
                done=held.done,
            )
            for held in self.all()
            if held.task is not None
        ]

    def memory(self, idle: int) -> int:
        """Return the bytes that running tasks were promised, beyond those of idle children."""
        return sum(max(held.task.memory - idle, 0) for held in self.all() if held.task is not None)
