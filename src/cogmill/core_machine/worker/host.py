"""The worker of whatever process a host has: each message does one piece of work in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from cogmill.core_machine.worker.worker import Worker


class TaskProcessor:
    """The queue trigger: does one piece of work a message, in whatever process the host has.

    The process becomes a worker at its first message and stays one: its threads beat between
    messages, its children wait for the next. A fork of it becomes a worker of its own.

    Parameters
    ----------
    open_worker : callable
        Opens what a worker needs, and the worker, not yet started; once in each process.
    """

    def __init__(self, open_worker: Callable[[], AbstractContextManager[Worker]]) -> None:
        self._open_worker = open_worker
        self._hosts: dict[int, _Host] = {}

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
            The database does not answer; let the message be delivered again.
        """
        # By process, and never a lock from before a fork, which a thread that is gone may hold.
        host = self._hosts.setdefault(os.getpid(), _Host(self._open_worker))
        return host.worker().do_one(reference)

    def close(self) -> None:
        """Give back what runs and sign off."""
        host = self._hosts.pop(os.getpid(), None)
        if host is not None:
            host.close()


class _Host:
    """The worker of one process, opened at its first use."""

    def __init__(self, open_worker: Callable[[], AbstractContextManager[Worker]]) -> None:
        self._open_worker = open_worker
        self._lock = threading.Lock()
        self._parts = ExitStack()
        self._worker: Worker | None = None

    def worker(self) -> Worker:
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
