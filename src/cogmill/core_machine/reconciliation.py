"""SystemReconciler: repairs what crashes, time-outs and lost messages leave behind.

Finders only read; each repair is one of the transitions that the processors call too. Ordered,
idempotent, safe in any number of copies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from cogmill.core_machine.contracts import Value
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.wakeups import WakeupPublisher
from cogmill.errors import CogmillError, TransientError

log = logging.getLogger(__name__)


class Action(Value):
    """One thing found and, unless it was a dry run, repaired."""

    finder: str
    subject: str
    reason: str


@dataclass(frozen=True)
class _Repair:
    action: Action
    apply: Callable[[], object]


def _apply(repair: _Repair) -> None:
    try:
        repair.apply()
    except TransientError:
        raise
    except Exception:
        # One record that cannot be repaired must not keep the others from it.
        log.exception("%s %s cannot be repaired", repair.action.finder, repair.action.subject)


class SystemReconciler:
    """One `step` looks at everything once; workers, `run` and the timer call it at intervals."""

    def __init__(self, state: StateManager, publisher: WakeupPublisher) -> None:
        self._state = state
        self._publisher = publisher

    def step(self, *, dry_run: bool = False) -> list[Action]:
        """Find and repair; returns what was found, in order.

        A sweep that finds nothing writes nothing. A failing record never stops a sweep.
        """
        run_id: int | None = None
        actions: list[Action] = []
        for finder in (self._suspects, self._silent, self._orphans, self._unadvanced, self._unsent):
            for repair in finder():
                actions.append(repair.action)
                run_id = self._record(run_id, repair.action, dry_run)
                if not dry_run:
                    _apply(repair)
        if run_id is not None:
            self._finish(run_id)
        return actions

    def _suspects(self) -> Iterator[_Repair]:
        for worker in self._state.workers.suspects():
            reason = f"no beat since it was suspected (host {worker.host}, pid {worker.pid})"
            yield _Repair(
                Action(finder="dead worker", subject=str(worker.incarnation), reason=reason),
                partial(self._bury, worker.incarnation),
            )

    def _silent(self) -> Iterator[_Repair]:
        workers = self._state.workers
        for worker in workers.silent() + workers.stale_suspicions():
            reason = f"missed its beats (host {worker.host}, pid {worker.pid})"
            yield _Repair(
                Action(finder="silent worker", subject=str(worker.incarnation), reason=reason),
                partial(workers.suspect, worker.incarnation),
            )

    def _orphans(self) -> Iterator[_Repair]:
        for incarnation in sorted(self._state.workers.orphaned()):
            yield _Repair(
                Action(
                    finder="lost tasks",
                    subject=str(incarnation),
                    reason="tasks or clean-ups are held by a worker that has ended",
                ),
                partial(self._rescue, incarnation),
            )

    def _unadvanced(self) -> Iterator[_Repair]:
        for job in self._state.jobs.unadvanced():
            yield _Repair(
                Action(
                    finder="settled, not advanced",
                    subject=job,
                    reason="no task of the current stage is open, or one has failed",
                ),
                partial(self._state.jobs.advance, job),
            )

    def _unsent(self) -> Iterator[_Repair]:
        # Taken and sent in one: between finding and sending there is nothing to decide.
        for reference in self._state.wakeups.unsent():
            yield _Repair(
                Action(finder="wake-up not sent", subject=reference, reason="still in the outbox"),
                self._flush,
            )

    def _flush(self) -> None:
        for reference in self._state.wakeups.take():
            self._publisher.wake(reference)

    def _bury(self, incarnation: UUID) -> None:
        self._advance_all(self._state.workers.declare_dead(incarnation) or [])

    def _rescue(self, incarnation: UUID) -> None:
        self._advance_all(self._state.workers.rescue(incarnation))

    def _advance_all(self, jobs: list[str]) -> None:
        for job in jobs:
            self._state.jobs.advance(job)

    def _record(self, run_id: int | None, action: Action, dry_run: bool) -> int | None:
        log.info("reconcile %s: %s: %s", action.finder, action.subject, action.reason)
        if dry_run:
            return None
        try:
            if run_id is None:
                run_id = self._state.reconciliations.begin(dry_run)
            self._state.reconciliations.record(run_id, action.finder, action.subject, action.reason)
        except CogmillError as error:
            log.warning("the reconciler could not record what it does: %s", error)
        return run_id

    def _finish(self, run_id: int) -> None:
        try:
            self._state.reconciliations.finish(run_id)
        except CogmillError as error:
            log.warning("the reconciler could not record that it ended: %s", error)
