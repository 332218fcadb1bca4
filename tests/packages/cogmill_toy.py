"""A job type in a package of its own, registered by entry point: squares, and their sum.

Its inputs script the faults that tests need: files of the test's own say what has happened.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

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
from cogmill.errors import PermanentError, Refused, TransientError


class Inputs(BaseModel):
    """`folder` takes one file an executed attempt; `fail` and `die` name the keys that do."""

    name: str
    count: int = 4
    folder: str
    refuse: bool = False
    fail: tuple[int, ...] = ()
    stumble: tuple[int, ...] = ()
    die: tuple[int, ...] = ()
    hold: bool = False
    hint: int = 0


class Number(BaseModel):
    """A task's params."""

    number: int


class Square(BaseModel):
    """A task's result."""

    square: int


class Total(BaseModel):
    """The job's outputs."""

    total: int


class SquareTask(TaskType[Number, Square, Any]):
    """Squares a number, or misbehaves as told."""

    params = Number
    result = Square

    def execute(self, job: JobView, params: Number, shared: JsonValue, tools: Any) -> Square:
        inputs = Inputs.model_validate(job.inputs)
        folder, number = Path(inputs.folder), params.number
        earlier = len(list(folder.glob(f"{number}.*")))
        (folder / f"{number}.{job.attempt}").touch()
        if number in inputs.fail:
            raise PermanentError(f"number {number} cannot be squared", "leave it out")
        if number in inputs.stumble and not earlier:
            raise TransientError("the abacus is busy")
        if number in inputs.die and not earlier:
            os.kill(os.getpid(), signal.SIGKILL)
        while inputs.hold and not (folder / "go").exists():
            time.sleep(0.01)
        tools.progress(1)
        return Square(square=number**2)


class TotalTask(TaskType[Number, Total, Any]):
    """Adds what the plan shared."""

    params = Number
    result = Total

    def execute(self, job: JobView, params: Number, shared: JsonValue, tools: Any) -> Total:
        assert isinstance(shared, list)
        return Total(total=sum(int(str(value)) for value in shared))


class Nothing(StageType[Any]):
    """A stage that plans no task."""

    name: ClassVar[str] = "nothing"
    task = SquareTask()

    def plan(self, job: JobView, earlier: EarlierResults, tools: Any) -> StagePlan:
        return StagePlan(tasks=())


class Squares(StageType[Any]):
    """A task a number."""

    name: ClassVar[str] = "squares"
    task = SquareTask()

    def plan(self, job: JobView, earlier: EarlierResults, tools: Any) -> StagePlan:
        return StagePlan(tasks=self._tasks(int(str(job.inputs["count"]))))

    def _tasks(self, count: int) -> Iterator[PlannedTask]:
        for number in range(count):
            yield PlannedTask(
                key=str(number), params={"number": number}, requires=Requirements(memory=1 << 20)
            )


class Totals(StageType[Any]):
    """One task that fans in."""

    name: ClassVar[str] = "totals"
    task = TotalTask()

    def plan(self, job: JobView, earlier: EarlierResults, tools: Any) -> StagePlan:
        squares: JsonValue = [
            row.result["square"] for row in earlier.of("squares") if isinstance(row.result, dict)
        ]
        task = PlannedTask(key="total", params={"number": 0}, requires=Requirements(memory=1 << 20))
        return StagePlan(shared=squares, tasks=(task,))


class Toy(JobType[Inputs, Any]):
    """Squares of the first numbers, added."""

    id: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Total
    hints: ClassVar[frozenset[str]] = frozenset({"hint"})
    stages: tuple[StageType[Any], ...] = (Nothing(), Squares(), Totals())

    def engine(self) -> str:
        return "abacus 1"

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Any) -> Preflight:
        if inputs.refuse:
            raise Refused("numbers are not welcome today", "come back tomorrow")
        return Preflight(
            source_identity="numbers",
            prepared={"previous": previous is not None},
            reach="any",
            owns=f"sums/{inputs.name}",
            plan_memory=1 << 20,
        )

    def intact(self, outputs: JsonValue, tools: Any) -> bool:
        return True

    def clean(self, job: JobView, successful: bool, tools: Any) -> None:
        folder = Path(str(job.inputs["folder"]))
        (folder / f"cleaned.{'ok' if successful else 'failed'}").touch()
