"""Two job types for the benchmark of faults, registered by entry point as any extension is.

A job of one unit, and a job of units that one more unit follows when all of them are done.
"""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.faults.pace import POISON_ATTEMPTS
from benchmarks.faults.work import carry_on, perform
from pydantic import BaseModel, JsonValue

from cogmill.core_machine.contracts import (
    EarlierResults,
    JobType,
    JobView,
    PlannedTask,
    Preflight,
    Previous,
    Requirements,
    StagePlan,
    StageType,
    TaskType,
)

_MEMORY = 1 << 20


class UnitInputs(BaseModel):
    """What a unit does, and so what names the lineage."""

    order: dict[str, str]


class FanInInputs(BaseModel):
    """Units, and the one that follows them."""

    orders: list[dict[str, str]]
    follow: dict[str, str]


class Done(BaseModel):
    """The token of the execution that did the work."""

    token: str


class UnitTask(TaskType[UnitInputs, Done, Any]):
    """Does one unit."""

    params = UnitInputs
    result = Done

    def execute(self, job: JobView[Any], params: UnitInputs, shared: None, tools: Any) -> Done:
        """Do it."""
        return Done(token=perform(params.order))


class Handed(BaseModel):
    """A unit, and the token of the execution whose result was taken."""

    order: dict[str, str]
    token: str


class ThenTask(TaskType[Handed, Done, Any]):
    """Follows one unit."""

    params = Handed
    result = Done

    def execute(self, job: JobView[Any], params: Handed, shared: None, tools: Any) -> Done:
        """Note whose result was handed on."""
        return Done(token=carry_on(params.order, params.token))


class _Stage(StageType[Any]):
    task: TaskType[Any, Any, Any] = UnitTask()
    # ARCHITECTURE.md, I10: everything ends within `max_failures`; this is the default, spelt out.
    max_failures: ClassVar[int] = POISON_ATTEMPTS


def _tasks(*orders: JsonValue) -> StagePlan:
    return StagePlan(
        tasks=tuple(
            PlannedTask(
                key=str(order["unit"]),
                params={"order": order},
                requires=Requirements(memory=_MEMORY),
            )
            for order in orders
            if isinstance(order, dict)
        )
    )


class One(_Stage):
    """The unit of a job of one."""

    name = "one"

    def plan(self, job: JobView[Any], earlier: EarlierResults, tools: Any) -> StagePlan:
        """Plan one task."""
        return _tasks(job.inputs.order)


class Then(_Stage):
    """What follows the unit of a job of one."""

    name = "then"
    task = ThenTask()

    def plan(self, job: JobView[Any], earlier: EarlierResults, tools: Any) -> StagePlan:
        """Plan one task from the result that was taken."""
        tokens = [row.result["token"] for row in earlier.of("one") if isinstance(row.result, dict)]
        params: dict[str, JsonValue] = {"order": job.inputs.order, "token": tokens[0]}
        task = PlannedTask(key="then", params=params, requires=Requirements(memory=_MEMORY))
        return StagePlan(tasks=(task,))


class Before(_Stage):
    """The units that are followed."""

    name = "before"

    def plan(self, job: JobView[Any], earlier: EarlierResults, tools: Any) -> StagePlan:
        """Plan a task a unit."""
        orders = job.inputs.orders
        return _tasks(*(orders if isinstance(orders, list) else ()))


class Follow(_Stage):
    """The unit that follows: its stage opens when no task of the one before is open."""

    name = "follow"

    def plan(self, job: JobView[Any], earlier: EarlierResults, tools: Any) -> StagePlan:
        """Plan one task."""
        return _tasks(job.inputs.follow)


class _Job(JobType[Any, Any]):
    version: ClassVar[int] = 1
    outputs = Done

    def engine(self) -> str:
        """Any engine does the same."""
        return "bench 1"

    def preflight(self, inputs: Any, previous: Previous | None, tools: Any) -> Preflight:
        """Accept everything; the unit's name is the destination."""
        return Preflight(
            source_identity="bench",
            prepared={},
            reach="any",
            owns=f"bench/{self.unit(inputs)}",
            plan_memory=_MEMORY,
        )

    def unit(self, inputs: Any) -> str:
        """Name the unit that the job is for."""
        raise NotImplementedError

    def intact(self, outputs: Any, tools: Any) -> bool:
        """Nothing that a unit made can be lost."""
        return True

    def clean(self, job: JobView[Any], successful: bool, tools: Any) -> None:
        """Nothing is left behind."""


class UnitJob(_Job):
    """One unit."""

    id: ClassVar[str] = "bench-unit"
    inputs = UnitInputs
    stages = (One(), Then())

    def unit(self, inputs: UnitInputs) -> str:
        """Name it."""
        return inputs.order["unit"]


class FanInJob(_Job):
    """Units, and one that follows."""

    id: ClassVar[str] = "bench-fan-in"
    inputs = FanInInputs
    stages = (Before(), Follow())

    def unit(self, inputs: FanInInputs) -> str:
        """Name the one that follows."""
        return inputs.follow["unit"]
