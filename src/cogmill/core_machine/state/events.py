"""Events: what happened, in an order that readers can page by."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from cogmill.core_machine.contracts import Value
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import fetch

PAGE = 500
"""So many events are read at a time."""


class Event(Value):
    """One thing that happened; (`xid`, `id`) is its place in the order that readers page by."""

    id: int
    xid: int
    at: datetime
    job_id: str
    kind: str
    stage: str | None
    task: str | None
    data: dict[str, JsonValue]


class Events:
    """The event table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, after: tuple[int, int] = (0, 0), job_id: str | None = None) -> list[Event]:
        """Return the events after the place `after`, before which no other can still appear."""
        xid, number = after
        with self._database.transaction() as conn:
            rows = fetch(conn, "page_events", xid=str(xid), id=number, job_id=job_id, limit=PAGE)
        return [Event.model_validate(row) for row in rows]
