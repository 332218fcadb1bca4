"""What happened, for readers: events, wake-ups to send, and the reconciler's own record."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection
from pydantic import JsonValue

from cogmill.core_machine.contracts import Value
from cogmill.core_machine.state.database import Database
from cogmill.core_machine.state.rows import execute, fetch, fetch_one


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

    def page(
        self, after: tuple[int, int] = (0, 0), job_id: str | None = None, limit: int = 500
    ) -> list[Event]:
        """Return the events after the place `after`, before which no other can still appear."""
        xid, number = after
        with self._database.transaction() as conn:
            rows = fetch(conn, "page_events", xid=str(xid), id=number, job_id=job_id, limit=limit)
        return [Event.model_validate(row) for row in rows]


class Wakeups:
    """The outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self) -> list[str]:
        """Take what is due to be told; losing it afterwards costs latency only."""
        return self._database.run(
            lambda conn: [row["job_id"] for row in fetch(conn, "take_wakeups")],
            name="take wake-ups",
            repeatable=True,
        )

    def owe(self, job_id: str) -> None:
        """Owe one more wake-up."""
        self._database.run(
            lambda conn: execute(conn, "bump_wakeup", job_id=job_id, delay=0), name="owe wake-up"
        )

    def unwoken(self, patience: float) -> list[tuple[str, str]]:
        """Find jobs that have something to do and whose messages seem lost, each with the reason.

        Parameters
        ----------
        patience : float
            Seconds since the last message after which it counts as lost, where no worker lives.
        """
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_unwoken_jobs", patience=patience)
        return [(row["job_id"], row["reason"]) for row in rows]

    def unsent(self) -> list[str]:
        """Find wake-ups that somebody owed and did not send."""
        with self._database.transaction() as conn:
            return [row["job_id"] for row in fetch(conn, "unsent_wakeups")]

    def notify(self, reference: str) -> None:
        """Wake whoever listens, in a transaction of its own: NOTIFY serialises commits."""
        self._database.run(
            lambda conn: execute(conn, "notify", reference=reference),
            name="notify",
            repeatable=True,
        )


class Reconciliations:
    """The record of what the reconciler found and did, and why."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, dry_run: bool) -> int:
        """Record that a sweep begins."""

        def work(conn: Connection[Any]) -> int:
            row = fetch_one(conn, "begin_run", dry_run=dry_run)
            return int(row["id"]) if row else 0

        return self._database.run(work, name="begin sweep")

    def record(self, run_id: int, finder: str, subject: str, reason: str) -> None:
        """Record one action with its reason."""
        self._database.run(
            lambda conn: execute(
                conn, "record_action", run_id=run_id, finder=finder, subject=subject, reason=reason
            ),
            name="record action",
        )

    def finish(self, run_id: int) -> None:
        """Record that the sweep ended."""
        self._database.run(
            lambda conn: execute(conn, "finish_run", run_id=run_id),
            name="finish sweep",
            repeatable=True,
        )

    def note(self) -> None:
        """Record that somebody looked, at most once a minute: a silence is an alarm."""
        self._database.run(lambda conn: execute(conn, "note_sweep"), name="note sweep")

    def silent_seconds(self) -> float | None:
        """Return how long ago the last sweep was recorded, None when none ever was."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "last_sweep")
        return None if row is None or row["seconds"] is None else float(row["seconds"])

    def prune(self, age: float, limit: int = 1000) -> int:
        """Remove events, ended workers and sweeps older than `age` seconds, a batch of each."""

        def work(conn: Connection[Any]) -> int:
            names = ("prune_events", "prune_workers", "prune_sweeps")
            return sum(execute(conn, name, age=age, limit=limit) for name in names)

        return self._database.run(work, name="prune", repeatable=True)
