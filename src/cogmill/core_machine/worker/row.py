"""A worker's row in the database: the incarnation in whose name it claims, and its lease."""

from __future__ import annotations

import logging
import os
import threading
import uuid

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.clock import Silence, wall_seconds
from cogmill.core_machine.state.workers import Beaten
from cogmill.core_machine.transitions.claims import Finder
from cogmill.core_machine.worker.in_flight import Holdings, InFlight
from cogmill.core_machine.worker.parts import Place, WorkerParts
from cogmill.errors import CogmillError

log = logging.getLogger(__name__)

SLEPT_BEATS = 4
"""Missed beats in a row after which this process must have slept."""


class WorkerRow:
    """What the database knows of this worker, and what the worker holds in its name.

    One lock is held during every call of the database that says or changes what this incarnation
    holds: a claim, a beat, a new incarnation. So a beat knows of every claim before it, and no
    claim is doubted while it is being made.
    """

    def __init__(self, parts: WorkerParts, place: Place) -> None:
        self.in_flight = Holdings()
        self._parts = parts
        self._state = parts.state
        self._pace = parts.pace
        self._place = place
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._incarnation = uuid.uuid4()
        self._engines: tuple[str, ...] = ()
        self._silence = Silence(self._pace.beat / 2)
        self._beat_at = wall_seconds()
        self._doubtful = False
        self._registered = threading.Event()

    @property
    def incarnation(self) -> uuid.UUID:
        """The identity of this worker until it is declared dead."""
        return self._incarnation

    @property
    def has_lease(self) -> bool:
        """Whether the database has answered lately enough to claim."""
        return self._silence.seconds <= self._pace.lease

    @property
    def is_stale(self) -> bool:
        """Whether a beat is overdue: the row may be gone, and a claim would find nothing."""
        return wall_seconds() - self._beat_at > 2 * self._pace.beat

    def register(self, child: ChildProcess) -> None:
        """Make the row, once, with the engines that a child has.

        Raises
        ------
        CogmillError
            The database does not answer.
        """
        with self._lock:
            if not self._registered.is_set() and not self.in_flight.draining:
                self._engines = tuple(sorted(set(child.engines.values())))
                self._enter()
                self._registered.set()

    def wait_registered(self, seconds: float) -> bool:
        """Wait until there is a row; return whether there is one."""
        return self._registered.wait(seconds)

    @property
    def registered(self) -> bool:
        """Whether there is a row."""
        return self._registered.is_set()

    def claim(self, child: ChildProcess, find: Finder) -> InFlight | None:
        """Claim what `find` finds, unless the lease is over or the worker drains."""
        with self._lock:
            if self.in_flight.draining or not self.has_lease:
                return None
            incarnation = self._incarnation
            self._give_back_the_unknown()
            # Until it is noted as held, nobody knows what this claim may have made.
            self._doubtful = True
            held = self.in_flight.memory(self._place.idle_child_memory)
            work = find(incarnation, self._place.task_memory - held)
            claimed = None if work is None else InFlight(work, incarnation, child)
            if claimed is not None and not self.in_flight.put(claimed):
                self._give_back_the_unknown()
                return None
            self._doubtful = False
        return claimed

    def let_go(self, claim: InFlight, *, settled: bool) -> None:
        """Note that nobody works on it any more; unsettled, the database may count it as ours."""
        if settled:
            self.in_flight.drop(claim)
            return
        with self._lock:
            self._doubtful = True
            self.in_flight.drop(claim)

    def beat(self) -> Beaten | None:
        """Say that the worker lives and what it holds; return what comes back.

        Returns
        -------
        Beaten or None
            None when the row had ended: all children are killed, and there is a new incarnation.

        Raises
        ------
        CogmillError
            The database does not answer, or this is a fork of the worker's process.
        """
        # Before any lock: what a thread of the parent held when it forked stays held here.
        self._state.database.refuse_fork()
        with self._lock:
            self._forgive_sleep()
            # Before it is said what is held: a sweep would charge whatever is missing there.
            self._give_back_the_unknown()
            beaten = self._state.workers.beat(self._incarnation, self.in_flight.report())
            if beaten is None:
                log.warning("this worker was declared dead; it begins a new incarnation")
                self.in_flight.kill_all("lost")
                self._enter()
            else:
                self._silence.broken()
        return beaten

    def watch(self) -> None:
        """Kill the children once the lease is over, and what hangs."""
        if self._silence.passed() > self._pace.lease:
            self.in_flight.kill_all("lost")
        self.in_flight.kill_hung()

    def retire(self) -> None:
        """Sign off, when there is a row and the database answers."""
        if not self.registered or not self.has_lease:
            return
        try:
            self._state.workers.retire(self._incarnation)
        except CogmillError as error:
            log.warning("the worker could not sign off; it will be found: %s", error)

    def _enter(self) -> None:
        """Take an incarnation: a new row."""
        self._incarnation = uuid.uuid4()
        offer = self._parts.offer(self._place, self._pid, self._engines)
        self._state.workers.register(self._incarnation, offer)
        self._silence.broken()

    def _give_back_the_unknown(self) -> None:
        """Give back, uncharged, what this incarnation may hold and nobody works on."""
        if not self._doubtful:
            return
        held, state, mine = self.in_flight.all(), self._state, self._incarnation
        tasks = [one.task.id for one in held if one.task]
        state.tasks.release_unknown_claims(mine, tasks)
        state.cleanups.release_unknown(mine, [one.work.job_id for one in held if not one.task])
        self._doubtful = False

    def _forgive_sleep(self) -> None:
        """Give tasks the time back that this process was stopped, or its machine asleep."""
        slept = wall_seconds() - self._beat_at
        if slept > SLEPT_BEATS * self._pace.beat and self.in_flight.all():
            self.in_flight.forgive(slept)
            self._state.tasks.extend_deadlines(self._incarnation, slept)
        self._beat_at = wall_seconds()
