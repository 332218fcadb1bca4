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

from pydantic import BaseModel, RootModel

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

    def execute(self, job: JobView[Inputs], params: Number, shared: None, tools: Any) -> Square:
        inputs = job.inputs
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


class Addends(RootModel[tuple[int, ...]]):
    """What the squares are."""


class TotalTask(TaskType[Number, Total, Any]):
    """Adds what the plan shared."""

    params = Number
    result = Total

    def execute(self, job: JobView[Inputs], params: Number, shared: Addends, tools: Any) -> Total:
        return Total(total=sum(shared.root))


class Nothing(StageType[Any]):
    """A stage that plans no task."""

    name = "nothing"
    task = SquareTask()

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        return StagePlan(tasks=())


class Squares(StageType[Any]):
    """A task a number."""

    name = "squares"
    task = SquareTask()

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        return StagePlan(tasks=self._tasks(job.inputs.count))

    def _tasks(self, count: int) -> Iterator[PlannedTask]:
        for number in range(count):
            yield PlannedTask(
                key=str(number), params={"number": number}, requires=Requirements(memory=1 << 20)
            )


class Totals(StageType[Any]):
    """One task that fans in."""

    name = "totals"
    task = TotalTask()
    shared = Addends

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        squares = tuple(Square.model_validate(row.result).square for row in earlier.of("squares"))
        task = PlannedTask(key="total", params={"number": 0}, requires=Requirements(memory=1 << 20))
        return StagePlan(shared=Addends(squares), tasks=(task,))


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

    def intact(self, outputs: Any, tools: Any) -> bool:
        return True

    def clean(self, job: JobView[Inputs], successful: bool, tools: Any) -> None:
        folder = Path(job.inputs.folder)
        (folder / f"cleaned.{'ok' if successful else 'failed'}").touch()
