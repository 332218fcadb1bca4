"""A slot of a worker: one thread, one child, and one piece of work after the other."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.transitions.claims import Processed
from cogmill.core_machine.worker.parts import WorkerParts
from cogmill.core_machine.worker.row import WorkerRow
from cogmill.errors import CogmillError

log = logging.getLogger(__name__)


def jittered(seconds: float) -> float:
    """Return about so many seconds, so that workers that began together drift apart."""
    return seconds * random.uniform(0.7, 1.3)


class Bell:
    """Wakes whoever waits."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def ring(self) -> None:
        """Wake everybody who waits now."""
        with self._condition:
            self._condition.notify_all()

    def wait(self, seconds: float, unless: Callable[[], bool]) -> None:
        """Wait for a ring, at most so long, and not at all when `unless` is true."""
        with self._condition:
            if not unless():
                self._condition.wait(seconds)


class Slot:
    """Looks for work, and does it in its child.

    It runs in a thread that lives as long as the worker, because the kernel ends a child with the
    thread that spawned it.

    Parameters
    ----------
    bell : Bell
        Rings when there may be work; the slot rings it when its own work has made some.
    """

    def __init__(self, parts: WorkerParts, row: WorkerRow, bell: Bell) -> None:
        self._parts = parts
        self._row = row
        self._bell = bell
        self._child: ChildProcess | None = None
        self.error: Exception | None = None
        """Why there is no row yet."""

    def run(self) -> None:
        """Work until the worker drains."""
        while not self._row.in_flight.draining:
            try:
                if not self.step():
                    self._sleep()
            except Exception as error:
                self._take_note(error)
                self._sleep()
        self.close()

    def step(self) -> bool:
        """Do one piece of work; return whether there was any, and all of it is settled.

        Raises
        ------
        CogmillError
            The child does not start, or the database does not answer.
        """
        if self._child is not None and not self._child.alive:
            self.close()
        if self._child is None:
            self._child = self._parts.spawn()
        self._row.register(self._child)
        processed = self._parts.processor.process(self._row, self._child)
        settled = processed is Processed.SETTLED
        if settled:
            # Its end may have freed memory, closed a stage or ended the job.
            self._bell.ring()
        # What is not settled may be claimed again at once and meet the same, without end.
        return settled

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _take_note(self, error: Exception) -> None:
        if not self._row.registered:
            self.error = error  # whoever starts the worker is told
        elif isinstance(error, CogmillError):
            log.warning("a slot waits: %s", error)
        else:
            log.error("a slot met a defect", exc_info=error)

    def _sleep(self) -> None:
        in_flight = self._row.in_flight
        self._bell.wait(jittered(self._parts.pace.look), lambda: in_flight.draining)
