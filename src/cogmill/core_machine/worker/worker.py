"""A worker: one process, one row, N slots, one incarnation.

Threads: each slot owns a child and lives as long as the worker (the kernel kills a child when the
thread that spawned it ends); one thread beats; one watches the lease; one listens for wake-ups;
one reconciles. On demand, the slots wait for messages of their host instead of looking.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cogmill.core_machine.child.process import ChildDied, ChildProcess
from cogmill.core_machine.clock import Silence, wall_seconds
from cogmill.core_machine.contracts import CleanUp, Failure, Task
from cogmill.core_machine.orchestration import AttemptRunner
from cogmill.core_machine.state.database.listener import Listener
from cogmill.core_machine.state.tasks import Attempt
from cogmill.core_machine.worker.in_flight import Held, HeldWork
from cogmill.core_machine.worker.parts import Equipment, Place
from cogmill.errors import CogmillError, TransientError
from cogmill.settings import PARENT_MEMORY, idle_reserve

log = logging.getLogger(__name__)

CLEAN_RETRY_SECONDS = 30.0
CHANNEL = "cogmill_wakeup"
LISTEN_SECONDS = 5.0
"""How long the listening thread waits before it looks whether its connection still lives."""
STOP_SECONDS = 10.0
"""How long a stop may wait for threads that wait for the database."""
SLEPT_BEATS = 4
"""So many missed beats in a row are a sleep of this process, and no time that its tasks had."""
SWEEP_ALARM_SECONDS = 300.0
"""So long without a recorded sweep is an alarm: every worker sweeps, and records it each minute."""


@dataclass
class _Message:
    """A call of `do_one` that waits for a slot."""

    job_id: str
    answered: threading.Event = field(default_factory=threading.Event)
    did: bool = False
    error: Exception | None = None


class Worker:
    """Claims tasks and clean-ups, runs them in children, beats, and reconciles."""

    def __init__(self, equipment: Equipment, place: Place) -> None:
        self._with = equipment
        self._pace = equipment.pace
        self._place = place
        self._reserve = idle_reserve(place.memory, place.slots)
        #: Of one task, while all other slots wait.
        self._memory = place.memory - PARENT_MEMORY - (place.slots - 1) * self._reserve
        self._messages: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        self._held = HeldWork()
        # Held during calls of the database that say or change what this incarnation holds: a claim,
        # a beat, a new incarnation. So a beat knows of every claim before it, and none is doubted
        # that is just being made.
        self._claiming = threading.Lock()
        self._incarnation = uuid.uuid4()
        self._pid = os.getpid()
        self._engines: tuple[str, ...] = ()
        self._silence = Silence(self._pace.beat / 2)
        self._beat_at = self._begun_at = wall_seconds()
        self._doubtful = False
        self._error: Exception | None = None
        self._runner = AttemptRunner(equipment.state, equipment.publisher)
        self._closing = threading.Event()
        self._stop = threading.Event()
        self._wake = threading.Condition()
        self._listener: Listener | None = None
        self._registered = threading.Event()
        self._slots: list[threading.Thread] = []
        self._others: list[threading.Thread] = []

    @property
    def incarnation(self) -> uuid.UUID:
        """The identity of this worker until it is declared dead."""
        return self._incarnation

    @property
    def idle(self) -> bool:
        """Whether no slot is busy."""
        return not self._held.all()

    @property
    def done(self) -> int:
        """Units of work that the running attempts report."""
        return sum(held.done for held in self._held.all())

    def children(self) -> list[int]:
        """Return the pids of busy children."""
        return [held.child.pid for held in self._held.all()]

    def start(self) -> None:
        """Start the threads and register; returns when the worker can claim.

        Raises
        ------
        CogmillError
            No child could be started, or the database does not answer.
        """
        slots = [self._thread(f"slot-{n}", self._slot) for n in range(self._place.slots)]
        self._slots = slots
        while not self._registered.wait(0.05):
            if self._error is not None:
                self.stop()
                raise self._error
        beat, look = self._pace.beat, self._pace.look
        listener = self._listener = self._with.state.database.notifications(CHANNEL)
        self._others = [
            self._thread("beat", lambda: self._repeat("beating", lambda: beat, self.beat)),
            self._thread("lease", lambda: self._repeat("watching", lambda: beat / 2, self._watch)),
            self._thread(
                "reconcile",
                lambda: self._repeat("reconciling", lambda: _jittered(look), self._reconcile),
            ),
            self._thread("listen", lambda: self._listen(listener)),
        ]

    def wake(self) -> None:
        """Look for work now."""
        with self._wake:
            self._wake.notify_all()

    def do_one(self, reference: str) -> bool:
        """Do one task or clean-up, of the job `reference` before others; only on demand.

        Returns
        -------
        bool
            Whether there was anything to do; then the message is sent on, as there may be more.

        Raises
        ------
        CogmillError
            The database does not answer, or the worker is stopping.
        """
        self._with.state.database.refuse_fork()
        if wall_seconds() - self._beat_at > 2 * self._pace.beat:
            self.beat()  # the host slept: the row may be gone, and a claim would find nothing
        message = _Message(reference)
        self._messages.put(message)
        while not message.answered.wait(0.5):
            if self._closing.is_set():
                raise TransientError("the worker is stopping", "deliver the message again")
        if message.error is not None:
            raise message.error
        if message.did:
            self._with.publisher.wake(reference)
        return message.did

    def stop(self, grace: float = 0.0, hurry: threading.Event | None = None) -> None:
        """Drain: claim no more, wait, give back uncharged what still runs, retire the row.

        Parameters
        ----------
        grace : float
            Seconds that running attempts get to end by themselves.
        hurry : threading.Event, optional
            Ends the grace when it is set.
        """
        if os.getpid() != self._pid:
            return  # a fork: the threads and the children are its parent's
        self._closing.set()
        self._held.drain()
        self.wake()
        for _ in self._slots:
            self._messages.put(None)
        hurry = hurry or threading.Event()
        until = time.monotonic() + grace
        while not self.idle and time.monotonic() < until and not hurry.wait(0.05):
            pass
        self._held.kill_all("drain")
        _join(self._slots)
        self._stop.set()
        if self._listener is not None:
            self._listener.interrupt()
        _join(self._others)
        if self._registered.is_set() and self._has_lease:
            try:
                self._with.state.workers.retire(self._incarnation)
            except CogmillError as error:
                log.warning("the worker could not sign off; it will be found: %s", error)

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"cogmill-{name}", daemon=True)
        thread.start()
        return thread

    # --- slots --------------------------------------------------------------------------------

    def _slot(self) -> None:
        child: ChildProcess | None = None
        while not self._closing.is_set():
            message: _Message | None = None
            try:
                child = child or self._with.spawn()
                self._register(child)
                if self._place.on_demand:
                    message = self._messages.get()
                did = self._work(child, message)
                if not self._place.on_demand and not did:
                    self._sleep()
            except Exception as error:
                self._recover(error, spawned=child is not None)
                if message is not None and isinstance(error, CogmillError):
                    message.error = None if message.did else error
            if message is not None:
                message.answered.set()
            if child is not None and not child.alive:
                child.close()
                child = None
        if child is not None:
            child.close()

    def _recover(self, error: Exception, *, spawned: bool) -> None:
        if not self._registered.is_set():
            self._error = error
            self._sleep()
        elif isinstance(error, ChildDied) and spawned:
            log.debug("a slot lost its child: %s", error)
        elif isinstance(error, CogmillError):
            log.warning("a slot waits: %s", error)
            self._sleep()
        else:
            log.error("a slot met a defect", exc_info=error)
            self._sleep()

    def _register(self, child: ChildProcess) -> None:
        with self._claiming:
            if not self._registered.is_set() and not self._closing.is_set():
                self._engines = tuple(sorted(set(child.engines.values())))
                self._enter()
                self._registered.set()

    def _enter(self) -> None:
        """Take an incarnation: a new row."""
        self._incarnation = uuid.uuid4()
        offer = self._with.offer(self._place, self._pid, self._memory, self._engines)
        self._with.state.workers.register(self._incarnation, offer)
        self._silence.broken()

    def _work(self, child: ChildProcess, message: _Message | None) -> bool:
        claimed = self._claim(child, None if message is None else message.job_id)
        if claimed is None:
            return False
        if message is not None:
            message.did = True
        work, incarnation, held = claimed
        settled = False
        try:
            if isinstance(work, Task):
                attempt = Attempt(task=work, incarnation=incarnation)
                self._runner.run(attempt, child, held)
            else:
                self._clean(work, incarnation, held)
            settled = held.order is None
        except BaseException:
            # It is in the middle of a talk that nobody will end.
            child.kill()
            raise
        finally:
            self._let_go(settled)
        if held.order is not None or not child.alive:
            raise ChildDied(-9, "killed on order" if held.order else "ended")
        # Its end may have freed memory, closed a stage or ended the job.
        self.wake()
        return True

    def _let_go(self, settled: bool) -> None:
        """Note that the calling slot is free, and whether its work may still count as ours."""
        if settled:
            self._held.drop()
            return
        with self._claiming:
            self._doubtful = True
            self._held.drop()

    def _claim(
        self, child: ChildProcess, first: str | None
    ) -> tuple[Task | CleanUp, uuid.UUID, Held] | None:
        with self._claiming:
            if self._closing.is_set() or not self._has_lease:
                return None
            incarnation = self._incarnation
            self._give_back_the_unknown()
            # Until it is noted as held, nobody knows what this claim may have made.
            self._doubtful = True
            state = self._with.state
            free = self._memory - self._held.memory(self._reserve)
            work = state.tasks.claim(incarnation, free, job_id=first) if first else None
            work = work or state.tasks.claim(incarnation, free)
            claimed = work or state.cleanups.claim(incarnation)
            if claimed is not None:
                held = Held(job_id=claimed.job_id, child=child, task=work)
                if not self._held.put(held):
                    self._give_back_the_unknown()
                    return None
            self._doubtful = False
        return None if claimed is None else (claimed, incarnation, held)

    def _give_back_the_unknown(self) -> None:
        """Give back, uncharged, what this incarnation may hold and no slot works on."""
        if not self._doubtful:
            return
        held, state, mine = self._held.all(), self._with.state, self._incarnation
        state.tasks.release_unknown_claims(mine, [one.task.id for one in held if one.task])
        state.cleanups.release_unknown(mine, [one.job_id for one in held if not one.task])
        self._doubtful = False

    def _clean(self, claimed: CleanUp, incarnation: uuid.UUID, held: Held) -> None:
        def settle(failure: Failure | None) -> None:
            if held.order == "drain":
                return  # signing off gives it back
            delay = 0.0
            if failure is not None:
                log.warning("clean-up after job %s failed: %s", claimed.job_id[:12], failure)
                delay = CLEAN_RETRY_SECONDS * 2.0 ** min(claimed.attempt - 1, 6)
            self._with.state.cleanups.settle(incarnation, claimed, failure, delay)

        self._runner.clean(claimed, held.child, settle)

    def _sleep(self) -> None:
        with self._wake:
            if not self._closing.is_set():
                self._wake.wait(_jittered(self._pace.look))

    # --- heartbeat ----------------------------------------------------------------------------

    @property
    def _has_lease(self) -> bool:
        return self._silence.seconds <= self._pace.lease

    def beat(self) -> None:
        """Beat once and obey the orders that come back.

        Raises
        ------
        CogmillError
            The database does not answer, or this is a fork of the worker's process.
        """
        # Before any lock: what a thread of the parent held when it forked stays held here.
        self._with.state.database.refuse_fork()
        with self._claiming:
            self._forgive_sleep()
            # Before it is said what is held: a sweep would charge whatever is missing there.
            self._give_back_the_unknown()
            beaten = self._with.state.workers.beat(self._incarnation, self._held.report())
            if beaten is None:
                log.warning("this worker was declared dead; it begins a new incarnation")
                self._held.kill_all("lost")
                self._enter()
                return
            self._silence.broken()
        for order in beaten.orders:
            self._held.obey(order)
        # Before this worker began there may have been nobody to sweep, and nothing to sweep for.
        unswept = min(beaten.unswept or 0.0, wall_seconds() - self._begun_at)
        if unswept > SWEEP_ALARM_SECONDS:
            log.error("no sweep of a reconciler was recorded for %.0f s", beaten.unswept)

    def _forgive_sleep(self) -> None:
        """Give tasks the time back that this process was stopped, or its machine asleep."""
        slept = wall_seconds() - self._beat_at
        if slept > SLEPT_BEATS * self._pace.beat and not self.idle:
            self._held.forgive(slept)
            self._with.state.tasks.extend_deadlines(self._incarnation, slept)
        self._beat_at = wall_seconds()

    def _watch(self) -> None:
        # A thread of its own: whoever speaks to a database that is silent waits.
        if self._silence.passed() > self._pace.lease:
            self._held.kill_all("lost")
        self._held.kill_hung()

    # --- listening and repairing --------------------------------------------------------------

    def _repeat(self, what: str, seconds: Callable[[], float], step: Callable[[], object]) -> None:
        """Run a step at intervals until the worker stops; no error ends that."""
        while not self._stop.wait(seconds()):
            try:
                step()
            except TransientError as error:
                log.warning("not %s: %s", what, error)
            except Exception:
                log.exception("%s met a defect", what)

    def _listen(self, listener: Listener) -> None:
        with listener:
            self._repeat("listening", lambda: 0.0, lambda: self._hear(listener))

    def _hear(self, listener: Listener) -> None:
        if listener.wait(LISTEN_SECONDS):
            self.wake()

    def _reconcile(self) -> None:
        if self._with.reconciler.glance():
            self.wake()


def _join(threads: Iterable[threading.Thread]) -> None:
    until = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.7, 1.3)
