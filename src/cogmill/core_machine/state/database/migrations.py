"""Bring a database to the schema of this code: numbered SQL files, recorded with their checksum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from psycopg import Connection, errors
from psycopg.rows import dict_row

from cogmill.core_machine.state.database.statements import statement
from cogmill.errors import Refused

LOCK_SECONDS = 2.0
"""How long a change of a table waits for its readers; for as long everybody else waits for it."""
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True)
class Migration:
    """One step of the schema; once released it never changes."""

    version: int
    name: str
    body: str

    @property
    def sha256(self) -> str:
        """The checksum that the database records."""
        return hashlib.sha256(self.body.encode()).hexdigest()


def packaged_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this code, ``migrations/NNNN_name.sql``, numbered from 1 on."""
    found = []
    for file in (resources.files("cogmill.core_machine.state") / "migrations").iterdir():
        if match := _FILE.fullmatch(file.name):
            body = file.read_text(encoding="utf-8")
            found.append(Migration(version=int(match[1]), name=match[2], body=body))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != [*range(1, len(found) + 1)]:
        raise ValueError("migrations are not numbered 0001, 0002, ... without a gap")
    return tuple(found)


def pending(conn: Connection[Any], known: Sequence[Migration]) -> tuple[Migration, ...]:
    """Return what the database lacks.

    Raises
    ------
    Refused
        The database is newer than this code, or records other contents than this code has.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        table = cursor.execute(statement("has_migration_table")).fetchone()
        if not table or not table["found"]:
            return tuple(known)
        applied = cursor.execute(statement("applied_migrations")).fetchall()
    if len(applied) > len(known):
        message = f"the database is at schema {len(applied)}, this cogmill knows {len(known)}"
        raise Refused(message, "install the newer cogmill that migrated it")
    for row, migration in zip(applied, known, strict=False):
        if (row["version"], row["sha256"]) != (migration.version, migration.sha256):
            message = (
                f"schema {row['version']} ({row['name']}) of the database is not the one of "
                f"this cogmill ({migration.name})"
            )
            raise Refused(message, "install the cogmill that migrated it, or use a new database")
    return tuple(known[len(applied) :])


def apply(conn: Connection[Any], known: Sequence[Migration]) -> tuple[Migration, ...]:
    """Apply what the database lacks, in the caller's transaction: all of it or nothing.

    Raises
    ------
    Refused
        As `pending`; or the user of the database may not create the schema.
    """
    conn.execute(statement("begin_migration"))
    conn.execute(statement("lock_migrations"))
    missing = pending(conn, known)
    if not missing:
        return ()
    conn.execute(statement("hurry_migration"), {"milliseconds": round(1000 * LOCK_SECONDS)})
    try:
        _prepare(conn)
    except errors.InsufficientPrivilege as error:
        message = f"{conn.info.user} may not create a schema in database {conn.info.dbname}"
        remedy = f"let its owner run CREATE SCHEMA cogmill AUTHORIZATION {conn.info.user}"
        raise Refused(message, remedy) from error
    for migration in missing:
        # Without parameters: so a file may hold many statements, and % means itself.
        conn.execute(migration.body.encode())
        row = {"version": migration.version, "name": migration.name, "sha256": migration.sha256}
        conn.execute(statement("record_migration"), row)
    return missing


def _prepare(conn: Connection[Any]) -> None:
    """Make the schema and the record. Where the schema is there, no right to make one is needed."""
    with conn.cursor(row_factory=dict_row) as cursor:
        schema = cursor.execute(statement("has_schema")).fetchone()
    if not schema or not schema["found"]:
        conn.execute(statement("create_schema"))
    conn.execute(statement("create_migration_table"))
