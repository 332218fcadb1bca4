"""A job type that misbehaves in every way that its input `fault` names."""

from __future__ import annotations

import os
import signal
import sys
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
from cogmill.errors import PermanentError

LARGE = "0123456789abcdef" * 65536
HALF_A_CHARACTER = "\udcff"
RESULTS = {
    "NUL in the result": "\0",
    "NUL in a large result": LARGE + "\0",
    "no text": HALF_A_CHARACTER,
    "large result": LARGE,
}


class Inputs(BaseModel):
    """`fault` says what goes wrong."""

    folder: str
    fault: str = ""
    count: int = 2


class Text(BaseModel):
    """Params and result alike."""

    text: str = ""


class Misbehave(TaskType[Text, Text, Any]):
    """Returns its params, or does what the fault says."""

    params = Text
    result = Text

    def execute(self, job: JobView[Inputs], params: Text, shared: None, tools: Any) -> Text:
        (Path(job.inputs.folder) / job.attempt).touch()
        match job.inputs.fault:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leaves":
                sys.exit(3)
            case "stands still":
                time.sleep(600)
            case "end of file":
                raise EOFError("the tail of a strip is missing")
            case "NUL in the message":
                raise PermanentError(f"tag \0 of {HALF_A_CHARACTER} is odd")
            case "prints":
                print("x" * 100_000)
            case "reads its input":
                return Text(text=sys.stdin.read())
        return Text(text=RESULTS.get(job.inputs.fault, params.text))


class Stage(StageType[Any]):
    """A stage of some tasks."""

    name = "first"
    task = Misbehave()
    max_failures: ClassVar[int] = 2

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        return StagePlan(tasks=self._tasks(job))

    def _tasks(self, job: JobView[Inputs]) -> Iterator[PlannedTask]:
        fault = job.inputs.fault
        if fault == "dies planning":
            os.kill(os.getpid(), signal.SIGKILL)
        for number in range(job.inputs.count):
            key = "same" if fault == "one key twice" else str(number)
            yield planned(key, LARGE[:5000] if fault == "large params" else "")


class Key(RootModel[str]):
    """Of the first task."""


class Streaming(Stage):
    """A task for each earlier result, planned while the results stream in."""

    name = "second"
    shared = Key

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        first = next(iter(earlier.of("first")), None)  # given up after one row
        shared = None if first is None else Key(first.key)
        rows = zip(earlier.of("first"), earlier.of("first"), strict=True)
        return StagePlan(shared=shared, tasks=(planned(row.key, "x" * 1000) for row, _ in rows))


def planned(key: str, text: str) -> PlannedTask:
    needs = Requirements(memory=1 << 20, still=1)
    return PlannedTask(key=key, params={"text": text}, requires=needs)


class Naughty(JobType[Inputs, Any]):
    """A job type as bad as its inputs."""

    id: ClassVar[str] = "naughty"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Text
    stages: tuple[StageType[Any], ...] = (Stage(), Streaming())

    def engine(self) -> str:
        return "naughty 1"

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Any) -> Preflight:
        match inputs.fault:
            case "preflight hangs":
                time.sleep(600)
            case "preflight dies":
                os.kill(os.getpid(), signal.SIGSEGV)
        return Preflight(
            source_identity="none", prepared=None, reach="any", owns=None, plan_memory=1 << 20
        )

    def intact(self, outputs: Any, tools: Any) -> bool:
        return True

    def clean(self, job: JobView[Inputs], successful: bool, tools: Any) -> None:
        folder = Path(job.inputs.folder)
        if job.inputs.fault == "clean-up dies once" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "cleaned").touch()
