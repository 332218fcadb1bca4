"""A worker: one process, one row, N slots, one incarnation.

Threads: each slot owns a child and lives as long as the worker (the kernel kills a child when the
thread that spawned it ends); one thread beats; one listens for wake-ups; one reconciles.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from cogmill.core_machine.children import ChildDied, ChildProcess
from cogmill.core_machine.contracts import (
    Cancelled,
    Cause,
    CleanUp,
    Failure,
    JobTypes,
    Offer,
    Released,
    Retry,
    Task,
    TaskOutcome,
)
from cogmill.core_machine.orchestration import TaskProcessor
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.tasks import Attempt
from cogmill.core_machine.state.workers import Order, Progress
from cogmill.core_machine.wakeups import WakeupPublisher
from cogmill.errors import CogmillError
from cogmill.settings import Pace

log = logging.getLogger(__name__)

PARENT_MEMORY = 128 * 2**20
"""What the parent process itself may use of the worker's budget (measured: about 80 MiB)."""
CLEAN_RETRY_SECONDS = 30.0
CHANNEL = "cogmill_wakeup"
LISTEN_SECONDS = 0.5
"""How long a stop may wait for the listening thread."""


@dataclass(frozen=True)
class Equipment:
    """What a worker is built from; `runtime` puts it together."""

    state: StateManager
    types: JobTypes
    publisher: WakeupPublisher
    spawn: Callable[[], ChildProcess]
    pace: Pace


@dataclass
class _Held:
    """One attempt, or one clean-up, that a slot is busy with."""

    job_id: str
    child: ChildProcess
    memory: int
    task: Task | None = None
    done: int = 0
    order: str | None = None


