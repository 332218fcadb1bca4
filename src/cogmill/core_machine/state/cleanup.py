"""Clean-up that is owed: claimed, run in a child, settled, like a task."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from psycopg import Connection

from cogmill.core_machine.contracts import CleanUp, Failure
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import (
    execute,
    fetch,
    fetch_one,
    jsonb,
)


class CleanUps:
    """The cleanup table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, incarnation: UUID) -> CleanUp | None:
        """Claim a clean-up that is due, once no attempt of its job can still write.

        Nor may a live job own the destination.
        """
        row = self._database.run(
            lambda conn: fetch_one(conn, "claim_cleanup", incarnation=incarnation),
            name="claim clean-up",
        )
        return None if row is None else CleanUp.model_validate(row)

    def release_unknown(self, incarnation: UUID, held: Collection[str]) -> int:
        """Give back what a claim without a reply may have taken; `held` are the known job ids."""
        return self._database.run(
            lambda conn: execute(
                conn, "release_unknown_cleanups", incarnation=incarnation, held=list(held)
            ),
            name="release unknown clean-ups",
            repeatable=True,
        )

    def settle(
        self, incarnation: UUID, claimed: CleanUp, failure: Failure | None, delay: float
    ) -> bool:
        """End an attempt: done, or due again after `delay` seconds. False when it was not ours."""
        touched = self._database.run(
            lambda conn: execute(
                conn, "settle_cleanup", job_id=claimed.job_id, attempt=claimed.attempt,
                incarnation=incarnation, failure=jsonb(failure), delay=delay,
            ),
            name="settle clean-up",
            repeatable=True,
        )  # fmt: skip
        return touched == 1

    def endless(self, patience: float) -> list[tuple[CleanUp, UUID]]:
        """Find clean-ups that were claimed `patience` seconds ago, each with its incarnation."""
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_endless_cleanups", patience=patience)
        return [
            (
                CleanUp.model_validate({name: row[name] for name in CleanUp.model_fields}),
                row["incarnation"],
            )
            for row in rows
        ]

    def owed(self, job_id: str) -> bool:
        """Whether a clean-up of the job, or of an earlier one with its destination, is due."""
        with self._database.transaction() as conn:
            return fetch_one(conn, "owed_cleanup", job_id=job_id) is not None

    def under_way(self, owns: str | None) -> bool:
        """Whether somebody who may be alive is just removing what lies at a destination."""
        with self._database.transaction() as conn:
            return under_way(conn, owns) is not None


def under_way(conn: Connection[Any], owns: str | None) -> str | None:
    """Return a job whose leftovers at a destination are just being removed.

    Until the transaction ends nobody begins to: what is owed there is locked.
    """
    rows = fetch(conn, "lock_cleanups", owns=owns)
    return next((row["job_id"] for row in rows if row["under_way"]), None)
