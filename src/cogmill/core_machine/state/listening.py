"""Listening for NOTIFY, on a connection that no pool lends out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]


class Listener:
    """Waits for NOTIFY. Messages may be lost at any time (they are wake-ups), and nothing raises.

    For one thread; close it, or use it as a context manager.
    """

    def __init__(self, conninfo: str, channels: Sequence[str]) -> None:
        self._conninfo = conninfo
        self._channels = channels
        self._conn: Connection | None = None

    def wait(self, seconds: float) -> list[str]:
        """Wait for messages, at most that long, and return their payloads.

        An empty list means that the time is over or that the connection broke: look for yourself.
        """
        try:
            conn = self._connected()
        except psycopg.OperationalError:
            time.sleep(seconds)
            return []
        try:
            return [heard.payload for heard in conn.notifies(timeout=seconds, stop_after=1)]
        except psycopg.OperationalError:
            self.close()
            return []

    def close(self) -> None:
        """Stop listening."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def __enter__(self) -> Self:
        """Listen from now on, as far as the server answers."""
        self.wait(0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        self.close()

    def _connected(self) -> Connection:
        if self._conn is None:
            conn = psycopg.connect(self._conninfo, autocommit=True)
            for channel in self._channels:
                conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self._conn = conn
        return self._conn
