"""The contracts of the machine: what a job type is, and what a job, a stage and a task are.

A job type is an ordered tuple of stages. A stage plans its tasks from the job and the streamed
results of earlier stages, and has one task type that executes them. The machine knows nothing
else about the work: `ToolsT` is whatever the runtime hands to ``execute``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from cogmill.core_machine import identity


class Value(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    """A plan task inserts its stage's work tasks."""

    PLAN = "plan"
    WORK = "work"


class Cause(StrEnum):
    """Why an attempt did not succeed; permanent causes are never retried."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    MEMORY = "memory"
    LOST = "lost"
    HUNG = "hung"
    SOURCE_CHANGED = "source changed"


def _storable(text: str) -> str:
    # A file's name or tag may carry what neither a frame nor PostgreSQL can; the rest is the news.
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


Told = Annotated[str, AfterValidator(_storable)]


class Failure(Value):
    """What a person is told about a failed attempt or job."""

    code: str
    cause: Cause
    message: Told
    remedy: Told = ""

    def __str__(self) -> str:
        """Return message and remedy as one line."""
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


# --- outcomes: returned and matched, in one place (`TaskProcessor.settle`) -------------------


class Succeeded(Value):
    """The attempt did its work; `result` is what it found (the state splits large ones)."""

    outcome: Literal["succeeded"] = "succeeded"
    result: JsonValue
    peak_memory: int | None = None


class Failed(Value):
    """The attempt failed for good: its task and so its job fail."""

    outcome: Literal["failed"] = "failed"
    failure: Failure


class Retry(Value):
    """The attempt failed in a way that may pass: charged, and due again after a backoff."""

    outcome: Literal["retry"] = "retry"
    failure: Failure


class Cancelled(Value):
    """The machine had already taken the task back; nothing is written."""

    outcome: Literal["cancelled"] = "cancelled"


class Released(Value):
    """The worker gives the task back unfinished (drain): not charged, due at once."""

    outcome: Literal["released"] = "released"


TaskOutcome = Annotated[
    Succeeded | Failed | Retry | Cancelled | Released, Field(discriminator="outcome")
]


# --- what is planned and what is seen ---------------------------------------------------------


class Requirements(Value):
    """What a task needs from the worker that claims it.

    Parameters
    ----------
    memory : int
        Predicted peak of the child in bytes; admits the task.
    seconds : int
        Time limit of one attempt; its deadline.
    """

    memory: int = Field(gt=0)
    seconds: int = Field(default=3600, gt=0)


class PlannedTask(Value):
    """One task that a stage's planner asks for; `key` is unique in the stage and names it."""

    key: str = Field(min_length=1, max_length=200)
    params: dict[str, JsonValue]
    requires: Requirements