@dataclass
class _Shared:
    """What the threads share, under `lock`."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    held: dict[int, _Held] = field(default_factory=dict)
    incarnation: uuid.UUID = field(default_factory=uuid.uuid4)
    engines: tuple[str, ...] = ()
    error: BaseException | None = None
    last_beat: float = 0.0
    pid: int = field(default_factory=os.getpid)


class Worker:
    """Claims tasks and clean-ups, runs them in children, beats, and reconciles.

    Parameters
    ----------
    slots : int
        Children that work at once.
    memory : int
        Bytes for the parent and its children together.
    host : str
        The reach that this worker offers besides ``any``.
    only_job : str or None
        Claim tasks of this job only.
    """

    def __init__(
        self, equipment: Equipment, *, slots: int, memory: int, host: str, only_job: str | None = None
    ) -> None:  # fmt: skip
        self._with = equipment
        self._pace = equipment.pace
        self._slots = slots
        self._memory = memory - PARENT_MEMORY
        self._host = host
        self._only_job = only_job
        self._shared = _Shared()
        self._processor = TaskProcessor(equipment.state, equipment.types, equipment.publisher)
        self._reconciler = SystemReconciler(equipment.state, equipment.publisher)
        self._stop = threading.Event()
        self._wake = threading.Condition()
        self._registered = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def incarnation(self) -> uuid.UUID:
        """The identity of this worker until it is declared dead."""
        return self._shared.incarnation

    @property
    def idle(self) -> bool:
        """Whether no slot is busy."""
        with self._shared.lock:
            return not self._shared.held

    @property
    def done(self) -> int:
        """Units of work that the running attempts report."""
        with self._shared.lock:
            return sum(held.done for held in self._shared.held.values())

    def children(self) -> list[int]:
        """Return the pids of busy children."""
        with self._shared.lock:
            return [held.child.pid for held in self._shared.held.values()]

    def start(self) -> None:
        """Start the threads and register; returns when the worker can claim.

        Raises
        ------
        CogmillError
            No child could be started, or the database does not answer.
        """
        for slot in range(self._slots):
            self._thread(f"slot-{slot}", self._slot)
        while not self._registered.wait(0.05):
            if self._shared.error is not None:
                self.stop()
                raise self._shared.error
        self._thread("beat", self._beat_loop)
        self._thread("listen", self._listen_loop)
        self._thread("reconcile", self._reconcile_loop)

    def wake(self) -> None:
        """Look for work now."""
        with self._wake:
            self._wake.notify_all()

    def stop(self) -> None:
        """Drain: kill the children, give their attempts back uncharged, retire the row."""
        self._stop.set()
        with self._shared.lock:
            for held in self._shared.held.values():
                held.order = held.order or "drain"
                held.child.kill()
        self.wake()
        for thread in self._threads:
            thread.join()
        if self._registered.is_set():
            try:
                self._with.state.workers.retire(self._shared.incarnation)
            except CogmillError as error:
                log.warning("the worker could not sign off; it will be found: %s", error)

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"cogmill-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    # --- slots --------------------------------------------------------------------------------

    def _slot(self) -> None:
        child: ChildProcess | None = None
        while not self._stop.is_set():
            try:
                child = child or self._with.spawn()
                self._register(child)
                if not self._work(child):
                    self._sleep()
            except ChildDied as death:
                log.debug("a slot lost its child: %s", death)
                if not self._registered.is_set():
                    self._shared.error = CogmillError(
                        f"no child process could be started: {death}", "see the log above"
                    )
                    return
                child = _closed(child)
            except CogmillError as error:
                log.warning("a slot waits: %s", error)
                self._forget_unknown_claims()
                self._sleep()
            except Exception as error:
                log.exception("a slot met a defect")
                self._shared.error = error
                child = _closed(child)
                self._sleep()
        _closed(child)

    def _register(self, child: ChildProcess) -> None:
        with self._shared.lock:
            if self._registered.is_set():
                return
            self._shared.engines = tuple(sorted(set(child.engines.values())))
            self._enter()
            self._registered.set()

    def _enter(self) -> None:
        """Take an incarnation: a new row."""
        self._shared.incarnation = uuid.uuid4()
        self._with.state.workers.register(
            self._shared.incarnation,
            Offer(
                host=self._host,
                pid=os.getpid(),
                slots=self._slots,
                memory=self._memory,
                job_types=tuple(self._with.types.ids()),
                engines=self._shared.engines,
                reaches=("any", self._host),
                only_job=self._only_job,
                beat_seconds=self._pace.beat,
                suspect_seconds=self._pace.suspect,
            ),
        )
        self._shared.last_beat = time.monotonic()

    def _work(self, child: ChildProcess) -> bool:
        claimed = self._claim(child)
        if claimed is None:
            return self._clean(child)
        attempt, held = claimed
        slot = threading.get_ident()
        try:
            self._processor.process(
                attempt, child, lambda done: setattr(held, "done", done), lambda: _outcome(held)
            )
        finally:
            with self._shared.lock:
                self._shared.held.pop(slot, None)
        if held.order is not None or not child.alive:
            raise ChildDied(-9, "killed on order" if held.order else "ended")
        # Its end may have freed memory, closed a stage or ended the job.
        self.wake()
        return True

    def _claim(self, child: ChildProcess) -> tuple[Attempt, _Held] | None:
        # One claim at a time: `free` and the set of known claims must not change under it.
        with self._shared.lock:
            if self._stop.is_set():
                return None
            free = self._memory - sum(held.memory for held in self._shared.held.values())
            incarnation = self._shared.incarnation
            task = self._with.state.tasks.claim(incarnation, free)
            if task is None:
                return None
            held = _Held(job_id=task.job_id, child=child, memory=task.memory, task=task)
            self._shared.held[threading.get_ident()] = held
            return Attempt(task=task, incarnation=incarnation), held

    def _forget_unknown_claims(self) -> None:
        """A claim whose COMMIT got no reply may have been made: nobody works on it."""
        with self._shared.lock:
            known = [held.task.id for held in self._shared.held.values() if held.task is not None]
            try:
                self._with.state.tasks.release_unknown_claims(self._shared.incarnation, known)
            except CogmillError as error:
                log.debug("still no database: %s", error)

    def _clean(self, child: ChildProcess) -> bool:
        with self._shared.lock:
            incarnation = self._shared.incarnation
            claimed = self._with.state.cleanups.claim(incarnation)
            if claimed is None:
                return False
            self._shared.held[threading.get_ident()] = _Held(
                job_id=claimed.job_id, child=child, memory=0
            )
        try:
            self._processor.clean(claimed, child, lambda failure: self._settle(claimed, failure))
        finally:
            with self._shared.lock:
                self._shared.held.pop(threading.get_ident(), None)
        return True

    def _settle(self, claimed: CleanUp, failure: Failure | None) -> None:
        delay = 0.0 if failure is None else CLEAN_RETRY_SECONDS
        if failure is not None:
            log.warning("clean-up after job %s failed: %s", claimed.job_id[:12], failure)
        self._with.state.cleanups.settle(self._shared.incarnation, claimed, failure, delay)

    def _sleep(self) -> None:
        with self._wake:
            if not self._stop.is_set():
                self._wake.wait(_jittered(self._pace.look))

    # --- heartbeat ----------------------------------------------------------------------------

    def _beat_loop(self) -> None:
        while not self._stop.wait(self._pace.beat):
            try:
                self.beat()
            except CogmillError as error:
                log.warning("a heartbeat was not answered: %s", error)
                if time.monotonic() - self._shared.last_beat > self._pace.lease:
                    self._kill_all("lost")

    def beat(self) -> None:
        """Beat once and obey the orders that come back."""
        with self._shared.lock:
            incarnation = self._shared.incarnation
            progress = [
                Progress(
                    task_id=held.task.id, attempt=held.task.attempt, job_id=held.job_id,
                    done=held.done,
                )
                for held in self._shared.held.values() if held.task is not None
            ]  # fmt: skip
        began = time.monotonic()
        orders = self._with.state.workers.beat(incarnation, progress)
        if orders is None:
            log.warning("this worker was declared dead; it begins a new incarnation")
            self._kill_all("lost")
            with self._shared.lock:
                self._enter()
            return
        self._shared.last_beat = began
        for order in orders:
            self._obey(order)

    def _obey(self, order: Order) -> None:
        with self._shared.lock:
            for held in self._shared.held.values():
                task = held.task
                if task and (task.id, task.attempt) == (order.task_id, order.attempt):
                    log.warning("task %s is %s: its child is killed", task.label, order.order)
                    held.order = order.order
                    held.child.kill()

    def _kill_all(self, order: str) -> None:
        with self._shared.lock:
            for held in self._shared.held.values():
                held.order = held.order or order
                held.child.kill()

    # --- listening and repairing --------------------------------------------------------------

    def _listen_loop(self) -> None:
        with self._with.state.database.notifications(CHANNEL) as listener:
            while not self._stop.is_set():
                if listener.wait(LISTEN_SECONDS):
                    self.wake()

    def _reconcile_loop(self) -> None:
        while not self._stop.wait(_jittered(self._pace.look)):
            try:
                if self._reconciler.step():
                    self.wake()
            except CogmillError as error:
                log.debug("not reconciling: %s", error)


def _outcome(held: _Held) -> TaskOutcome | None:
    match held.order:
        case None:
            return None
        case "drain":
            return Released()
        case "hung":
            message = "the task passed its deadline and was killed"
            return Retry(failure=Failure(code="hung", cause=Cause.HUNG, message=message))
        case _:
            return Cancelled()


def _closed(child: ChildProcess | None) -> None:
    if child is not None:
        child.close()


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.7, 1.3)
