"""How sleeping workers are woken: references, never data; losing them all costs latency only."""

from __future__ import annotations

import logging
from typing import Protocol

from cogmill.core_machine.state import StateManager

log = logging.getLogger(__name__)


class WakeupPublisher(Protocol):
    """Tells whoever may work that a job has something to do."""

    def wake(self, reference: str) -> None:
        """Send one wake-up; it may be lost, doubled or late."""
        ...


class NotifyPublisher:
    """Wakes the workers that listen on PostgreSQL."""

    def __init__(self, state: StateManager) -> None:
        self._state = state

    def wake(self, reference: str) -> None:
        """NOTIFY in a transaction of its own."""
        self._state.wakeups.notify(reference)


def flush(state: StateManager, publisher: WakeupPublisher) -> int:
    """Send what the outbox owes, one wake-up a job however often it was bumped; return how many.

    What the publisher could not send is owed again: a broker that is away costs time only.
    """
    references = state.wakeups.take()
    for reference in references:
        try:
            publisher.wake(reference)
        except Exception as error:
            log.warning("the wake-up of job %s could not be sent: %s", reference[:12], error)
            state.wakeups.owe(reference)
    return len(references)
