"""Waits of the machine that are meant for people and networks, cut short while a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cogmill.core_machine import orchestration, reconciliation
from cogmill.core_machine.state import workers
from cogmill.core_machine.transitions import preflight
from cogmill.core_machine.worker import in_flight, worker

SHORT: tuple[tuple[Any, str, float], ...] = (
    (in_flight, "CLEAN_SECONDS", 3.0),
    (preflight, "PREFLIGHT_SECONDS", 5.0),
    (reconciliation, "ENDLESS_CLEAN_SECONDS", 6.0),
    (reconciliation, "ROOM_SECONDS", 0.3),
    (reconciliation, "THOROUGH_SECONDS", 0.3),
    (reconciliation, "WAKE_SECONDS", 0.3),
    (orchestration, "CLEAN_RETRY_SECONDS", 0.1),
    (worker, "STOP_SECONDS", 3.0),
    (workers, "RESCUE_DELAY_SECONDS", 0.2),
)


@contextmanager
def hurried() -> Iterator[None]:
    """Wait less, for as long as this lasts."""
    before = [(module, name, getattr(module, name)) for module, name, _ in SHORT]
    for module, name, seconds in SHORT:
        setattr(module, name, seconds)
    try:
        yield
    finally:
        for module, name, seconds in before:
            setattr(module, name, seconds)
