"""The worker that a message's process is: a queue trigger holds it and hands it each message."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.orchestration import TaskProcessor
from cogmill.core_machine.transitions.claims import Processed
from cogmill.core_machine.transitions.wakeups import WakeupPublisher
from cogmill.core_machine.worker.worker import Worker
from cogmill.errors import TransientError


class MessageHost:
    """Does one piece of work a message, in whatever process the host has.

    The process becomes a worker at its first message and stays one: its threads beat between
    messages, its children wait for the next. A fork of it becomes a worker of its own.

    Parameters
    ----------
    open_worker : callable
        Opens what a worker on demand needs; once in each process.
    """

    def __init__(self, open_worker: Callable[[], AbstractContextManager[WorkerOnDemand]]) -> None:
        self._open_worker = open_worker
        self._opened: dict[int, _Opened] = {}

    def process(self, reference: str) -> bool:
        """Do one task or clean-up: of the job `reference`, or else whatever is due.

        Called with any message, late, doubled or wrong, by any thread, it does what there is to do
        and nothing twice. When it did something it sends the message on, as there may be more.

        Parameters
        ----------
        reference : str
            What a `WakeupPublisher` sent.

        Returns
        -------
        bool
            Whether there was anything to do.

        Raises
        ------
        TransientError
            The database does not answer, or the worker is stopping; let the message be delivered
            again.
        """
        # Looked up by process, because a fork inherits the table: a lock of its parent's may be
        # held by a thread that the fork does not have.
        opened = self._opened.setdefault(os.getpid(), _Opened(self._open_worker))
        return opened.worker().process(reference)

    def close(self) -> None:
        """Give back what runs and sign off."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            opened.close()


class WorkerOnDemand:
    """A worker without slots: whoever calls `process` lends it the thread, and it lends a child.

    Parameters
    ----------
    worker : Worker
        Not yet started.
    spawn : callable
        Makes a child.
    most : int
        Children that work at once; further calls wait.
    """

    def __init__(
        self,
        worker: Worker,
        processor: TaskProcessor,
        publisher: WakeupPublisher,
        spawn: Callable[[], ChildProcess],
        most: int,
    ) -> None:
        self._worker = worker
        self._processor = processor
        self._publisher = publisher
        self._spawn = spawn
        # One thread that stays: the kernel ends a child with the thread that spawned it, and the
        # threads of messages come and go.
        self._spawner = ThreadPoolExecutor(1, "cogmill-spawn")
        self._free = threading.Semaphore(most)
        self._idle: list[ChildProcess] = []

    def start(self) -> None:
        """Make the row, and keep it alive from now on."""
        with self._lent() as child:
            self._worker.row.register(child)
        self._worker.start()

    def process(self, reference: str) -> bool:
        """Do one piece of work; see `MessageHost.process`."""
        row = self._worker.row
        if row.is_stale:
            self._worker.heartbeat.step()  # the host slept: the row may be gone
        with self._lent() as child:
            processed = self._processor.process(row, child, reference)
        if processed is Processed.NOTHING:
            return False
        self._publisher.wake(reference)
        return True

    def stop(self) -> None:
        """Give back what runs, sign off and end the children."""
        self._worker.stop()
        self._spawner.shutdown()
        for child in self._idle:
            child.close()

    @contextmanager
    def _lent(self) -> Iterator[ChildProcess]:
        """Give a living child to one caller, and keep it for the next if it lives on."""
        while not self._free.acquire(timeout=0.5):
            self._refuse_while_stopping()
        try:
            self._refuse_while_stopping()
            child = self._waiting() or self._spawner.submit(self._spawn).result()
            try:
                yield child
            finally:
                if child.alive and not self._worker.row.in_flight.draining:
                    self._idle.append(child)
                else:
                    child.close()
        finally:
            self._free.release()

    def _waiting(self) -> ChildProcess | None:
        """Return a living child that waits for work, if there is one."""
        with suppress(IndexError):
            while True:
                child = self._idle.pop()
                if child.alive:
                    return child
                child.close()
        return None

    def _refuse_while_stopping(self) -> None:
        if self._worker.row.in_flight.draining:
            raise TransientError("the worker is stopping", "deliver the message again")


class _Opened:
    """The worker of one process, opened at its first use."""

    def __init__(self, open_worker: Callable[[], AbstractContextManager[WorkerOnDemand]]) -> None:
        self._open_worker = open_worker
        self._lock = threading.Lock()
        self._parts = ExitStack()
        self._worker: WorkerOnDemand | None = None

    def worker(self) -> WorkerOnDemand:
        with self._lock:
            if self._worker is None:
                worker = self._parts.enter_context(self._open_worker())
                worker.start()
                self._parts.callback(worker.stop)
                self._worker = worker
            return self._worker

    def close(self) -> None:
        with self._lock:
            self._worker = None
            self._parts.close()
