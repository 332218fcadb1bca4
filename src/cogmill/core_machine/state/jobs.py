"""Jobs: look, advance, end. The transitions that every trigger shares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from pydantic import JsonValue

from cogmill.core_machine.contracts import (
    Cause,
    Failure,
    Job,
    JobStatus,
    Stage,
    StageResult,
    Value,
)
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import Row, execute, fetch, fetch_one, jsonb
from cogmill.core_machine.state.recording import job_from, open_stage, record_event
from cogmill.errors import JobNotFound

CLEAN_AFTER_FAILURE_SECONDS = 24 * 3600
"""A failed job's objects are kept this long, so that a retry can adopt them."""


class Standing(Value):
    """Where a job stands and what keeps it there: the facts of ``cogmill show --why``.

    `of_type` to `of_memory` count live workers, each with one demand more of the next task:
    of its type, its engine, its reach, free for the job, with enough memory.
    """

    job_status: JobStatus
    stage: str | None
    stage_status: str | None
    running: int
    due: int
    later: int
    next_seconds: float | None
    last_failure: Failure | None
    holders: tuple[str, ...] | None
    silent_holders: int
    needs_memory: int | None
    next_key: str | None
    wants_type: str
    wants_engine: str
    wants_reach: str
    live: int
    of_type: int
    of_engine: int
    of_reach: int
    for_job: int
    of_memory: int
    largest_memory: int | None
    ahead: int
    owes_cleanup: bool | None
    unswept: float | None


