"""One embedded server for each pytest worker, and a fresh database for each test.

It is the server of the worker's COGMILL_HOME, so that commands which tests run use it too, and it
is held for the session, so that none of them starts or stops it. What it holds at first is made
once in a session and copied from there. Tests of the server itself, and those that kill commands,
have homes of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.harness.plugin import locked, session_folder
from tests.harness.processes import all_pids, children_of, command_line

from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.embedded import keeper
from cogmill.core_machine.state.embedded.configuration import SETTINGS
from cogmill.core_machine.state.embedded.server import EmbeddedServer, Lease

#: A migrated database, copied for each test.
TEMPLATE = "cogmill_template"
#: A fleet of twenty workers has more connections than the one machine that a server is made for.
CONNECTIONS = "300"
PATIENCE_SECONDS = 60.0


def furnished(home: Path) -> EmbeddedServer:
    """Give a home that has no data yet those that the session made: migrated, with a template."""
    server, original = EmbeddedServer(home), EmbeddedServer(session_folder() / "original")
    with locked("original", fcntl.LOCK_EX):
        if not original.places.data.exists():
            _make(original.places.home)
    server.places.make_folder()
    data = server.places.data
    # Beside its place and then renamed, as the server does it; modes and owners stay.
    subprocess.run(["cp", "-a", original.places.data, f"{data}.copy"], check=True)
    data.with_name(f"{data.name}.copy").rename(data)
    return server


def _make(home: Path) -> None:
    """Make the data that are copied, and wait until their server has stopped."""
    server = EmbeddedServer(home, linger_seconds=0.0)
    with server.lease() as held:
        administer(held, "CREATE DATABASE {}", TEMPLATE)
        for name in ("postgres", TEMPLATE):
            with Database(make_conninfo(held.conninfo, dbname=name)) as database:
                database.migrate()
    lock = keeper.open_lock(server.places.folder, keeper.SERVER_LOCK)
    assert keeper.wait_until(lambda: keeper.try_lock(lock), PATIENCE_SECONDS)
    os.close(lock)


def administer(lease: Lease, statement: str, *names: str) -> None:
    """Run a statement about whole databases; a test may have killed the server."""
    lease.ensure_running()
    with psycopg.connect(lease.conninfo, autocommit=True) as conn:
        conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextlib.contextmanager
def copied(lease: Lease, name: str, template: str = TEMPLATE) -> Iterator[str]:
    """Give the address of a fresh, migrated database."""
    administer(lease, "CREATE DATABASE {} TEMPLATE {}", name, template)
    try:
        yield make_conninfo(lease.conninfo, dbname=name)
    finally:
        administer(lease, "DROP DATABASE {} WITH (FORCE)", name)


class SessionServer:
    """The server that a session holds, and the databases on it."""

    def __init__(self, home: Path) -> None:
        self._numbers = itertools.count(1)
        self.embedded = furnished(home)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SETTINGS, "max_connections", CONNECTIONS)
            self.lease = self.embedded.lease()

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Give the address of a fresh, migrated database."""
        with copied(self.lease, f"test_{next(self._numbers)}") as conninfo:
            yield conninfo

    def processes(self) -> list[int]:
        """Return the pids of the postmaster, of all below it, and of the keeper."""
        mark = os.fsencode(self.embedded.places.folder)
        found = [pid for pid in all_pids() if mark in command_line(pid)]
        for pid in found:
            with contextlib.suppress(OSError):
                found += children_of(pid)
        return found

    def close(self) -> None:
        """Stop it and delete its data."""
        self.lease.close()
        self.embedded.remove()


@pytest.fixture(scope="session")
def server() -> Iterator[SessionServer]:
    """Hold the embedded server of this worker's home."""
    made = SessionServer(Path(os.environ["COGMILL_HOME"]))
    yield made
    made.close()


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """Give a folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="cogmill-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def lease(server: SessionServer) -> Lease:
    """Give the lease of the session's server."""
    return server.lease


@pytest.fixture(scope="session")
def template(server: SessionServer) -> str:
    """Name the migrated database of the session's server that is copied for each test."""
    return TEMPLATE


@pytest.fixture
def address(server: SessionServer) -> Iterator[str]:
    """Give the address of a fresh, migrated database."""
    with server.database() as conninfo:
        yield conninfo


@pytest.fixture
def database(address: str, lease: Lease) -> Iterator[Database]:
    """Give a fresh, migrated database."""
    with Database(address, restart=lease.ensure_running) as opened:
        yield opened
