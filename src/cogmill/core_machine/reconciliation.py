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

from cogmill.core_machine.clock import wall_seconds
from cogmill.core_machine.contracts import Cause, Failure, Retry, TaskKind, Value
from cogmill.core_machine.model.outcomes import no_room
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import ServerBusy
from cogmill.core_machine.state.tasks import Oversized, Settled, Stuck
from cogmill.core_machine.transitions import wakeups
from cogmill.core_machine.transitions.settlement import Settlement
from cogmill.core_machine.transitions.wakeups import WakeupPublisher
from cogmill.errors import TransientError

log = logging.getLogger(__name__)

WAKE_SECONDS = 60.0
"""Seconds after which a message counts as lost, where no worker looks by itself."""
ROOM_SECONDS = 30.0
"""Seconds that a task may wait for a worker with more memory before it is planned again smaller."""
ENDLESS_CLEAN_SECONDS = 1200.0
"""Seconds that a clean-up may be claimed: twice what its worker gives it, `in_flight`."""
THOROUGH_SECONDS = 20.0
"""Seconds between two sweeps that look at everything, in a process that sweeps often."""
HUNG = Failure(code="hung", cause=Cause.HUNG, message="the task passed its deadline")
FORGOTTEN = Failure(
    code="lost", cause=Cause.LOST, message="its worker lives and does not know of the task"
)
ABANDONED = Failure(code="lost", cause=Cause.LOST, message="the clean-up never ended")


class Action(Value):
    """One thing found and, unless it was a dry run, repaired."""

    finder: str
    subject: str
    reason: str


@dataclass(frozen=True)
class _Repair:
    action: Action
    apply: Callable[[], object]


def _found(finder: Callable[[], Iterator[_Repair]]) -> list[_Repair]:
    try:
        return list(finder())
    except ServerBusy as error:
        # One look that takes too long must not keep the other finders from looking either.
        log.warning("a finder of the reconciler waits: %s", error)
        return []
    except TransientError:
        raise
    except Exception:
        # One record that cannot be read must not keep the other finders from looking.
        log.exception("a finder of the reconciler failed")
        return []


def _guarded(apply: Callable[[], object], what: str) -> None:
    try:
        apply()
    except ServerBusy as error:
        log.warning("%s is repaired later: %s", what, error)
    except TransientError:
        raise
    except Exception:
        # One record that cannot be repaired must not keep the others from it.
        log.exception("%s cannot be repaired", what)


