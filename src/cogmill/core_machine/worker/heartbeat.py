"""The heartbeat of a worker: it says that the worker lives, and obeys the orders that come back."""

from __future__ import annotations

import logging

from cogmill.core_machine.clock import wall_seconds
from cogmill.core_machine.worker.row import WorkerRow

log = logging.getLogger(__name__)

SWEEP_ALARM_SECONDS = 300.0
"""Seconds without a recorded sweep that are an alarm: workers sweep, and note it each minute."""


class Heartbeat:
    """One `step` is one beat."""

    def __init__(self, row: WorkerRow) -> None:
        self._row = row
        self._begun_at = wall_seconds()

    def step(self) -> None:
        """Beat once and obey the orders that come back.

        Raises
        ------
        CogmillError
            The database does not answer, or this is a fork of the worker's process.
        """
        beaten = self._row.beat()
        if beaten is None:
            return
        for order in beaten.orders:
            self._row.in_flight.obey(order)
        # Before this worker began there may have been nobody to sweep, and nothing to sweep for.
        unswept = min(beaten.unswept or 0.0, wall_seconds() - self._begun_at)
        if unswept > SWEEP_ALARM_SECONDS:
            log.error("no sweep of a reconciler was recorded for %.0f s", beaten.unswept)
