"""A worker: one process, one row, N slots; here they are started and stopped.

Threads: one for each slot, one that beats, one that watches the lease, one that listens for
wake-ups, one that reconciles. On demand there are no slots: messages of a host bring the work.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable

from cogmill.core_machine.state.database.listener import Listener
from cogmill.core_machine.worker.heartbeat import Heartbeat
from cogmill.core_machine.worker.parts import Place, WorkerParts
from cogmill.core_machine.worker.row import WorkerRow
from cogmill.core_machine.worker.slot import Bell, Slot, jittered
from cogmill.errors import TransientError

log = logging.getLogger(__name__)

CHANNEL = "cogmill_wakeup"
LISTEN_SECONDS = 5.0
"""Seconds that the listening thread waits before it looks whether its connection still lives."""
STOP_SECONDS = 10.0
"""Seconds that a stop may wait for threads that wait for the database."""


class Worker:
    """Starts and stops what a worker consists of.

    Attributes
    ----------
    row : WorkerRow
        In whose name it claims.
    heartbeat : Heartbeat
        What keeps the row alive.
    """

    def __init__(self, parts: WorkerParts, place: Place) -> None:
        self.row = WorkerRow(parts, place)
        self.heartbeat = Heartbeat(self.row)
        self._parts = parts
        self._bell = Bell()
        slots = 0 if place.on_demand else place.slots
        self._slots = [Slot(parts, self.row, self._bell) for _ in range(slots)]
        self._stopping = threading.Event()
        self._listener: Listener | None = None
        self._slot_threads: list[threading.Thread] = []
        self._services: list[threading.Thread] = []
        self._pid = os.getpid()

    @property
    def incarnation(self) -> uuid.UUID:
        """The identity of this worker until it is declared dead."""
        return self.row.incarnation

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self.row.in_flight.all()

    @property
    def done(self) -> int:
        """Units of work that the running attempts report."""
        return sum(held.done for held in self.row.in_flight.all())

    def children(self) -> list[int]:
        """Return the pids of busy children."""
        return [held.child.pid for held in self.row.in_flight.all()]

    def start(self) -> None:
        """Start the threads; returns when the worker has its row and can claim.

        Raises
        ------
        CogmillError
            No child could be started, or the database does not answer.
        """
        self._slot_threads = [
            self._thread(f"slot-{number}", slot.run) for number, slot in enumerate(self._slots)
        ]
        while self._slots and not self.row.wait_registered(0.05):
            for slot in self._slots:
                if slot.error is not None:
                    self.stop()
                    raise slot.error
        beat, look = self._parts.pace.beat, self._parts.pace.look
        listener = self._listener = self._parts.state.database.notifications(CHANNEL)
        self._services = [
            self._service("beating", lambda: beat, self.heartbeat.step),
            self._service("watching", lambda: beat / 2, self.row.watch),
            self._service("reconciling", lambda: jittered(look), self._reconcile),
            self._thread("listening", lambda: self._listen(listener)),
        ]

    def wake(self) -> None:
        """Look for work now."""
        self._bell.ring()

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
        in_flight = self.row.in_flight
        in_flight.drain()
        self.wake()
        hurry = hurry or threading.Event()
        until = time.monotonic() + grace
        while not self.idle and time.monotonic() < until and not hurry.wait(0.05):
            pass
        in_flight.kill_all("drain")
        _join(self._slot_threads)
        self._wait_settled()
        self._stopping.set()
        if self._listener is not None:
            self._listener.interrupt()
        _join(self._services)
        self.row.retire()

    def _wait_settled(self) -> None:
        """Wait until what was killed is settled, also by threads that are not slots."""
        until = time.monotonic() + STOP_SECONDS
        while not self.idle and time.monotonic() < until:
            time.sleep(0.02)

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"cogmill-{name}", daemon=True)
        thread.start()
        return thread

    def _service(
        self, what: str, seconds: Callable[[], float], step: Callable[[], object]
    ) -> threading.Thread:
        return self._thread(what, lambda: self._repeat(what, seconds, step))

    def _repeat(self, what: str, seconds: Callable[[], float], step: Callable[[], object]) -> None:
        """Take a step at intervals until the worker stops; no error ends that."""
        while not self._stopping.wait(seconds()):
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
        if self._parts.reconciler.glance():
            self.wake()


def _join(threads: Iterable[threading.Thread]) -> None:
    until = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
