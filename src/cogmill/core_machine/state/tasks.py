"""Tasks: claim and settle, both fenced by (task, attempt, incarnation)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any
from uuid import UUID

from psycopg import Connection, DataError, IntegrityError
from psycopg.types.json import Jsonb
from pydantic import JsonValue, ValidationError

from cogmill.core_machine.contracts import (
    Cause,
    Failure,
    PlannedTask,
    Task,
    TaskKind,
    TaskStatus,
    Value,
)
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import Row, execute, fetch, fetch_one, jsonb
from cogmill.core_machine.state.database.statements import statement
from cogmill.core_machine.state.recording import INLINE_LIMIT, record_event, store_payload
from cogmill.errors import PermanentError

PASSED_OVER_SECONDS = 10.0
"""So long a task that does not fit is passed over; then all wait for it."""
MOST_PASSED_OVER = 50  # each is a transaction, and who claims does not beat meanwhile


class Settled(Enum):
    """What a settle did: `LOST` means that the attempt was no longer the current one."""

    DONE = "done"
    STAGE_DONE = "stage done"
    LOST = "lost"


class Attempt(Value):
    """The fence: which attempt of which task, by which incarnation of a worker."""

    task: Task
    incarnation: UUID


class _Unreadable(Exception):
    """A task of a newer version: this process cannot read its row."""


class _NotPlanning(Exception):
    """The stage of a plan has begun before, or has ended."""


class Stuck(Value):
    """An attempt that its live worker does not end: past its deadline, or `forgotten`."""

    attempt: Attempt
    forgotten: bool


class Oversized(Value):
    """A waiting task that needs `memory` bytes, where the largest worker has `budget`."""

    task_id: int
    job_id: str
    key: str
    kind: TaskKind
    attempt: int
    memory: int
    budget: int


class Tasks:
    """The task and task_result tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unreadable: set[int] = set()

    def claim(self, incarnation: UUID, free: int, job_id: str | None = None) -> Task | None:
        """Claim the first due task that this worker can take, as a new attempt.

        A row that it cannot read is left to others; `MOST_PASSED_OVER` a call hold up none behind.

        Parameters
        ----------
        free : int
            Bytes of the worker's budget that no running child has been promised.
        job_id : str, optional
            Claim of this job only.
        """

        def work(conn: Connection[Any]) -> Task | None:
            execute(conn, "claim_in_order")
            row = fetch_one(
                conn, "claim_task", incarnation=incarnation, free=free,
                patience=PASSED_OVER_SECONDS, job_id=job_id, unreadable=[*self._unreadable],
            )  # fmt: skip
            if row is None:
                return None
            try:
                task = Task.model_validate(row)
            except ValidationError as error:
                self._unreadable.add(row["id"])
                raise _Unreadable from error
            if task.kind is TaskKind.PLAN and task.position == 0:
                execute(conn, "start_job", job_id=task.job_id)
            return task

        for _ in range(MOST_PASSED_OVER):
            with suppress(_Unreadable):
                return self._database.run(work, name="claim")
        return None

    def release_unknown_claims(self, incarnation: UUID, held: Collection[int]) -> int:
        """Give back what a claim without a reply may have taken; `held` are the known task ids."""

        def work(conn: Connection[Any]) -> int:
            return execute(conn, "release_unknown_claims", incarnation=incarnation, held=[*held])

        return self._database.run(work, name="release unknown", repeatable=True)

    def extend_deadlines(self, incarnation: UUID, seconds: float) -> None:
        """Give the attempts of a worker the time back that it slept."""

        def work(conn: Connection[Any]) -> None:
            execute(conn, "extend_deadlines", incarnation=incarnation, seconds=seconds)

        self._database.run(work, name="extend")

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
            return self._database.run(work, name="settle", repeatable=True)

    def succeed_plan(
        self, attempt: Attempt, shared: JsonValue, tasks: Iterable[PlannedTask],
        peak_memory: int | None,
    ) -> Settled:  # fmt: skip
        """Settle a plan task: its stage's tasks appear, and `remaining` is set, atomically.

        A task with `adopted_from` appears as succeeded, with the result of that one. Where the
        stage is not being planned nothing is written, and the next advance says what is wrong.

        Raises
        ------
        PermanentError
            PostgreSQL cannot store the plan: a key comes twice, or params are too large.
        """
        planned = list(tasks)
        adopted = sum(one.adopted_from is not None for one in planned)

        def work(conn: Connection[Any]) -> Settled:
            _copy(conn, planned)
            if not _fence(conn, attempt, TaskStatus.SUCCEEDED):
                return Settled.LOST
            task = attempt.task
            digest = None if shared is None else store_payload(conn, shared)
            begun = execute(
                conn, "start_stage", job_id=task.job_id, position=task.position,
                planned=len(planned), remaining=len(planned) - adopted, shared=digest,
            )  # fmt: skip
            if not begun:
                raise _NotPlanning
            execute(conn, "insert_planned", task_id=task.id)
            if adopted:
                _adopt(conn, task, None)
            _store_result(conn, task, {"tasks": len(planned)}, peak_memory)
            execute(conn, "bump_wakeup", job_id=task.job_id, delay=0)
            record_event(
                conn, task.job_id, "stage planned",
                data={"tasks": len(planned), "adopted": adopted},
            )  # fmt: skip
            return Settled.DONE if len(planned) > adopted else Settled.STAGE_DONE

        with _recordable("the plan"):
            try:
                return self._database.run(work, name="plan", repeatable=True)
            except _NotPlanning:
                return Settled.STAGE_DONE

    def succeed_split(
        self, attempt: Attempt, parts: Iterable[PlannedTask], peak_memory: int | None
    ) -> Settled:
        """Settle a split task: the parts take the place of the task that it was.

        A part with `adopted_from` appears as succeeded, with the result of that one.

        Raises
        ------
        PermanentError
            PostgreSQL cannot store the parts.
        """
        planned = list(parts)
        adopted = sum(one.adopted_from is not None for one in planned)

        def work(conn: Connection[Any]) -> Settled:
            _copy(conn, planned)
            if not _fence(conn, attempt, TaskStatus.SUCCEEDED):
                return Settled.LOST
            task = attempt.task
            execute(conn, "insert_parts", task_id=task.id)
            if adopted:
                _adopt(conn, task, task.id)
            _store_result(conn, task, {"tasks": len(planned)}, peak_memory)
            row = fetch_one(
                conn, "count_parts", job_id=task.job_id, position=task.position,
                parts=len(planned), open=len(planned) - adopted,
            )  # fmt: skip
            execute(conn, "bump_wakeup", job_id=task.job_id, delay=0)
            return _stage_done(row)

        with _recordable("the split"):
            return self._database.run(work, name="split", repeatable=True)

    def split(self, attempt: Attempt, failure: Failure, budget: int) -> Settled:
        """End an attempt that needs too much memory: its task is planned again, in `budget`."""

        def work(conn: Connection[Any]) -> Settled:
            task = attempt.task
            touched = execute(
                conn, "split_attempt", task_id=task.id, attempt=task.attempt,
                incarnation=attempt.incarnation, failure=jsonb(failure), budget=budget,
            )  # fmt: skip
            if touched == 0:
                return Settled.LOST
            _note_split(conn, task.job_id, task.key, str(failure), budget)
            return Settled.DONE

        return self._database.run(work, name="order split", repeatable=True)

    def split_waiting(self, task: Oversized) -> bool:
        """Have a waiting task planned again, in the budget that a live worker has."""

        def work(conn: Connection[Any]) -> bool:
            row = fetch_one(
                conn, "split_waiting", task_id=task.task_id, attempt=task.attempt,
                budget=task.budget,
            )  # fmt: skip
            if row is not None:
                _note_split(conn, task.job_id, task.key, "no live worker has room", task.budget)
            return row is not None

        return self._database.run(work, name="order split", repeatable=True)

    def refuse_waiting(self, task: Oversized, failure: Failure) -> bool:
        """Fail a waiting plan, which nobody can do smaller; the next advance ends its job."""

        def work(conn: Connection[Any]) -> bool:
            touched = execute(
                conn, "refuse_waiting", task_id=task.task_id, attempt=task.attempt,
                budget=task.budget, failure=jsonb(failure),
            )  # fmt: skip
            if touched:
                _note_failure(conn, task.job_id, task.key, failure)
            return touched == 1

        return self._database.run(work, name="refuse", repeatable=True)

    def fail(self, attempt: Attempt, failure: Failure) -> Settled:
        """Settle an attempt as failed for good; the next advance ends the job."""

        def work(conn: Connection[Any]) -> Settled:
            if not _fence(conn, attempt, TaskStatus.FAILED, failure=failure, charged=1):
                return Settled.LOST
            _note_failure(conn, attempt.task.job_id, attempt.task.key, failure)
            return Settled.STAGE_DONE

        return self._database.run(work, name="fail", repeatable=True)

    def retry(self, attempt: Attempt, failure: Failure, delay: float) -> Settled:
        """Charge the attempt and make its task due again after `delay` seconds."""

        def work(conn: Connection[Any]) -> Settled:
            if not _fence(conn, attempt, TaskStatus.READY, failure=failure, charged=1, delay=delay):
                return Settled.LOST
            task = attempt.task
            execute(conn, "bump_wakeup", job_id=task.job_id, delay=delay)
            record_event(
                conn, task.job_id, "task retrying", task=task.key,
                data={"failure": str(failure), "cause": failure.cause.value, "delay": delay},
            )  # fmt: skip
            return Settled.DONE

        return self._database.run(work, name="retry", repeatable=True)

    def release(self, attempt: Attempt) -> Settled:
        """Give the task back, not charged, due at once."""

        def work(conn: Connection[Any]) -> Settled:
            if not _fence(conn, attempt, TaskStatus.READY):
                return Settled.LOST
            execute(conn, "bump_wakeup", job_id=attempt.task.job_id, delay=0)
            return Settled.DONE

        return self._database.run(work, name="release", repeatable=True)

    def stuck(self) -> list[Stuck]:
        """Find attempts of live workers that will not end by themselves."""
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_stuck_tasks")
        return [
            Stuck(
                attempt=Attempt(
                    task=Task.model_validate({name: row[name] for name in Task.model_fields}),
                    incarnation=row["incarnation"],
                ),
                forgotten=row["forgotten"],
            )
            for row in rows
        ]

    def oversized(self, patience: float) -> list[Oversized]:
        """Find tasks that have waited `patience` seconds for more memory than any worker has."""
        with self._database.transaction() as conn:
            return [
                Oversized.model_validate(row)
                for row in fetch(conn, "find_oversized_tasks", patience=patience)
            ]


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
        of_memory=int(failure is not None and failure.cause is Cause.MEMORY), delay=delay,
    )  # fmt: skip
    return touched == 1


