"""The machine's clock, in the hands of a test."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg import sql


class Clock:
    """The machine's clock, which stands still until it is moved."""

    def __init__(self, conninfo: str, now: datetime) -> None:
        self._conninfo = conninfo
        self.now = now
        self.set(now)

    def set(self, now: datetime) -> None:
        """Replace the body of ``cogmill.now()``."""
        replace = sql.SQL(
            "CREATE OR REPLACE FUNCTION cogmill.now() RETURNS timestamptz "
            "LANGUAGE sql STABLE AS {body}"
        )
        body = sql.SQL("SELECT {now}::timestamptz").format(now=now.isoformat())
        with psycopg.connect(self._conninfo) as conn:
            conn.execute(replace.format(body=body.as_string(conn)))
        self.now = now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.set(self.now + timedelta(seconds=seconds))


@pytest.fixture
def clock(address: str) -> Clock:
    """Stop the database's clock at the present."""
    with psycopg.connect(address) as conn:
        row = conn.execute("SELECT statement_timestamp()").fetchone()
    assert row is not None
    return Clock(address, row[0])
