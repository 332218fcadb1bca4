"""The way to PostgreSQL: pooled connections, transactions that know how they ended, notifications.

Embedded or external makes one difference: an embedded server that is gone is started again by the
`restart` that the holder of its lease hands in.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg import conninfo as address
from psycopg import errors, pq
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from cogmill import failpoints
from cogmill.core_machine.state.database import migrations
from cogmill.core_machine.state.database.listener import Listener
from cogmill.core_machine.state.database.migrations import Migration
from cogmill.core_machine.state.database.statements import statement
from cogmill.errors import CogmillError, DatabaseUnavailable, Refused

__all__ = [
    "Connection", "ConnectionLost", "Database", "OutcomeUnknown", "ServerBusy", "statement",
]  # fmt: skip

MINIMUM_VERSION = 14
EMBEDDED_PATIENCE_SECONDS = 130.0
EXTERNAL_PATIENCE_SECONDS = 30.0
IDLE_SECONDS = 60.0
"""How long a transaction may wait for a process that is frozen, by default."""

_LOOK_SECONDS = 5.0
_ATTEMPTS = 6
_BUSY = "try again; if it stays so, look into the log of the server"
_CHECK = "check COGMILL_DATABASE_URL and that the server runs"
# A dead peer behind a network is noticed within a minute and not after two hours.
_DEFAULTS: dict[str, str | int] = {
    "application_name": "cogmill",
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,
}
_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)
# The server ends the session after these, whatever libpq has noticed so far.
_ENDINGS = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.IdleInTransactionSessionTimeout,
    errors.IdleSessionTimeout,
)

# Neither the statement's fault nor the data's: no memory, too slow, an ill disk, or a standby.
_TROUBLES = ("53", "57", "58", "25006")

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]


class ConnectionLost(DatabaseUnavailable):
    """The connection broke before the commit: nothing was written. Try again."""


class OutcomeUnknown(DatabaseUnavailable):
    """The connection broke while the commit was on its way: it may or may not have happened."""

    code = "outcome-unknown"


class ServerBusy(DatabaseUnavailable):
    """The server could not do it just now: nothing was written. Try again."""

    code = "server-busy"


class _Conflict(ServerBusy):
    """Another transaction was before this one."""


class Database:
    """One database, used by any thread of the process that made this.

    Parameters
    ----------
    conninfo : str
        URL or key-value address. What it says goes before the defaults of this class.
    restart : callable, optional
        Starts the server when it does not answer (`Lease.ensure_running`); called from any thread.
    connections : int
        The most connections of the pool, listeners apart.
    patience_seconds : float, optional
        How long to try to connect, by default 30 s, or 130 s where a restart may have to recover.
    idle_seconds : float
        How long a transaction of a process that is frozen in the middle of it keeps its locks.

    Raises
    ------
    Refused
        The address cannot be read.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        restart: Callable[[], None] | None = None,
        connections: int = 4,
        patience_seconds: float | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        default = EMBEDDED_PATIENCE_SECONDS if restart else EXTERNAL_PATIENCE_SECONDS
        self._patience_seconds = default if patience_seconds is None else patience_seconds
        self._restart = restart
        self._idle_seconds = idle_seconds
        self._connections = connections
        self._process = os.getpid()
        self._opening = threading.Lock()
        self._opened = False
        _demand_escaped(conninfo)
        try:
            given = address.conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError:
            # Without its cause, which may quote the password.
            raise Refused("COGMILL_DATABASE_URL is no PostgreSQL address", _URL_REMEDY) from None
        self.conninfo = address.make_conninfo("", **{**_DEFAULTS, **given})
        self.name = f"{given.get('dbname', '')} on {given.get('host', 'this host')}"
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            self._reachable_address,
            min_size=1,
            max_size=connections,
            open=False,
            configure=self._configure,
            check=ConnectionPool.check_connection,
            num_workers=2,
            reconnect_timeout=self._patience_seconds,
            name="cogmill",
        )

    def close(self) -> None:
        """Close every connection of the pool. In a fork nothing happens: they are the parent's."""
        if os.getpid() == self._process:
            self._pool.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    # Transactions

    @contextmanager
    def transaction(self, name: str = "look") -> Iterator[Connection]:
        """Give a connection for one transaction: committed at the end, rolled back on an exception.

        Parameters
        ----------
        name : str
            What its commit is called as a failpoint.

        Raises
        ------
        ConnectionLost
            Before the commit: nothing was written.
        OutcomeUnknown
            During the commit.
        ServerBusy
            It met a lock, a time-out or a want of memory: nothing was written.
        DatabaseUnavailable
            No connection within the patience, or the disk of the server is full.
        """
        conn = self._take()
        try:
            try:
                yield conn
            except psycopg.Error as error:
                self._explain(conn, error)
                raise
            self._commit(conn, name)
        except BaseException:
            _roll_back(conn)
            raise
        finally:
            self._pool.putconn(conn)

    def run(
        self,
        work: Callable[[Connection], T],
        *,
        name: str = "transaction",
        repeatable: bool = False,
    ) -> T:
        """Run `work` in one transaction, and return what it returns.

        A transaction that lost against another one (deadlock, serialisation, lock time-out) wrote
        nothing and is run again, up to six times in all; so `work` must bear being called again.

        Parameters
        ----------
        work : callable
            Gets the connection.
        name : str
            What its commit is called as a failpoint.
        repeatable : bool
            True when doing it twice is the same as doing it once: then it is also run again when
            the connection broke, even when the first commit may have happened.

        Raises
        ------
        ConnectionLost, OutcomeUnknown, ServerBusy, DatabaseUnavailable
            As `transaction`.
        """
        attempt = 1
        while True:
            try:
                with self.transaction(name) as conn:
                    return work(conn)
            except _Conflict:
                if attempt == _ATTEMPTS:
                    raise
            except (ConnectionLost, OutcomeUnknown):
                if attempt == _ATTEMPTS or not repeatable:
                    raise
            time.sleep(random.uniform(0.5, 1.5) * 0.02 * 2**attempt)
            attempt += 1

    def _commit(self, conn: Connection, name: str) -> None:
        failpoints.reach(f"{name}.commit")
        try:
            conn.commit()
            failpoints.reach(f"{name}.committed")
        except failpoints.ReplyLost as error:
            conn.close()
            raise self._unknown() from error
        except psycopg.Error as error:
            if _is_lost(conn, error):
                raise self._unknown() from error
            self._explain(conn, error)
            raise

    def _unknown(self) -> OutcomeUnknown:
        message = f"the connection to {self.name} broke during a commit"
        return OutcomeUnknown(message, "look what is recorded before trying again")

    def _explain(self, conn: Connection, error: psycopg.Error) -> None:
        """Raise an error of ours where theirs is about the server, not about the statement."""
        if _is_lost(conn, error):
            message = f"the connection to {self.name} broke: {_line(error)}"
            raise ConnectionLost(message, _CHECK) from error
        if isinstance(error, errors.DiskFull):
            message = f"the disk of the database {self.name} is full: {_line(error)}"
            raise DatabaseUnavailable(message, "make room on that disk") from error
        message = f"the database {self.name} cannot do that just now: {_line(error)}"
        if isinstance(error, _CONFLICTS):
            raise _Conflict(message, _BUSY) from error
        if (error.sqlstate or "").startswith(_TROUBLES):
            raise ServerBusy(message, _BUSY) from error

    # Connecting

    def _take(self) -> Connection:
        self.refuse_fork()
        self._open()
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                return self._pool.getconn(timeout=min(_LOOK_SECONDS, self._patience_seconds))
            except PoolTimeout as error:
                # Either nobody answers, which this says at length, or all are busy.
                self._connect().close()
                if time.monotonic() >= deadline:
                    message = f"all {self._connections} connections to {self.name} are busy"
                    raise DatabaseUnavailable(message, "try again") from error
            except PoolClosed as error:
                message = f"the database {self.name} was closed"
                raise CogmillError(message, "open it anew") from error

    def _open(self) -> None:
        """Connect once outside the pool, whose own attempts would hide the reason, then open it."""
        with self._opening:
            if self._opened:
                return
            with self._connect() as conn:
                version = conn.info.server_version // 10_000
            if version < MINIMUM_VERSION:
                message = f"{self.name} is PostgreSQL {version}, older than {MINIMUM_VERSION}"
                raise Refused(message, "use a newer server, or the embedded one")
            self._pool.open()
            self._opened = True

    def _connect(self) -> Connection:
        """Connect; wait for a silent server, and give up at once on one that says no."""
        deadline = time.monotonic() + self._patience_seconds
        delay = 0.05
        while True:
            try:
                return psycopg.connect(self._reachable_address())
            except psycopg.OperationalError as error:
                if self._ping() == pq.Ping.OK or time.monotonic() >= deadline:
                    message = f"cannot connect to the database {self.name}: {_line(error)}"
                    raise DatabaseUnavailable(message, _CHECK) from error
            time.sleep(delay * random.uniform(0.5, 1.5))
            delay = min(2 * delay, 2.0)

    def _reachable_address(self) -> str:
        """Return the address, behind which the server runs as far as that is in our hands."""
        if self._restart is not None and self._ping() != pq.Ping.OK:
            self._restart()
        return self.conninfo

    def _ping(self) -> pq.Ping:
        return pq.Ping(pq.PGconn.ping(self.conninfo.encode()))

    def _configure(self, conn: Connection) -> None:
        conn.execute(statement("configure_session"), {"idle_ms": round(self._idle_seconds * 1000)})
        conn.commit()

    def refuse_fork(self) -> None:
        """Refuse in a fork of the process that made this, whose connections and locks it shares.

        Raises
        ------
        CogmillError
            This is a fork.
        """
        if os.getpid() != self._process:
            message = f"the database of process {self._process} was used in its fork {os.getpid()}"
            raise CogmillError(message, "open a database in each process")

    # Schema

    def migrate(self, known: Sequence[Migration] | None = None) -> list[str]:
        """Bring the database to the schema of this code, and return the names of what was applied.

        All of it or nothing, once however many do it at the same time.

        Raises
        ------
        Refused
            The database is newer than this code, holds another schema, or may not be changed.
        """
        wanted = migrations.packaged_migrations() if known is None else known
        applied = self.run(
            lambda conn: migrations.apply(conn, wanted), name="migrate", repeatable=True
        )
        return [f"{migration.version:04d}_{migration.name}" for migration in applied]

    def pending_migrations(self) -> list[str]:
        """Return the names of the migrations that the database lacks; raises as `migrate`."""
        known = migrations.packaged_migrations()
        missing = self.run(lambda conn: migrations.pending(conn, known), repeatable=True)
        return [f"{migration.version:04d}_{migration.name}" for migration in missing]

    # Notifications

    def notifications(self, *channels: str) -> Listener:
        """Listen on a connection of its own, opened at the first wait."""
        self.refuse_fork()
        return Listener(self.conninfo, channels)


_URL_REMEDY = "write it as postgresql://user@host/database"


def _demand_escaped(conninfo: str) -> None:
    """Refuse a URL whose user or password libpq would cut off, and show as host or port."""
    _, is_url, rest = conninfo.partition("?")[0].partition("://")
    if is_url and any(sign in rest.rpartition("@")[0] for sign in "@/"):
        raise Refused(
            "COGMILL_DATABASE_URL has an @ or / in its user, password or database",
            "write them as %40 and %2F",
        )


def _roll_back(conn: Connection) -> None:
    try:
        conn.rollback()
    except psycopg.Error:
        # What led here is what matters, and a session that ended has rolled back.
        conn.close()


def _is_lost(conn: Connection, error: psycopg.Error) -> bool:
    return conn.closed or isinstance(error, _ENDINGS)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
