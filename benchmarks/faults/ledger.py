"""The side table: what units really did, whatever a system believes; standard library only.

It is an SQLite file of its own, not a table of the system under test: it must be writable while
that system's server is down, and it must tell on every system alike.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BUSY_SECONDS = 30.0


@dataclass(frozen=True)
class Note:
    """What one execution of a unit noted."""

    token: str
    what: str
    at: float


class Ledger:
    """One file for the trials of one system, and a folder of files that let held units go.

    Parameters
    ----------
    path : Path or str
        The file; its folder exists.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def create(self) -> None:
        """Make the table."""
        with self._open() as conn:
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute(
                "CREATE TABLE note (unit TEXT NOT NULL, token TEXT NOT NULL, what TEXT NOT NULL,"
                " at REAL NOT NULL)"
            )
            conn.execute("CREATE INDEX note_unit ON note (unit)")

    def add(self, unit: str, token: str, what: str) -> int:
        """Note one thing, committed on return; tells how many such notes the unit had before."""
        with self._open() as conn:
            conn.execute("BEGIN IMMEDIATE")
            row = conn.execute(
                "SELECT count(*) FROM note WHERE unit = ? AND what = ?", (unit, what)
            ).fetchone()
            conn.execute("INSERT INTO note VALUES (?, ?, ?, ?)", (unit, token, what, time.time()))
            conn.execute("COMMIT")
        return int(row[0])

    def notes(self, unit: str, what: str) -> list[Note]:
        """Return what the executions of a unit noted, oldest first."""
        with self._open() as conn:
            rows = conn.execute(
                "SELECT token, what, at FROM note WHERE unit = ? AND what = ? ORDER BY at",
                (unit, what),
            ).fetchall()
        return [Note(*row) for row in rows]

    def let_go(self, unit: str, at: float = 0.0) -> None:
        """Let executions of the unit that hold go on, at that instant or at once."""
        path = self._go(unit)
        path.with_suffix(".new").write_text(f"{at}")
        # Renamed, so that nobody reads half an instant.
        path.with_suffix(".new").rename(path)

    def gone(self, unit: str) -> float | None:
        """Return the instant at which a held unit may go on, None while there is none."""
        try:
            return float(self._go(unit).read_text())
        except FileNotFoundError:
            return None

    def _go(self, unit: str) -> Path:
        return self.path.parent / f"{unit}.go"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        conn = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            yield conn
        finally:
            conn.close()
