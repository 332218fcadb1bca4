"""The worker that a message's process is: a queue trigger holds it and hands it each message."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.orchestration import TaskProcessor
from cogmill.core_machine.transitions.claims import Processed
from cogmill.core_machine.transitions.wakeups import WakeupPublisher
from cogmill.core_machine.worker.worker import Worker
from cogmill.errors import TransientError

AnswerT = TypeVar("AnswerT")


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
    """A worker whose work is brought by messages; each is done in a thread of the worker's own.

    Whoever calls `process` only waits there, so that what interrupts the caller (a signal handler,
    a time limit of the host) never leaves a claim or a child in the middle. The kernel ends a child
    with the thread that spawned it; the worker's threads stay, and so do their children.

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
        self._threads = ThreadPoolExecutor(most, "cogmill-message")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._children: list[ChildProcess] | None = []

    def start(self) -> None:
        """Make the row, and keep it alive from now on."""
        self._in_thread(lambda: self._worker.row.register(self._child()))
        self._worker.start()

    def process(self, reference: str) -> bool:
        """Do one piece of work; see `MessageHost.process`."""
        processed = self._in_thread(lambda: self._process(reference))
        if processed is Processed.NOTHING:
            return False
        self._publisher.wake(reference)
        return True

    def stop(self) -> None:
        """Give back what runs, sign off and end the children."""
        self._worker.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            children, self._children = self._children, None
        for child in children or ():
            child.close()

    def _process(self, reference: str) -> Processed:
        row = self._worker.row
        if row.is_stale:
            self._worker.heartbeat.step()  # the host slept: the row may be gone
        if row.in_flight.draining:
            raise _stopping()
        return self._processor.process(row, self._child(), reference)

    def _child(self) -> ChildProcess:
        """Return the living child of this thread."""
        child: ChildProcess | None = getattr(self._own, "child", None)
        if child is not None and child.alive:
            return child
        started = self._spawn()
        with self._lock:
            stopped = self._children is None
            if self._children is not None:
                self._children = [kept for kept in self._children if kept is not child]
                self._children.append(started)
        if child is not None:
            child.close()
        if stopped:
            started.close()
            raise _stopping()
        self._own.child = started
        return started

    def _in_thread(self, work: Callable[[], AnswerT]) -> AnswerT:
        try:
            return self._threads.submit(work).result()
        except (RuntimeError, CancelledError):
            if self._worker.row.in_flight.draining:
                raise _stopping() from None
            raise


def _stopping() -> TransientError:
    return TransientError("the worker is stopping", "deliver the message again")


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
                with ExitStack() as parts:
                    worker = parts.enter_context(self._open_worker())
                    parts.callback(worker.stop)
                    worker.start()
                    self._parts, self._worker = parts.pop_all(), worker
            return self._worker

    def close(self) -> None:
        with self._lock:
            self._worker = None
            self._parts.close()
