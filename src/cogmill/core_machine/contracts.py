"""The contracts of the machine: what a job type is, and what a job, a stage and a task are.

A job type is an ordered tuple of stages. A stage plans its tasks from the job and the streamed
results of earlier stages, and has one task type that executes them. The machine knows nothing
else about the work: `ToolsT` is whatever the runtime hands to ``execute``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cogmill.core_machine.model import identity
from cogmill.core_machine.model.outcomes import (
    Cancelled,
    Cause,
    Failed,
    Failure,
    Released,
    Retry,
    Split,
    Succeeded,
    TaskOutcome,
    Told,
    Value,
)
from cogmill.core_machine.model.records import (
    CleanUp,
    Job,
    JobStatus,
    Offer,
    Stage,
    Task,
    TaskKind,
    TaskStatus,
)

__all__ = [
    "Adoptable",
    "Cancelled",
    "Cause",
    "CleanUp",
    "EarlierResults",
    "Failed",
    "Failure",
    "Job",
    "JobStatus",
    "JobType",
    "JobTypes",
    "JobView",
    "Offer",
    "PlannedTask",
    "Preflight",
    "Previous",
    "Released",
    "Requirements",
    "Retry",
    "Split",
    "Stage",
    "StagePlan",
    "StageResult",
    "StageType",
    "Succeeded",
    "Task",
    "TaskKind",
    "TaskOutcome",
    "TaskStatus",
    "TaskType",
    "Told",
    "Value",
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
    still : int or None
        Seconds without progress after which an attempt hangs; None where it reports none.
    """

    memory: int = Field(gt=0)
    seconds: int = Field(default=3600, gt=0)
    still: int | None = Field(default=None, gt=0)


class PlannedTask(Value):
    """One task that a stage's planner asks for; `key` is unique in the stage and names it.

    `adopted_from` is the machine's: the task of an earlier generation whose result it takes over.
    """

    key: str = Field(min_length=1, max_length=200)
    params: dict[str, JsonValue]
    requires: Requirements
    adopted_from: int | None = None


class StagePlan(Value):
    """What a planner returns.

    Parameters
    ----------
    shared : BaseModel or None
        Of the type that the stage names; stored once, and given to each of its tasks.
    tasks : iterable of PlannedTask
        May be a generator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    shared: BaseModel | None = None
    tasks: Any  # Iterable[PlannedTask]; Any keeps pydantic from consuming a generator

    def __iter__(self) -> Iterator[PlannedTask]:  # type: ignore[override]  # a plan is its tasks
        """Iterate the planned tasks."""
        return iter(self.tasks)


InputsT = TypeVar("InputsT", bound=BaseModel)
ParamsT = TypeVar("ParamsT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)
ToolsT = TypeVar("ToolsT")


class JobView(Value, Generic[InputsT]):
    """What planners and tasks see of their job.

    Parameters
    ----------
    inputs : BaseModel
        Of the job type's own type.
    prepared : JSON
        What preflight prepared.
    prepared_digest : str
        Names `prepared`: two jobs with the same digest have the same.
    attempt : str
        Unique to this attempt of this task ("t17-a2"): objects that an attempt writes carry it in
        their names, so that a zombie never writes over its successor.
    """

    id: str
    lineage: str
    generation: int
    type: str
    version: int
    inputs: InputsT
    source_identity: str
    engine: str
    prepared: JsonValue
    prepared_digest: str = ""
    attempt: str = ""


class StageResult(Value):
    """The result of one succeeded task of an earlier stage."""

    key: str
    result: JsonValue


class Adoptable(Value):
    """What a task of an earlier generation made, with the same plan, source and engine."""

    task_id: int
    key: str
    params: dict[str, JsonValue]
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
    plan_identity : str
        Changes whenever a task of the same key and params could make something else; what an
        earlier generation made under another one is not adopted.
    event : dict
        What is logged of it, as one structured event.
    """

    source_identity: str
    prepared: JsonValue
    reach: str
    owns: str | None
    plan_memory: int
    plan_identity: str = ""
    event: dict[str, JsonValue] = Field(default_factory=dict)


class TaskType(ABC, Generic[ParamsT, ResultT, ToolsT]):
    """Executes one task in a child; it may be run again at any time, so it is idempotent."""

    params: type[ParamsT]
    result: type[ResultT]

    @abstractmethod
    def execute(self, job: JobView[Any], params: ParamsT, shared: Any, tools: ToolsT) -> ResultT:
        """Do the work.

        Parameters
        ----------
        job : JobView
            Of the job type's inputs.
        shared : BaseModel or None
            What the stage's planner shared, of the type that the stage names.

        Raises
        ------
        PermanentError
            A repetition cannot help: the job fails.
        TransientError
            It is tried again.
        """

    def adopt(self, job: JobView[Any], result: ResultT, tools: ToolsT) -> bool:
        """Whether what an earlier generation made is still there, as its result says.

        Then the task is not done again; by default it is.
        """
        return False

    def split(
        self, job: JobView[Any], params: ParamsT, budget: int, tools: ToolsT
    ) -> Iterable[PlannedTask]:
        """Return tasks that do together what one with `params` does, in `budget` bytes each.

        None by default: the task cannot be split. Their results are read as those of the stage;
        the job's bytes must not depend on the cutting.
        """
        return ()


class StageType(ABC, Generic[ToolsT]):
    """A named step of a job type: a planner and the task type of its tasks."""

    name: str
    plan_seconds: ClassVar[int] = 600
    max_failures: ClassVar[int] = 5

    @property
    def shared(self) -> type[BaseModel] | None:
        """What its planner shares with its tasks; None: nothing."""
        return None

    @property
    @abstractmethod
    def task(self) -> TaskType[Any, Any, ToolsT]:
        """What its tasks are."""

    @abstractmethod
    def plan(self, job: JobView[Any], earlier: EarlierResults, tools: ToolsT) -> StagePlan:
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
    def intact(self, outputs: Any, tools: ToolsT) -> bool:
        """Whether all of `outputs`, of the job type's own type, are still there as recorded."""

    @abstractmethod
    def clean(self, job: JobView[InputsT], successful: bool, tools: ToolsT) -> None:
        """Remove what the job no longer needs; idempotent; unless `successful`, its publish too."""

    def lineage(self, inputs: InputsT) -> str:
        """Return the SHA-256 of the canonical identity inputs (RFC 8785), as 64 hex digits."""
        return identity.lineage(self.id, inputs, self.hints)


class JobTypes(Protocol):
    """The registry, as the machine needs it."""

    def get(self, type_id: str) -> JobType[Any, Any]:
        """Return the job type, or raise `UnknownJobType`."""
        ...

    def ids(self) -> Iterable[str]:
        """Iterate the known ids with their versions, as ``id:version``."""
        ...
