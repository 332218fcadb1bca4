"""One embedded server per test session, a fresh database per test, and the clock in our hands."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.embedded.server import EmbeddedServer, Lease

TEMPLATE = "cogmill_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """Give a folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="cogmill-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def lease(open_folder: Path) -> Iterator[Lease]:
    """Hold the session's embedded server, in a home of its own."""
    server = EmbeddedServer(open_folder / "home", root_home=open_folder / "root")
    with server.lease() as held:
        yield held
    server.remove()


@pytest.fixture(scope="session")
def template(lease: Lease) -> str:
    """Migrate one database, to be copied for each test."""
    _administer(lease, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with Database(make_conninfo(lease.conninfo, dbname=TEMPLATE)) as database:
        database.migrate()
    return TEMPLATE


@pytest.fixture
def address(lease: Lease, template: str) -> Iterator[str]:
    """Give the address of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    _administer(lease, create.format(sql.Identifier(name), sql.Identifier(template)))
    yield make_conninfo(lease.conninfo, dbname=name)
    _administer(lease, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(address: str, lease: Lease) -> Iterator[Database]:
    """Give a fresh, migrated database."""
    with Database(address, restart=lease.ensure_running) as opened:
        yield opened


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


def _administer(lease: Lease, statement: sql.Composed) -> None:
    with psycopg.connect(lease.conninfo, autocommit=True) as conn:
        conn.execute(statement)
