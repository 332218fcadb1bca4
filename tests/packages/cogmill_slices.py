"""A job type whose bytes do not depend on the cutting: slices of a sequence, joined in order.

A slice needs memory in proportion to its length, really touches it, and can be cut in two. What a
slice makes is a file; an earlier generation's is adopted while it is there.
"""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterable
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
from cogmill.errors import PermanentError, TransientError

BASE = 32 << 20
"""What the process of a task needs before it begins."""


class Inputs(BaseModel):
    """`length` numbers in slices of `step`, each number `unit` bytes of memory.

    `hungry` slices may use no more memory than they were promised `hungry_part` of, `broken` ones
    fail while the file ``mended`` is missing, `whole` forbids to cut.
    """

    folder: str
    length: int = 8
    step: int = 4
    unit: int = 1 << 20
    hungry: bool = False
    broken: tuple[int, ...] = ()
    transient: bool = False
    whole: bool = False
    source: str = "numbers"


class Slice(BaseModel):
    """The numbers from `first` up to, and not including, `stop`."""

    first: int
    stop: int


class Made(BaseModel):
    """Where the bytes of a slice are."""

    first: int
    path: str
    size: int


class Joined(BaseModel):
    """The whole."""

    sha256: str
    parts: int


class CutTask(TaskType[Slice, Made, Any]):
    """Writes the text of its numbers, with as much memory as it said."""

    params = Slice
    result = Made

    def execute(self, job: JobView[Inputs], params: Slice, shared: None, tools: Any) -> Made:
        inputs = job.inputs
        folder = Path(inputs.folder)
        with (folder / "executed").open("a") as log:
            log.write(f"{params.first} {params.stop} {job.attempt}\n")
        if params.first in inputs.broken and not (folder / "mended").exists():
            kind = TransientError if inputs.transient else PermanentError
            raise kind(f"slice {params.first} is broken", "mend it")
        if inputs.hungry:
            _allow(tools.memory // 2 if params.stop - params.first > inputs.step // 2 else None)
        try:
            held = bytearray(b"\1") * ((params.stop - params.first) * inputs.unit)
        finally:
            _allow(None)
        text = "".join(f"{number} {number**2}\n" for number in range(params.first, params.stop))
        path = folder / f"slice.{params.first}.{job.id[:8]}.{job.attempt}"
        path.write_text(text)
        tools.progress(len(held))
        return Made(first=params.first, path=str(path), size=len(text))

    def adopt(self, job: JobView[Inputs], result: Made, tools: Any) -> bool:
        path = Path(result.path)
        return path.exists() and path.stat().st_size == result.size

    def split(
        self, job: JobView[Inputs], params: Slice, budget: int, tools: Any
    ) -> Iterable[PlannedTask]:
        inputs = job.inputs
        most = (budget - BASE) // inputs.unit
        if inputs.whole or most < 1:
            return
        for first in range(params.first, params.stop, most):
            yield _planned(first, min(first + most, params.stop), inputs)


class Cuts(RootModel[tuple[Made, ...]]):
    """The slices."""


class JoinTask(TaskType[Slice, Joined, Any]):
    """Writes all slices into one file, in order."""

    params = Slice
    result = Joined

    def execute(self, job: JobView[Inputs], params: Slice, shared: Cuts, tools: Any) -> Joined:
        made = sorted(shared.root, key=lambda one: one.first)
        whole = b"".join(Path(one.path).read_bytes() for one in made)
        (Path(job.inputs.folder) / "whole").write_bytes(whole)
        return Joined(sha256=hashlib.sha256(whole).hexdigest(), parts=len(made))


class Cut(StageType[Any]):
    """A task a slice."""

    name = "cut"
    task = CutTask()
    max_failures: ClassVar[int] = 4

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        inputs = job.inputs
        firsts = range(0, inputs.length, inputs.step)
        return StagePlan(
            tasks=tuple(
                _planned(first, min(first + inputs.step, inputs.length), inputs) for first in firsts
            )
        )


class Join(StageType[Any]):
    """One task that fans in."""

    name = "join"
    task = JoinTask()
    shared = Cuts

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        task = PlannedTask(
            key="join", params={"first": 0, "stop": 0}, requires=Requirements(memory=BASE)
        )
        made = tuple(Made.model_validate(row.result) for row in earlier.of("cut"))
        return StagePlan(shared=Cuts(made), tasks=(task,))


def _planned(first: int, stop: int, inputs: Inputs) -> PlannedTask:
    return PlannedTask(
        key=f"{first}-{stop}",
        params={"first": first, "stop": stop},
        requires=Requirements(memory=BASE + (stop - first) * inputs.unit),
    )


def _allow(more: int | None) -> None:
    """Let this process have so many bytes more than now; None: as many as there are."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limit = resource.RLIM_INFINITY if more is None else held + more
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


class Slices(JobType[Inputs, Any]):
    """Numbers and their squares, in slices."""

    id: ClassVar[str] = "slices"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Joined
    hints: ClassVar[frozenset[str]] = frozenset({"source"})
    stages: tuple[StageType[Any], ...] = (Cut(), Join())

    def engine(self) -> str:
        return "slicer 1"

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Any) -> Preflight:
        return Preflight(
            source_identity=inputs.source,
            prepared=None,
            reach="any",
            owns=inputs.folder,
            plan_memory=BASE,
            plan_identity=f"{inputs.step}",
        )

    def intact(self, outputs: Any, tools: Any) -> bool:
        return True

    def clean(self, job: JobView[Inputs], successful: bool, tools: Any) -> None:
        for path in Path(job.inputs.folder).glob(f"slice.*.{job.id[:8]}.*"):
            path.unlink()
