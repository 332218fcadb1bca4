"""Listening for NOTIFY, on a connection that no pool lends out."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]


class Listener:
    """Waits for NOTIFY. Messages may be lost at any time (they are wake-ups), and nothing raises.

    For one thread, but for `interrupt`; close it, or use it as a context manager.
    """

    def __init__(self, conninfo: str, channels: Sequence[str]) -> None:
        self._conninfo = conninfo
        self._channels = channels
        self._conn: Connection | None = None
        self._interrupted, self._interrupting = socket.socketpair()

    def wait(self, seconds: float) -> list[str]:
        """Wait for messages, at most that long, and return their payloads.

        An empty list means that the time is over, that the connection broke or that `interrupt`
        was called: look for yourself.
        """
        try:
            conn = self._connected()
        except psycopg.OperationalError:
            self._sleep(seconds)
            return []
        try:
            heard = _heard(conn)
            if not heard:
                self._sleep(seconds, conn)
                heard = _heard(conn)
        except psycopg.OperationalError:
            self._disconnect()
            return []
        return heard

    def interrupt(self) -> None:
        """End the wait of another thread, and every later one; safe at any time."""
        with suppress(OSError):
            self._interrupting.send(b".")

    def close(self) -> None:
        """Stop listening, for good."""
        self._disconnect()
        self._interrupted.close()
        self._interrupting.close()

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _sleep(self, seconds: float, *awaited: Connection) -> None:
        poll = select.poll()  # select.select() takes no descriptor beyond 1023
        for descriptor in (self._interrupted.fileno(), *(one.fileno() for one in awaited)):
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

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


def _heard(conn: Connection) -> list[str]:
    return [heard.payload for heard in conn.notifies(timeout=0, stop_after=1)]