class Jobs:
    """The job and stage tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, prefix: str) -> Job:
        """Return the only job whose id begins with `prefix`.

        Raises
        ------
        JobNotFound
            None begins so, or several do.
        """
        if not prefix:
            # What an unset variable of a shell gives: it must not mean the only job there is.
            raise JobNotFound("an empty text names no job", "`cogmill jobs` lists them")
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_jobs", prefix=prefix, limit=2)
        if len(rows) != 1:
            what = "no job" if not rows else "more than one job"
            raise JobNotFound(f"{what} begins with {prefix!r}", "`cogmill jobs` lists them")
        return job_from(rows[0])

    def recent(self, limit: int = 50) -> list[Job]:
        """Return the newest jobs."""
        with self._database.transaction() as conn:
            return [job_from(row) for row in fetch(conn, "find_jobs", prefix="", limit=limit)]

    def open(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of the jobs that have not ended, in the order given."""
        with self._database.transaction() as conn:
            return [row["id"] for row in fetch(conn, "open_jobs", ids=list(job_ids))]

    def failed(self, cause: str) -> list[str]:
        """Return the failed jobs of a cause that nobody has retried, the oldest first."""
        with self._database.transaction() as conn:
            return [row["id"] for row in fetch(conn, "failed_jobs", cause=cause)]

    def failed_since(self, incarnation: UUID) -> list[Job]:
        """Return the jobs that have failed since a worker began, the first one first."""
        with self._database.transaction() as conn:
            return [job_from(row) for row in fetch(conn, "failed_since", incarnation=incarnation)]

    def stages(self, job_id: str) -> list[Stage]:
        """Return the stages of a job with the counts of their tasks."""
        with self._database.transaction() as conn:
            return [Stage.model_validate(row) for row in fetch(conn, "stage_counts", job_id=job_id)]

    def progress(self, job_id: str) -> int:
        """Return the units of work that running attempts report."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "job_progress", job_id=job_id)
        return int(row["done"]) if row else 0

    def figures(self, job_id: str) -> dict[str, int]:
        """Return the peak memory of the job's tasks, their attempts and their number."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "job_peaks", job_id=job_id) or {}
        return {name: int(value or 0) for name, value in row.items()}

    def prepared(self, job: Job) -> JsonValue:
        """Return what preflight stored with the job."""
        return self.payload(job.prepared)

    def payload(self, digest: str) -> JsonValue:
        """Return a stored payload."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "load_payload", digest=digest)
        if row is None:
            raise JobNotFound(f"payload {digest[:12]} is gone")
        body: JsonValue = json.loads(row["body"])
        return body

    def stage_shared(self, job_id: str, position: int) -> tuple[str, str | None, str]:
        """Return a stage's name, and the digests of what it shares and of the job's `prepared`."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "stage_shared", job_id=job_id, position=position)
        if row is None:
            raise JobNotFound(f"job {job_id} has no stage {position}")
        return row["name"], row["shared"], row["prepared"]

    def results(self, job_id: str, stage: str) -> list[StageResult]:
        """Return the results of a stage's succeeded tasks, in the order of their ids."""
        with self._database.transaction() as conn:
            rows = fetch(conn, "stage_results", job_id=job_id, stage=stage)
        return [StageResult.model_validate(row) for row in rows]

    def why(self, job_id: str) -> Standing:
        """Return what tells why a job does not run, from one query."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "why", job_id=job_id)
        if row is None:
            raise JobNotFound(f"no job {job_id}")
        return Standing.model_validate(row)

    def advance(self, job_id: str) -> JobStatus:
        """Close every stage that is done, open the next one, or end the job. SQL alone; idempotent.

        It mends what it finds on its way: a count that drifted, a task without attempts left or
        due at no time, a stage without its plan, live parts of an ended job. A job whose stages
        contradict each other fails: its result could be wrong, and a retry adopts what is sound.

        Returns
        -------
        JobStatus
            The job's status after it.
        """
        return self._database.run(
            lambda conn: self._advance(conn, job_id), name="advance", repeatable=True
        )

    def _advance(self, conn: Connection[Any], job_id: str) -> JobStatus:
        execute(conn, "lock_job", job_id=job_id)
        while True:
            at = fetch_one(conn, "current_stage", job_id=job_id)
            if at is None:
                raise JobNotFound(f"no job {job_id}")
            status = JobStatus(at["job_status"])
            if status.terminal:
                self._lay_to_rest(conn, job_id, at, status)
                return status
            if contradiction := _contradiction(at) or _hole(conn, job_id, at):
                self._end(conn, job_id, JobStatus.FAILED, contradiction)
            elif at["position"] is None:
                self._finish(conn, job_id)
            elif at["has_failed"]:
                first = fetch_one(conn, "first_failure", job_id=job_id) or {}
                self._end(conn, job_id, JobStatus.FAILED, _job_failure(first))
            elif at["status"] == "pending":
                open_stage(conn, job_id, at["position"], at["name"])
                return status
            elif at["has_open"] or at["plan_status"] is None:
                if not self._mend_stage(conn, job_id, at):
                    return status
            else:
                execute(conn, "close_stage", job_id=job_id, position=at["position"])
                record_event(conn, job_id, "stage closed", stage=at["name"])

    def _mend_stage(self, conn: Connection[Any], job_id: str, at: Row) -> bool:
        """Set right what is wrong with an open stage; true when the job must be looked at again."""
        where = {"job_id": job_id, "position": at["position"]}
        begun = at["status"] == "running" or at["position"] > 0
        if begun and at["job_status"] == JobStatus.ACCEPTED:
            execute(conn, "start_job", job_id=job_id)
        if at["plan_status"] is None:
            execute(conn, "insert_plan_task", **where)
            execute(conn, "bump_wakeup", job_id=job_id, delay=0)
            return False
        exhausted = fetch(conn, "exhaust_tasks", **where)
        for row in exhausted:
            record_event(conn, job_id, "task failed", task=row["key"], data={"cause": "exhausted"})
        if execute(conn, "hasten_tasks", **where):
            execute(conn, "bump_wakeup", job_id=job_id, delay=0)
        if at["status"] == "running" and not exhausted:
            execute(conn, "lock_stage", **where)
            execute(conn, "recount_stage", **where)
        return bool(exhausted)

    def _lay_to_rest(self, conn: Connection[Any], job_id: str, at: Row, status: JobStatus) -> None:
        """Leave nothing live of a job that has ended, and nothing that it owes to nobody."""
        if at["has_stray"] or at["has_open"] or at["position"] is not None:
            execute(conn, "cancel_tasks", job_id=job_id)
            execute(conn, "cancel_stages", job_id=job_id)
        delay = _clean_delay(status)
        execute(conn, "owe_cleanup", job_id=job_id, delay=delay)
        execute(conn, "release_inherited", job_id=job_id, delay=delay)

    def unadvanced(self) -> list[str]:
        """Find live jobs that an advance would move."""
        with self._database.transaction() as conn:
            return [row["id"] for row in fetch(conn, "find_unadvanced_jobs")]

    def contradictions(self) -> list[tuple[str, str]]:
        """Find jobs whose state contradicts their tasks, each with what is wrong."""
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_contradictions")
        return [(row["job_id"], row["reason"]) for row in rows]

    def dismiss(self, job_id: str) -> JobStatus:
        """Cancel a live job and everything of it; a terminal one stays as it is."""

        def work(conn: Connection[Any]) -> JobStatus:
            execute(conn, "lock_job", job_id=job_id)
            row = fetch_one(conn, "get_job", job_id=job_id)
            if row is None:
                raise JobNotFound(f"no job {job_id}")
            if not JobStatus(row["status"]).terminal:
                self._end(conn, job_id, JobStatus.DISMISSED, None)
                return JobStatus.DISMISSED
            return JobStatus(row["status"])

        return self._database.run(work, name="dismiss", repeatable=True)

    def _finish(self, conn: Connection[Any], job_id: str) -> None:
        execute(conn, "finish_job", job_id=job_id)
        execute(conn, "owe_cleanup", job_id=job_id, delay=0)
        execute(conn, "release_inherited", job_id=job_id, delay=0)
        execute(conn, "hasten_cleanups", job_id=job_id)
        execute(conn, "bump_wakeup", job_id=job_id, delay=0)
        record_event(conn, job_id, "job successful")

    def _end(
        self, conn: Connection[Any], job_id: str, status: JobStatus, failure: Failure | None
    ) -> None:
        """Cancel and fail-fast are this one transition; the caller holds the job lock."""
        # Twice: the first waits for a plan that is just settling, the second sees what it inserted.
        execute(conn, "cancel_tasks", job_id=job_id)
        execute(conn, "cancel_tasks", job_id=job_id)
        execute(conn, "cancel_stages", job_id=job_id)
        execute(conn, "end_job", job_id=job_id, status=status, failure=jsonb(failure))
        delay = _clean_delay(status)
        execute(conn, "owe_cleanup", job_id=job_id, delay=delay)
        execute(conn, "release_inherited", job_id=job_id, delay=delay)
        execute(conn, "bump_wakeup", job_id=job_id, delay=0)
        record_event(conn, job_id, f"job {status}", data={"failure": str(failure or "")})


def _clean_delay(status: JobStatus) -> float:
    return CLEAN_AFTER_FAILURE_SECONDS if status is JobStatus.FAILED else 0


def _contradiction(at: Row) -> Failure | None:
    """Return why a job cannot go on in good faith, None where it can."""
    if at["has_stray"]:
        what = "a stage that was closed has an open task"
    elif at["status"] == "pending" and at["plan_status"] is not None:
        what = f"stage {at['name']} has not begun, and has its plan"
    elif (
        at["status"] == "planning"
        and not (at["has_open"] or at["has_failed"])
        and at["plan_status"] is not None
    ):
        what = f"the plan of stage {at['name']} has ended, and the stage never began"
    elif at["status"] == "running" and at["plan_status"] not in ("succeeded", "failed"):
        what = f"stage {at['name']} has begun, and its plan has not succeeded"
    else:
        return None
    return _unsound(what)


def _hole(conn: Connection[Any], job_id: str, at: Row) -> Failure | None:
    """Return what is missing behind a stage that is about to open, or behind the end of the job."""
    if at["position"] is not None and at["status"] != "pending":
        return None
    row = fetch_one(conn, "find_hole", job_id=job_id)
    return None if row is None else _unsound(row["what"])


def _unsound(what: str) -> Failure:
    return Failure(
        code="contradiction",
        cause=Cause.TRANSIENT,
        message=f"the record of the job contradicts itself: {what}",
        remedy="retry it: what is sound is taken over",
    )


def _job_failure(first: Row) -> Failure:
    if not first.get("failure"):
        return Failure(code="permanent", cause=Cause.PERMANENT, message="a task failed")
    failure = Failure.model_validate(first["failure"])
    where = f"stage {first['stage']}, task {first['key']}"
    return failure.model_copy(update={"message": f"{failure.message} ({where})"})
