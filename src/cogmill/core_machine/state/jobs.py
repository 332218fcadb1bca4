"""Jobs: submit, look, advance, end. The transitions that every trigger shares."""

from __future__ import annotations

import json
from typing import Any

from psycopg import Connection, errors
from pydantic import JsonValue

from cogmill.core_machine.contracts import (
    Cause,
    Failure,
    Job,
    JobStatus,
    Preflight,
    Previous,
    Stage,
    StageResult,
    Value,
)
from cogmill.core_machine.state.database import Database
from cogmill.core_machine.state.rows import (
    Row,
    execute,
    fetch,
    fetch_one,
    jsonb,
    record_event,
    store_payload,
)
from cogmill.errors import JobNotFound, Refused

CLEAN_AFTER_FAILURE_SECONDS = 24 * 3600
"""A failed job's objects are kept this long, so that a retry can adopt them."""


class NewJob(Value):
    """Everything that submit records."""

    id: str
    lineage: str
    generation: int
    type: str
    version: int
    inputs: dict[str, JsonValue]
    engine: str
    priority: int
    preflight: Preflight
    stages: tuple[NewStage, ...]


class NewStage(Value):
    """A stage's row, from its type."""

    name: str
    plan_seconds: int
    max_failures: int


NewJob.model_rebuild()


def _job(row: Row) -> Job:
    return Job.model_validate({name: row[name] for name in Job.model_fields})


