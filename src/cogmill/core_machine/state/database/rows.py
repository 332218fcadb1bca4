"""Run a named statement and get its rows as dictionaries."""

from __future__ import annotations

from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel, JsonValue

from cogmill import failpoints
from cogmill.core_machine.state.database.statements import statement

Row = dict[str, Any]


def fetch(conn: Connection[Any], name: str, /, **params: object) -> list[Row]:
    """Run the statement `name` and return its rows."""
    failpoints.reach(f"sql.{name}")
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement(name), params)
        return cursor.fetchall()


def fetch_one(conn: Connection[Any], name: str, /, **params: object) -> Row | None:
    """Run the statement `name` and return its first row, if there is one."""
    failpoints.reach(f"sql.{name}")
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement(name), params)
        return cursor.fetchone()


def execute(conn: Connection[Any], name: str, /, **params: object) -> int:
    """Run the statement `name` and return how many rows it touched."""
    failpoints.reach(f"sql.{name}")
    with conn.cursor() as cursor:
        cursor.execute(statement(name), params)
        return cursor.rowcount


def jsonb(value: BaseModel | JsonValue) -> Jsonb | None:
    """Wrap a value for a jsonb parameter; None stays SQL NULL."""
    if value is None:
        return None
    return Jsonb(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)
