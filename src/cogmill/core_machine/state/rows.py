"""Run a named statement and get its rows as dictionaries."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel, JsonValue

from cogmill import failpoints
from cogmill.core_machine.contracts import Job
from cogmill.core_machine.state.statements import statement

Row = dict[str, Any]
INLINE_LIMIT = 8192
"""Results above this many bytes of JSON live in `payload`, beside what stages share."""


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


def store_payload(conn: Connection[Any], value: JsonValue) -> str:
    """Store JSON once under its SHA-256 and return the digest."""
    body = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    execute(conn, "store_payload", digest=digest, body=body)
    return digest


def job_from(row: Row) -> Job:
    """Return a row of the job table as a job."""
    return Job.model_validate({name: row[name] for name in Job.model_fields})


def open_stage(conn: Connection[Any], job_id: str, position: int, name: str) -> None:
    """Open a stage: its plan task is due, and somebody is to be told."""
    execute(conn, "open_stage", job_id=job_id, position=position)
    execute(conn, "insert_plan_task", job_id=job_id, position=position)
    execute(conn, "bump_wakeup", job_id=job_id, delay=0)
    record_event(conn, job_id, "stage opened", stage=name)


def record_event(
    conn: Connection[Any], job_id: str, kind: str, *, stage: str | None = None,
    task: str | None = None, data: dict[str, JsonValue] | None = None,
) -> None:  # fmt: skip
    """Write one event in the transaction that made it true."""
    execute(
        conn, "record_event", job_id=job_id, kind=kind, stage=stage, task=task,
        data=Jsonb(data or {}),
    )  # fmt: skip
