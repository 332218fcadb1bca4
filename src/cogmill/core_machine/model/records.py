"""What the machine has recorded: rows as frozen values; `contracts` hands them on."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from cogmill.core_machine.model.outcomes import Failure, Value


class JobStatus(StrEnum):
    """OGC API - Processes status codes, stored verbatim."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"

    @property
    def terminal(self) -> bool:
        """Whether a job in this status never changes again."""
        return self in (JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.DISMISSED)


class TaskStatus(StrEnum):
    """Where a task stands; ``ready`` has a due time and is shown as retrying after a failure."""

    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskKind(StrEnum):
    """A plan task inserts its stage's work tasks; a split task, smaller ones in its own place."""

    PLAN = "plan"
    WORK = "work"
    SPLIT = "split"


class Job(Value):
    """A job as PostgreSQL has it."""

    id: str
    lineage: str
    generation: int
    type: str
    version: int
    inputs: dict[str, JsonValue]
    source_identity: str
    engine: str
    reach: str
    owns: str | None
    prepared: str
    priority: int
    status: JobStatus
    outputs: JsonValue
    failure: Failure | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Stage(Value):
    """A stage with the counts of its tasks."""

    position: int
    name: str
    status: str
    planned: int | None
    remaining: int | None
    ready: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    retrying: int = 0
    adopted: int = 0


class Task(Value):
    """A claimed task: one attempt, fenced by (id, attempt, incarnation)."""

    id: int
    job_id: str
    position: int
    kind: TaskKind
    key: str
    params: dict[str, JsonValue]
    job_type: str
    job_version: int
    memory: int
    seconds: int
    still_seconds: int | None = None
    attempt: int
    failures: int
    max_failures: int
    memory_failures: int = 0
    split_budget: int | None = None
    split_memory: int | None = None

    @property
    def label(self) -> str:
        """The attempt's unique name, e.g. ``t17-a2``."""
        return f"t{self.id}-a{self.attempt}"


class CleanUp(Value):
    """A claimed clean-up. `result_stays`: the job, or a later one of its destination, succeeded."""

    job_id: str
    job_type: str
    job_version: int
    attempt: int
    result_stays: bool


class Offer(Value):
    """What a worker offers; SQL matches it with what tasks require."""

    host: str
    pid: int
    slots: int
    memory: int
    seconds: int | None = None
    job_types: tuple[str, ...]
    engines: tuple[str, ...]
    reaches: tuple[str, ...]
    only_jobs: tuple[str, ...] | None = None
    on_demand: bool = False
    beat_seconds: float
    suspect_seconds: float