class Jobs:
    """The job and stage tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, lineage: str) -> Job | None:
        """Return the newest generation of a lineage."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "newest_generation", lineage=lineage)
        return _job(row) if row else None

    def submit(self, new: NewJob) -> Job | None:
        """Record a job, its stages, its first plan task and the wake-up, in one transaction.

        Returns
        -------
        Job or None
            None when somebody else has made this generation meanwhile: look again.

        Raises
        ------
        Refused
            Another live job owns the destination.
        """
        try:
            return self._database.run(lambda conn: self._submit(conn, new), repeatable=True)
        except errors.UniqueViolation as error:
            if error.diag.constraint_name != "job_owner":
                return None
        with self._database.transaction() as conn:
            owner = fetch_one(conn, "live_owner", owns=new.preflight.owns)
        raise Refused(
            f"the destination {new.preflight.owns} is being written by job "
            f"{owner['id'][:12] if owner else '(just ended)'}",
            "wait for that job, or dismiss it with `cogmill dismiss`",
        )

    def _submit(self, conn: Connection[Any], new: NewJob) -> Job | None:
        execute(conn, "lock_lineage", lineage=new.lineage)
        newest = fetch_one(conn, "newest_generation", lineage=new.lineage)
        if newest and newest["id"] == new.id:
            return _job(newest)
        if newest and newest["generation"] >= new.generation:
            return None
        found = new.preflight
        prepared = store_payload(conn, found.prepared)
        execute(
            conn, "insert_job", id=new.id, lineage=new.lineage, generation=new.generation,
            type=new.type, version=new.version, inputs=jsonb(new.inputs),
            source_identity=found.source_identity, engine=new.engine, reach=found.reach,
            owns=found.owns, prepared=prepared, priority=new.priority,
        )  # fmt: skip
        for position, stage in enumerate(new.stages):
            execute(
                conn, "insert_stage", job_id=new.id, position=position, name=stage.name,
                plan_memory=found.plan_memory, plan_seconds=stage.plan_seconds,
                max_failures=stage.max_failures,
            )  # fmt: skip
        record_event(conn, new.id, "job accepted", data={"generation": new.generation})
        self._open_stage(conn, new.id, 0, new.stages[0].name)
        row = fetch_one(conn, "get_job", job_id=new.id)
        return _job(row) if row else None

    def get(self, prefix: str) -> Job:
        """Return the only job whose id begins with `prefix`.

        Raises
        ------
        JobNotFound
            None begins so, or several do.
        """
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_jobs", prefix=prefix, limit=2)
        if len(rows) != 1:
            what = "no job" if not rows else "more than one job"
            raise JobNotFound(f"{what} begins with {prefix!r}", "`cogmill jobs` lists them")
        return _job(rows[0])

    def recent(self, limit: int = 50) -> list[Job]:
        """Return the newest jobs."""
        with self._database.transaction() as conn:
            return [_job(row) for row in fetch(conn, "find_jobs", prefix="", limit=limit)]

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

    def advance(self, job_id: str) -> JobStatus:
        """Close every stage that is done, open the next one, or end the job. SQL alone; idempotent.

        Returns
        -------
        JobStatus
            The job's status after it.
        """
        return self._database.run(lambda conn: self._advance(conn, job_id), repeatable=True)

    def _advance(self, conn: Connection[Any], job_id: str) -> JobStatus:
        execute(conn, "lock_job", job_id=job_id)
        while True:
            at = fetch_one(conn, "current_stage", job_id=job_id)
            if at is None:
                raise JobNotFound(f"no job {job_id}")
            status = JobStatus(at["job_status"])
            if status.terminal:
                return status
            if at["position"] is None:
                self._finish(conn, job_id)
            elif at["status"] == "pending":
                self._open_stage(conn, job_id, at["position"], at["name"])
                return status
            elif at["has_failed"]:
                first = fetch_one(conn, "first_failure", job_id=job_id) or {}
                self._end(conn, job_id, JobStatus.FAILED, _job_failure(first))
            elif at["has_open"] or at["status"] != "running":
                return status
            else:
                execute(conn, "close_stage", job_id=job_id, position=at["position"])
                record_event(conn, job_id, "stage closed", stage=at["name"])

    def previous(self, lineage: str) -> Previous | None:
        """Return what ended generations of a lineage left, None where there is none."""
        with self._database.transaction() as conn:
            rows = fetch(conn, "ended_generations", lineage=lineage)
        if not rows:
            return None
        made: list[JsonValue] = [row["outputs"] for row in rows if row["status"] == "successful"]
        return Previous(
            unclean=tuple(row["id"] for row in rows if row["owed"]),
            outputs=made[0] if made else None,
        )

    def unadvanced(self) -> list[str]:
        """Find live jobs that an advance would move."""
        with self._database.transaction() as conn:
            return [row["id"] for row in fetch(conn, "find_unadvanced_jobs")]

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

        return self._database.run(work, repeatable=True)

    def _open_stage(self, conn: Connection[Any], job_id: str, position: int, name: str) -> None:
        execute(conn, "open_stage", job_id=job_id, position=position)
        execute(conn, "insert_plan_task", job_id=job_id, position=position)
        execute(conn, "bump_wakeup", job_id=job_id)
        record_event(conn, job_id, "stage opened", stage=name)

    def _finish(self, conn: Connection[Any], job_id: str) -> None:
        execute(conn, "finish_job", job_id=job_id)
        execute(conn, "owe_cleanup", job_id=job_id, delay=0)
        execute(conn, "hasten_cleanups", job_id=job_id)
        execute(conn, "bump_wakeup", job_id=job_id)
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
        delay = CLEAN_AFTER_FAILURE_SECONDS if status is JobStatus.FAILED else 0
        execute(conn, "owe_cleanup", job_id=job_id, delay=delay)
        execute(conn, "bump_wakeup", job_id=job_id)
        record_event(conn, job_id, f"job {status}", data={"failure": str(failure or "")})


def _job_failure(first: Row) -> Failure:
    if not first.get("failure"):
        return Failure(code="permanent", cause=Cause.PERMANENT, message="a task failed")
    failure = Failure.model_validate(first["failure"])
    where = f"stage {first['stage']}, task {first['key']}"
    return failure.model_copy(update={"message": f"{failure.message} ({where})"})
