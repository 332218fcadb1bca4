"""The outbox: wake-ups that are to be sent."""

from __future__ import annotations

from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import execute, fetch


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
