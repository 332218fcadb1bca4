"""Generations of a lineage: submit one, see what earlier ones left, and who inherits it."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, errors
from pydantic import JsonValue

from cogmill.core_machine.contracts import Adoptable, Job, Preflight, Previous, Value
from cogmill.core_machine.state.cleanup import under_way
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.database.rows import execute, fetch, fetch_one, jsonb
from cogmill.core_machine.state.recording import job_from, open_stage, record_event, store_payload
from cogmill.errors import DestinationBusy, Refused


class NewStage(Value):
    """A stage's row, from its type."""

    name: str
    plan_seconds: int
    max_failures: int


class NewJob(Value):
    """Everything that submit records.

    `adopt_before` is the position of the first stage that adopts nothing of earlier generations;
    None: every stage may, 0: none does.
    """

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
    adopt_before: int | None = None


class Generations:
    """The job and stage tables, as lineages see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, lineage: str) -> Job | None:
        """Return the newest generation of a lineage."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "newest_generation", lineage=lineage)
        return job_from(row) if row else None

    def maker(self, owns: str) -> Job | None:
        """Return the job of any lineage that published into a destination last."""
        with self._database.transaction() as conn:
            row = fetch_one(conn, "last_maker", owns=owns)
        return job_from(row) if row else None

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

    def adoptable(self, job_id: str, position: int) -> list[Adoptable]:
        """Return what earlier generations made for a stage of this job, the newest first."""
        with self._database.transaction() as conn:
            rows = fetch(conn, "find_adoptable", job_id=job_id, position=position)
        return [Adoptable.model_validate(row) for row in rows]

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
        DestinationBusy
            An ended job's leftovers are just being removed from it: to publish beside that would
            lose what has the same bytes. It passes.
        """
        try:
            return self._database.run(
                lambda conn: _submit(conn, new), name="submit", repeatable=True
            )
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


def _submit(conn: Connection[Any], new: NewJob) -> Job | None:
    execute(conn, "lock_lineage", lineage=new.lineage)
    newest = fetch_one(conn, "newest_generation", lineage=new.lineage)
    if newest and newest["id"] == new.id:
        return job_from(newest)
    if newest and newest["generation"] >= new.generation:
        return None
    found = new.preflight
    if (cleaned := under_way(conn, found.owns)) is not None:
        raise DestinationBusy(
            f"what job {cleaned[:12]} left in {found.owns} is just being removed",
            "try again in a moment",
        )
    prepared = store_payload(conn, found.prepared)
    execute(
        conn, "insert_job", id=new.id, lineage=new.lineage, generation=new.generation,
        type=new.type, version=new.version, inputs=jsonb(new.inputs),
        source_identity=found.source_identity, engine=new.engine, reach=found.reach,
        owns=found.owns, prepared=prepared, priority=new.priority,
        plan_identity=found.plan_identity, adopt_before=new.adopt_before,
    )  # fmt: skip
    for position, stage in enumerate(new.stages):
        execute(
            conn, "insert_stage", job_id=new.id, position=position, name=stage.name,
            plan_memory=found.plan_memory, plan_seconds=stage.plan_seconds,
            max_failures=stage.max_failures,
        )  # fmt: skip
    if new.adopt_before != 0:
        execute(conn, "inherit_cleanups", job_id=new.id, lineage=new.lineage)
    record_event(conn, new.id, "job accepted", data={"generation": new.generation})
    open_stage(conn, new.id, 0, new.stages[0].name)
    row = fetch_one(conn, "get_job", job_id=new.id)
    return job_from(row) if row else None