def _copy(conn: Connection[Any], planned: list[PlannedTask]) -> None:
    """Bring planned tasks into a temporary table, before any lock is taken."""
    execute(conn, "create_planned")
    with conn.cursor() as cursor, cursor.copy(statement("copy_planned")) as copy:
        for one in planned:
            params, needs = json.dumps(one.params, sort_keys=True), one.requires
            copy.write_row(
                (one.key, params, needs.memory, needs.seconds, needs.still, one.adopted_from)
            )


def _note_failure(conn: Connection[Any], job_id: str, key: str, failure: Failure) -> None:
    data = failure.model_dump(mode="json")
    record_event(conn, job_id, "task failed", task=key, data=data)


def _note_split(conn: Connection[Any], job_id: str, key: str, why: str, budget: int) -> None:
    execute(conn, "bump_wakeup", job_id=job_id, delay=0)
    data: dict[str, JsonValue] = {"why": why, "budget": budget}
    record_event(conn, job_id, "task to be split", task=key, data=data)


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


def _adopt(conn: Connection[Any], task: Task, split_of: int | None) -> None:
    where = {"job_id": task.job_id, "position": task.position}
    execute(conn, "adopt_results", split_of=split_of, **where)


def _count_down(conn: Connection[Any], task: Task) -> Settled:
    return _stage_done(fetch_one(conn, "count_down", job_id=task.job_id, position=task.position))


def _stage_done(row: Row | None) -> Settled:
    return Settled.STAGE_DONE if row is None or row["remaining"] == 0 else Settled.DONE
