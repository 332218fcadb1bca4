"""A job type whose tasks hold on or burn, say who did them, and leave files where they should.

Two stages: `work`, whose tasks do as the inputs say, and `publish`, one task that ends the job.
"""

from __future__ import annotations

import os
import time
from collections import deque
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

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

MEMORY = 1 << 20
LOOK_SECONDS = 0.03


class Inputs(BaseModel):
    """`folder` takes notes: ``NUMBER.ATTEMPT`` of what began, ``go`` ends what holds.

    `out` is the destination, of which nothing may be left unless the job was successful.
    """

    name: str
    folder: str
    out: str
    count: int = 1
    do: Literal["hold", "burn"] = "hold"
    seconds: float = 0.0
    reach: str = "any"


class Number(BaseModel):
    """A task's params."""

    number: int


class Done(BaseModel):
    """Which attempt did it, in which child of which worker, by which clock; seconds in one call."""

    by: str
    parent: int
    clock: float
    seconds: float = 0.0


class Work(TaskType[Number, Done, Any]):
    """Writes to the destination, then holds on or burns."""

    params = Number
    result = Done

    def execute(self, job: JobView[Inputs], params: Number, shared: None, tools: Any) -> Done:
        inputs = job.inputs
        (Path(inputs.out) / f"part.{params.number}.{job.attempt}").touch()
        (Path(inputs.folder) / f"{params.number}.{job.attempt}").touch()
        seconds = 0.0
        if inputs.do == "burn":
            seconds = burn(inputs.seconds)
        while inputs.do == "hold" and not (Path(inputs.folder) / "go").exists():
            time.sleep(LOOK_SECONDS)
        return done(job, seconds)


class Name(TaskType[Number, Done, Any]):
    """Writes what names the result."""

    params = Number
    result = Done

    def execute(self, job: JobView[Inputs], params: Number, shared: None, tools: Any) -> Done:
        (Path(job.inputs.out) / f"published.{job.attempt}").touch()
        return done(job)


def burn(seconds: float) -> float:
    """Spend about that long in one call of C that never lets go of the GIL; return how long."""
    turns = 1_000_000
    while (spent := spin(turns)) < seconds / 50:
        turns *= 2
    return spin(int(turns * seconds / spent))


def spin(turns: int) -> float:
    begun = time.perf_counter()
    deque(repeat(None, turns), maxlen=0)
    return time.perf_counter() - begun


def done(job: JobView[Inputs], seconds: float = 0.0) -> Done:
    return Done(by=job.attempt, parent=os.getppid(), clock=time.time(), seconds=seconds)


def planned(number: int) -> PlannedTask:
    return PlannedTask(
        key=str(number), params={"number": number}, requires=Requirements(memory=MEMORY)
    )


class WorkStage(StageType[Any]):
    """As many tasks as the inputs say."""

    name = "work"
    task = Work()
    max_failures: ClassVar[int] = 1000

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        return StagePlan(tasks=(planned(n) for n in range(job.inputs.count)))


class PublishStage(StageType[Any]):
    """One task."""

    name = "publish"
    task = Name()

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        return StagePlan(tasks=(planned(sum(1 for _ in earlier.of("work"))),))


class Heavy(JobType[Inputs, Any]):
    """Work that is no use to anybody."""

    id: ClassVar[str] = "heavy"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Done
    stages: tuple[StageType[Any], ...] = (WorkStage(), PublishStage())

    def engine(self) -> str:
        return "anvil 1"

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Any) -> Preflight:
        return Preflight(
            source_identity="iron",
            prepared=None,
            reach=inputs.reach,
            owns=inputs.out,
            plan_memory=MEMORY,
        )

    def intact(self, outputs: Any, tools: Any) -> bool:
        return True

    def clean(self, job: JobView[Inputs], successful: bool, tools: Any) -> None:
        for path in Path(job.inputs.out).iterdir():
            if not (successful and path.name.startswith("published")):
                path.unlink(missing_ok=True)