class SystemReconciler:
    """One `step` looks at everything once; workers, `run` and the timer call it at intervals.

    Parameters
    ----------
    grace : float
        Seconds without a look of its own, an outage or a sleep of this machine, after which this
        reconciler trusts no suspicion from before: whoever was silent may have slept too.
    keep : float
        Seconds for which events, ended workers and sweeps are kept.
    """

    def __init__(
        self,
        state: StateManager,
        publisher: WakeupPublisher,
        *,
        grace: float = 20.0,
        keep: float = 30 * 86400.0,
    ) -> None:
        self._state = state
        self._publisher = publisher
        self._settlement = Settlement(state)
        self._grace = grace
        self._keep = keep
        self._has_messages = False
        self._looked_at: float | None = None
        self._thorough_at = 0.0

    def glance(self) -> list[Action]:
        """Take a step as a worker does at short intervals: thorough only now and then."""
        return self.step(thorough=wall_seconds() - self._thorough_at > THOROUGH_SECONDS)

    def step(self, *, dry_run: bool = False, thorough: bool = True) -> list[Action]:
        """Find and repair; returns what was found, in order.

        A failing record never stops a sweep.

        Parameters
        ----------
        dry_run : bool
            True: find only, and change nothing.
        thorough : bool
            False: leave out what looks at many rows and is rarely there.
        """
        began = wall_seconds()
        slept = self._looked_at is not None and began - self._looked_at > self._grace
        if slept and not dry_run:
            self._state.workers.renew_suspicions()
        run_id: int | None = None
        actions: list[Action] = []
        # After a sleep everybody gets the time to beat before anybody is called silent.
        watchful = () if slept else (self._suspects, self._silent)
        quick = (self._orphans, self._unadvanced, self._unsent)
        rare = (
            self._contradictions,
            self._stuck,
            self._oversized,
            self._endless_cleanups,
            self._unwoken,
        )
        for finder in (*watchful, *quick, *(rare if thorough else ())):
            for repair in _found(finder):
                actions.append(repair.action)
                run_id = self._record(run_id, repair.action, dry_run)
                if not dry_run:
                    _guarded(repair.apply, f"{repair.action.finder} {repair.action.subject}")
        if self._has_messages:
            # Once a sweep: a broker that is away is asked once a message.
            self._has_messages = False
            _guarded(partial(wakeups.flush, self._state, self._publisher), "wake-ups")
        if run_id is not None:
            self._finish(run_id)
        if thorough and not dry_run:
            self._keep_the_record()
            self._thorough_at = began
        # Only a look that went through counts: what follows an outage is a first look again.
        self._looked_at = wall_seconds()
        return actions

    # --- workers ------------------------------------------------------------------------------

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

    # --- jobs ---------------------------------------------------------------------------------

    def _unadvanced(self) -> Iterator[_Repair]:
        for job in self._state.jobs.unadvanced():
            reason = "no task of the current stage is open, or one has failed"
            yield self._advance("settled, not advanced", job, reason)

    def _contradictions(self) -> Iterator[_Repair]:
        for job, reason in self._state.jobs.contradictions():
            yield self._advance("contradiction", job, reason)

    def _advance(self, finder: str, job: str, reason: str) -> _Repair:
        action = Action(finder=finder, subject=job, reason=reason)
        return _Repair(action, partial(self._state.jobs.advance, job))

    # --- tasks and clean-ups ------------------------------------------------------------------

    def _stuck(self) -> Iterator[_Repair]:
        for stuck in self._state.tasks.stuck():
            failure = FORGOTTEN if stuck.forgotten else HUNG
            action = Action(
                finder="forgotten task" if stuck.forgotten else "hung task",
                subject=f"{stuck.attempt.task.job_id[:12]} {stuck.attempt.task.key}",
                reason=failure.message,
            )
            yield _Repair(action, partial(self._take_back, stuck, failure))

    def _take_back(self, stuck: Stuck, failure: Failure) -> None:
        if self._settlement.settle(stuck.attempt, Retry(failure=failure)) is Settled.STAGE_DONE:
            self._state.jobs.advance(stuck.attempt.task.job_id)

    def _oversized(self) -> Iterator[_Repair]:
        for task in self._state.tasks.oversized(ROOM_SECONDS):
            yield _Repair(
                Action(finder="task without room", subject=f"{task.job_id[:12]} {task.key}",
                       reason=_no_room(task)),
                partial(self._make_room, task),
            )  # fmt: skip

    def _make_room(self, task: Oversized) -> None:
        if task.kind is not TaskKind.PLAN:
            self._state.tasks.split_waiting(task)
        elif self._state.tasks.refuse_waiting(task, _too_small(task)):
            self._state.jobs.advance(task.job_id)

    def _endless_cleanups(self) -> Iterator[_Repair]:
        for claimed, incarnation in self._state.cleanups.endless(ENDLESS_CLEAN_SECONDS):
            yield _Repair(
                Action(finder="endless clean-up", subject=claimed.job_id,
                       reason=f"claimed more than {ENDLESS_CLEAN_SECONDS:.0f} s ago"),
                partial(self._state.cleanups.settle, incarnation, claimed, ABANDONED, 0.0),
            )  # fmt: skip

    # --- wake-ups -----------------------------------------------------------------------------

    def _unsent(self) -> Iterator[_Repair]:
        for reference in self._state.wakeups.unsent():
            yield _Repair(
                Action(finder="wake-up not sent", subject=reference, reason="still in the outbox"),
                self._send,
            )

    def _unwoken(self) -> Iterator[_Repair]:
        for job, reason in self._state.wakeups.unwoken(WAKE_SECONDS):
            yield _Repair(
                Action(finder="lost wake-up", subject=job, reason=reason), partial(self._wake, job)
            )

    def _wake(self, job: str) -> None:
        self._state.wakeups.owe(job)
        self._send()

    def _send(self) -> None:
        self._has_messages = True

    def _bury(self, incarnation: UUID) -> None:
        self._advance_all(self._state.workers.declare_dead(incarnation) or [])

    def _rescue(self, incarnation: UUID) -> None:
        self._advance_all(self._state.workers.rescue(incarnation))

    def _advance_all(self, jobs: list[str]) -> None:
        for job in jobs:
            self._state.jobs.advance(job)

    # --- its own record -----------------------------------------------------------------------

    def _record(self, run_id: int | None, action: Action, dry_run: bool) -> int | None:
        log.info("reconcile %s: %s: %s", action.finder, action.subject, action.reason)
        if dry_run:
            return None
        try:
            if run_id is None:
                run_id = self._state.reconciliations.begin(dry_run)
            self._state.reconciliations.record(run_id, action.finder, action.subject, action.reason)
        except Exception as error:
            log.warning("the reconciler could not record what it does: %s", error)
        return run_id

    def _finish(self, run_id: int) -> None:
        try:
            self._state.reconciliations.finish(run_id)
        except Exception as error:
            log.warning("the reconciler could not record that it ended: %s", error)

    def _keep_the_record(self) -> None:
        try:
            self._state.reconciliations.note()
            self._state.reconciliations.prune(self._keep)
        except Exception as error:
            log.warning("the reconciler could not keep its record: %s", error)


def _too_small(task: Oversized) -> Failure:
    error = no_room("a plan", task.memory, task.budget)
    return Failure(
        code=error.code, cause=Cause.PERMANENT, message=error.message, remedy=error.remedy
    )


def _no_room(task: Oversized) -> str:
    return f"needs {task.memory} bytes, and no live worker has more than {task.budget}"
