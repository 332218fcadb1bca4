"""Tasks: claim and settle, both fenced by (task, attempt, incarnation)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any
from uuid import UUID

from psycopg import Connection, DataError, IntegrityError
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from cogmill.core_machine.contracts import (
    Failure,
    PlannedTask,
    Task,
    TaskKind,
    TaskStatus,
    Value,
)
from cogmill.core_machine.state.database import Database
from cogmill.core_machine.state.rows import (
    INLINE_LIMIT,
    execute,
    fetch_one,
    jsonb,
    record_event,
    store_payload,
)
from cogmill.core_machine.state.statements import statement
from cogmill.errors import PermanentError


class Settled(Enum):
    """What a settle did: `LOST` means that the attempt was no longer the current one."""

    DONE = "done"
    STAGE_DONE = "stage done"
    LOST = "lost"


class Attempt(Value):
    """The fence: which attempt of which task, by which incarnation of a worker."""

    task: Task
    incarnation: UUID


class Tasks:
    """The task and task_result tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, incarnation: UUID, free: int, patience: float = 10.0) -> Task | None:
        """Claim the first due task that this worker can take, as a new attempt.

        Parameters
        ----------
        free : int
            Bytes of the worker's budget that no running child has been promised.
        patience : float
            Seconds for which a task that does not fit `free` is passed over; after them
            nothing is claimed until it fits.
        """

        def work(conn: Connection[Any]) -> Task | None:
            row = fetch_one(
                conn, "claim_task", incarnation=incarnation, free=free, patience=patience
            )
            if row is None:
                return None
            task = Task.model_validate(row)
            if task.kind is TaskKind.PLAN and task.position == 0:
                execute(conn, "start_job", job_id=task.job_id)
            return task

        return self._database.run(work)

    def release_unknown_claims(self, incarnation: UUID, held: Collection[int]) -> int:
        """Give back what a claim without a reply may have taken; `held` are the known task ids."""
        return self._database.run(
            lambda conn: execute(
                conn, "release_unknown_claims", incarnation=incarnation, held=list(held)
            ),
            repeatable=True,
        )

    def succeed(self, attempt: Attempt, result: JsonValue, peak_memory: int | None) -> Settled:
        """Settle a work task with its result, counted down from its stage.

        Raises
        ------
        PermanentError
            PostgreSQL cannot store the result.
        """

        def work(conn: Connection[Any]) -> Settled:
            if not _fence(conn, attempt, TaskStatus.SUCCEEDED):
                return Settled.LOST
            _store_result(conn, attempt.task, result, peak_memory)
            return _count_down(conn, attempt.task)

        with _recordable("the result"):
            return self._database.run(work, repeatable=True)

    def succeed_plan(
        self, attempt: Attempt, shared: JsonValue, tasks: Iterable[PlannedTask],
        peak_memory: int | None,
    ) -> Settled:  # fmt: skip
        """Settle a plan task: its stage's tasks appear, and `remaining` is set, atomically.

        Raises
        ------
        PermanentError
            PostgreSQL cannot store the plan: a key comes twice, or params are too large.
        """
        planned = list(tasks)

        def work(conn: Connection[Any]) -> Settled:
            execute(conn, "create_planned")
            with conn.cursor() as cursor, cursor.copy(statement("copy_planned")) as copy:
                for one in planned:
                    params = json.dumps(one.params, sort_keys=True)
                    copy.write_row((one.key, params, one.requires.memory, one.requires.seconds))
            if not _fence(conn, attempt, TaskStatus.SUCCEEDED):
                return Settled.LOST
            task = attempt.task
            execute(conn, "insert_planned", task_id=task.id)
            digest = None if shared is None else store_payload(conn, shared)
            execute(
                conn, "start_stage", job_id=task.job_id, position=task.position,
                planned=len(planned), shared=digest,
            )  # fmt: skip
            _store_result(conn, task, {"tasks": len(planned)}, peak_memory)
            execute(conn, "bump_wakeup", job_id=task.job_id)
            record_event(conn, task.job_id, "stage planned", data={"tasks": len(planned)})
            return Settled.DONE if planned else Settled.STAGE_DONE

        with _recordable("the plan"):
            return self._database.run(work, repeatable=True)

    def fail(self, attempt: Attempt, failure: Failure) -> Settled:
        """Settle an attempt as failed for good; the next advance ends the job."""

        def work(conn: Connection[Any]) -> Settled:
            if not _fence(conn, attempt, TaskStatus.FAILED, failure=failure, charged=1):
                return Settled.LOST
            task = attempt.task
            record_event(
                conn, task.job_id, "task failed", task=task.key,
                data=failure.model_dump(mode="json"),
            )  # fmt: skip
            return Settled.STAGE_DONE

        return self._database.run(work, repeatable=True)

    def retry(self, attempt: Attempt, failure: Failure, delay: float) -> Settled:
        """Charge the attempt and make its task due again after `delay` seconds."""

        def work(conn: Connection[Any]) -> Settled:
            if not _fence(conn, attempt, TaskStatus.READY, failure=failure, charged=1, delay=delay):
                return Settled.LOST
            task = attempt.task
            record_event(
                conn, task.job_id, "task retrying", task=task.key,
                data={"failure": str(failure), "delay": delay},
            )  # fmt: skip
            return Settled.DONE

        return self._database.run(work, repeatable=True)

    def release(self, attempt: Attempt) -> Settled:
        """Give the task back, not charged, due at once."""

        def work(conn: Connection[Any]) -> Settled:
            return Settled.DONE if _fence(conn, attempt, TaskStatus.READY) else Settled.LOST

        return self._database.run(work, repeatable=True)


@contextmanager
def _recordable(what: str) -> Iterator[None]:
    """Tell a value that can never be stored from a database that cannot store just now."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        line = " ".join(str(error).split())
        raise PermanentError(
            f"{what} cannot be recorded: {line}", "that is a defect of the job type"
        ) from error


def _fence(
    conn: Connection[Any], attempt: Attempt, status: TaskStatus, *,
    failure: Failure | None = None, charged: int = 0, delay: float = 0.0,
) -> bool:  # fmt: skip
    touched = execute(
        conn, "fence_task", task_id=attempt.task.id, attempt=attempt.task.attempt,
        incarnation=attempt.incarnation, status=status, failure=jsonb(failure), charged=charged,
        delay=delay,
    )  # fmt: skip
    return touched == 1


def _store_result(
    conn: Connection[Any], task: Task, result: JsonValue, peak_memory: int | None
) -> None:
    body = json.dumps(result)
    inline = len(body) <= INLINE_LIMIT
    if not inline:
        execute(conn, "check_json", body=body)
    execute(
        conn, "insert_result", task_id=task.id, result=Jsonb(result) if inline else None,
        payload=None if inline else store_payload(conn, result), peak_memory=peak_memory,
    )  # fmt: skip
    record_event(conn, task.job_id, f"{task.kind} succeeded", task=task.key)


def _count_down(conn: Connection[Any], task: Task) -> Settled:
    row = fetch_one(conn, "count_down", job_id=task.job_id, position=task.position)
    return Settled.STAGE_DONE if row is None or row["remaining"] == 0 else Settled.DONE
