"""One embedded server, a fresh database for each test, and who administers them."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
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


def _administer(lease: Lease, statement: sql.Composed) -> None:
    with psycopg.connect(lease.conninfo, autocommit=True) as conn:
        conn.execute(statement)
