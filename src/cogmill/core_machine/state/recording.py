"""What several transitions record: payloads, an opened stage, an event, a job read back."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from cogmill.core_machine.contracts import Job
from cogmill.core_machine.state.database.rows import Row, execute

INLINE_LIMIT = 8192
"""Results above this many bytes of JSON live in `payload`, beside what stages share."""


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
