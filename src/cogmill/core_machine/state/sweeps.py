"""Sweeps: what the reconciler found and did, and why."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import execute, fetch_one

BATCH = 1000
"""So many rows of each table are removed at a time."""


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

    def prune(self, age: float) -> int:
        """Remove events, ended workers and sweeps older than `age` seconds, a batch of each."""

        def work(conn: Connection[Any]) -> int:
            names = ("prune_events", "prune_workers", "prune_sweeps")
            return sum(execute(conn, name, age=age, limit=BATCH) for name in names)

        return self._database.run(work, name="prune", repeatable=True)
