"""Workers: registration, heartbeat with its orders, suspicion and death."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from cogmill.core_machine.contracts import Cause, Failure, Offer, Value
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import execute, fetch, fetch_one
from cogmill.core_machine.state.recording import record_event

LOST = Failure(
    code="lost", cause=Cause.LOST, message="the worker died or lost touch in the middle of the task"
)
RESCUE_DELAY_SECONDS = 5.0


class AttemptProgress(Value):
    """What a heartbeat says of one attempt: `done` counts the task's own units (pixels)."""

    task_id: int
    attempt: int
    job_id: str
    done: int


class Order(Value):
    """What a heartbeat brings back: this attempt is no longer the worker's, or hangs. Kill it."""

    task_id: int
    attempt: int
    order: Literal["cancelled", "lost", "hung"]


class Beaten(Value):
    """What a heartbeat brings back; `unswept` is seconds since a sweep was recorded."""

    orders: tuple[Order, ...]
    unswept: float | None


class SilentWorker(Value):
    """A worker that has missed its beats."""

    incarnation: UUID
    host: str
    pid: int


class Workers:
    """The worker table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, incarnation: UUID, offer: Offer) -> None:
        """Insert the row of a new incarnation."""
        # A list is an array to the database, a tuple is a record.
        values: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in offer.model_dump().items()
        }
        self._database.run(
            lambda conn: execute(conn, "register_worker", incarnation=incarnation, **values),
            name="register",
        )

    def beat(self, incarnation: UUID, progress: list[AttemptProgress]) -> Beaten | None:
        """Say that the worker lives, and hear which attempts it must kill.

        Returns
        -------
        Beaten or None
            None when the row is no longer live: kill all children, take a new incarnation.
        """
        held: JsonValue = [entry.model_dump(mode="json") for entry in progress]
        row = self._database.run(
            lambda conn: fetch_one(conn, "beat", incarnation=incarnation, progress=Jsonb(held)),
            name="beat",
            repeatable=True,
        )
        return None if row is None else Beaten.model_validate(row)

    def retire(self, incarnation: UUID) -> None:
        """End an incarnation in good order; its attempts have been settled or released before."""

        def work(conn: Connection[Any]) -> None:
            execute(conn, "retire_worker", incarnation=incarnation)
            execute(conn, "release_cleanups", incarnation=incarnation)

        self._database.run(work, name="retire", repeatable=True)

    def has_work_ahead(self, incarnation: UUID) -> bool:
        """Whether tasks are open that this worker could take, or clean-ups are due."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "has_work_ahead", incarnation=incarnation)
        return bool(row and row["ahead"])

    def engines(self) -> set[str]:
        """Return the engines that live workers offer."""
        with self._database.transaction() as conn:
            return {row["engine"] for row in fetch(conn, "live_engines")}

    def silent(self) -> list[SilentWorker]:
        """Find live workers that are due for the first look."""
        return self._find("find_silent_workers")

    def suspects(self) -> list[SilentWorker]:
        """Find suspected workers that are due for the second look."""
        return self._find("find_dead_workers")

    def stale_suspicions(self) -> list[SilentWorker]:
        """Find suspicions that a restart of PostgreSQL has made worthless."""
        return self._find("find_stale_suspicions")

    def _find(self, name: str) -> list[SilentWorker]:
        with self._database.transaction() as conn:
            rows = fetch(conn, name)
        return [
            SilentWorker(incarnation=row["incarnation"], host=row["host"], pid=row["pid"])
            for row in rows
        ]

    def suspect(self, incarnation: UUID) -> bool:
        """Take the first look; true when the worker is now suspected."""
        touched = self._database.run(
            lambda conn: (
                execute(conn, "suspect_worker", incarnation=incarnation)
                + execute(conn, "renew_suspicion", incarnation=incarnation)
            ),
            name="suspect",
            repeatable=True,
        )
        return touched == 1

    def renew_suspicions(self) -> None:
        """Begin the wait for the second look anew, for all that are suspected."""
        self._database.run(
            lambda conn: execute(conn, "renew_suspicions"), name="renew", repeatable=True
        )

    def declare_dead(self, incarnation: UUID) -> list[str] | None:
        """Take the second look: the worker is dead and its tasks are free, in one transaction.

        Returns
        -------
        list of str or None
            The jobs that must be advanced because a task ran out of attempts; None when the
            worker was not dead after all.
        """

        def work(conn: Connection[Any]) -> list[str] | None:
            if execute(conn, "declare_dead", incarnation=incarnation) == 0:
                return None
            return _rescue(conn, incarnation)

        return self._database.run(work, name="bury", repeatable=True)

    def orphaned(self) -> set[UUID]:
        """Find incarnations that hold tasks or clean-ups and are not live."""
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_orphaned_tasks") + fetch(conn, "find_orphaned_cleanups")
        return {row["incarnation"] for row in rows}

    def rescue(self, incarnation: UUID) -> list[str]:
        """Free what an incarnation that is no longer live still holds."""
        return self._database.run(
            lambda conn: _rescue(conn, incarnation), name="rescue", repeatable=True
        )


def _rescue(conn: Connection[Any], incarnation: UUID) -> list[str]:
    failure = Jsonb(LOST.model_dump(mode="json"))
    rows = fetch(
        conn, "rescue_tasks", incarnation=incarnation, failure=failure, delay=RESCUE_DELAY_SECONDS
    )
    execute(conn, "release_cleanups", incarnation=incarnation)
    for row in rows:
        kind = "task rescued" if row["status"] == "ready" else "task failed"
        record_event(conn, row["job_id"], kind, task=row["key"], data={"cause": "lost"})
    for job_id in sorted({row["job_id"] for row in rows}):
        execute(conn, "bump_wakeup", job_id=job_id, delay=0)
    return sorted({row["job_id"] for row in rows if row["status"] == "failed"})