class StagePlan(Value):
    """What a planner returns: `shared` is stored once; `tasks` may be a generator."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    shared: JsonValue = None
    tasks: Any  # Iterable[PlannedTask]; Any keeps pydantic from consuming a generator

    def __iter__(self) -> Iterator[PlannedTask]:  # type: ignore[override]  # a plan is its tasks
        """Iterate the planned tasks."""
        return iter(self.tasks)


class JobView(Value):
    """What planners and tasks see of their job.

    `attempt` is unique to this attempt of this task ("t17-a2"): objects that an attempt writes
    carry it in their names, so that a zombie never writes over its successor.
    """

    id: str
    lineage: str
    generation: int
    type: str
    version: int
    inputs: dict[str, JsonValue]
    source_identity: str
    engine: str
    prepared: JsonValue
    attempt: str = ""


class StageResult(Value):
    """The result of one succeeded task of an earlier stage."""

    key: str
    result: JsonValue


class EarlierResults(Protocol):
    """Streams the results of earlier stages to a planner, ordered by task id."""

    def of(self, stage: str) -> Iterator[StageResult]:
        """Iterate the results of the closed stage `stage`."""
        ...


class Previous(Value):
    """What a lineage left: generations still owed a clean-up, and what the last success made."""

    unclean: tuple[str, ...] = ()
    outputs: JsonValue = None


class Preflight(Value):
    """What ``JobType.preflight`` found: who the source is and what the job needs.

    Parameters
    ----------
    source_identity : str
        Changes whenever a byte of any contributing file may have changed.
    prepared : JSON
        Stored once with the job; every planner and task gets it, so nobody inspects twice.
    reach : str
        ``"any"``, or the name of the only host that can reach the locations.
    owns : str or None
        The destination; at most one live job owns it.
    plan_memory : int
        Bytes that a plan task of this job needs.
    event : dict
        What is logged of it, as one structured event.
    """

    source_identity: str
    prepared: JsonValue
    reach: str
    owns: str | None
    plan_memory: int
    event: dict[str, JsonValue] = Field(default_factory=dict)


InputsT = TypeVar("InputsT", bound=BaseModel)
ParamsT = TypeVar("ParamsT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)
ToolsT = TypeVar("ToolsT")


class TaskType(ABC, Generic[ParamsT, ResultT, ToolsT]):
    """Executes one task in a child; it may be run again at any time, so it is idempotent."""

    params: type[ParamsT]
    result: type[ResultT]

    @abstractmethod
    def execute(self, job: JobView, params: ParamsT, shared: JsonValue, tools: ToolsT) -> ResultT:
        """Do the work.

        Raises
        ------
        PermanentError
            A repetition cannot help: the job fails.
        TransientError
            It is tried again.
        """


class StageType(ABC, Generic[ToolsT]):
    """A named step of a job type: a planner and the task type of its tasks."""

    name: ClassVar[str]
    task: TaskType[Any, Any, ToolsT]
    plan_seconds: ClassVar[int] = 600
    max_failures: ClassVar[int] = 5

    @abstractmethod
    def plan(self, job: JobView, earlier: EarlierResults, tools: ToolsT) -> StagePlan:
        """Turn the job and earlier results into tasks; none is fine."""


class JobType(ABC, Generic[InputsT, ToolsT]):
    """The extension point: one module, registered, never a change of orchestration.

    `hints` names the fields of `inputs` that change neither a byte of the result nor where it goes.
    """

    id: ClassVar[str]
    version: ClassVar[int]
    inputs: type[InputsT]
    outputs: type[BaseModel]
    hints: ClassVar[frozenset[str]] = frozenset()
    stages: tuple[StageType[ToolsT], ...]

    @abstractmethod
    def engine(self) -> str:
        """Name everything whose version may change a byte of the result."""

    @abstractmethod
    def preflight(self, inputs: InputsT, previous: Previous | None, tools: ToolsT) -> Preflight:
        """Look at the source and the destination and plan, or refuse.

        What `previous` made in the destination belongs to this lineage and may be replaced.

        Raises
        ------
        Refused
            One sentence and its remedy; nothing is recorded.
        """

    @abstractmethod
    def intact(self, outputs: JsonValue, tools: ToolsT) -> bool:
        """Whether all of `outputs` are still there as recorded."""

    @abstractmethod
    def clean(self, job: JobView, successful: bool, tools: ToolsT) -> None:
        """Remove what the job no longer needs; idempotent; unless `successful`, its publish too."""

    def lineage(self, inputs: InputsT) -> str:
        """Return the SHA-256 of the canonical identity inputs (RFC 8785), as 64 hex digits."""
        return identity.lineage(self.id, inputs, self.hints)


# --- records: rows as frozen values -----------------------------------------------------------


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
    attempt: int
    failures: int
    max_failures: int

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
    only_job: str | None = None
    beat_seconds: float
    suspect_seconds: float


class JobTypes(Protocol):
    """The registry, as the machine needs it."""

    def get(self, type_id: str) -> JobType[Any, Any]:
        """Return the job type, or raise `UnknownJobType`."""
        ...

    def ids(self) -> Iterable[str]:
        """Iterate the known ids with their versions, as ``id:version``."""
        ...
