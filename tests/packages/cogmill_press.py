"""A job type that stages bytes and publishes them: sheets of pages, bound with an index.

Two stages: `sheets` stages one object a page; `bind` records what it is about to publish, commits
every page and the index last. Its inputs script what tests need; the bytes depend on none of that.
"""

from __future__ import annotations

import hashlib
import json
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
from cogmill.errors import PermanentError, TransientError
from cogmill.job_types.raster_to_cog import places
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedObject, Tally

MEMORY = 1 << 20
#: Soon enough that what hangs is over while a test waits.
SECONDS = 3
LOOK_SECONDS = 0.02
PAGE_BYTES = 5000
INDEX = "index.json"


class Inputs(BaseModel):
    """`destination` takes the book; `folder` takes notes, and lies elsewhere.

    `hold` names keys that wait for the note ``go``; `stumble`, `faint` and `die` those that fail
    once, for want of luck, of memory, and of life; `spoil` those that fail until the note
    ``mended`` is there. `large` names those that no worker has room for in one.
    """

    destination: str
    folder: str
    pages: int = 4
    wide: int = 1
    hold: tuple[str, ...] = ()
    stumble: tuple[str, ...] = ()
    faint: tuple[str, ...] = ()
    die: tuple[str, ...] = ()
    spoil: tuple[str, ...] = ()
    large: tuple[str, ...] = ()


class Pages(BaseModel):
    """A task's params: which pages it makes."""

    key: str
    first: int
    count: int


class Sheet(BaseModel):
    """What a task staged, and a remark that makes the result large."""

    pages: list[StagedObject]
    remark: str


class Book(BaseModel):
    """The job's outputs."""

    files: list[StagedObject]


def _behave(job: JobView[Inputs], key: str, *, whole: bool) -> None:
    """Do as the inputs say."""
    inputs = job.inputs
    folder = Path(inputs.folder)
    before = any(folder.glob(f"{key}.t*"))
    (folder / f"{key}.{job.attempt}").touch()
    while key in inputs.hold and not (folder / "go").exists():
        time.sleep(LOOK_SECONDS)
    if key in inputs.stumble and not before:
        raise TransientError("the paper is stuck")
    if key in inputs.faint and whole:
        raise MemoryError
    if key in inputs.die and not before:
        os.kill(os.getpid(), signal.SIGKILL)
    if key in inputs.spoil and not (folder / "mended").exists():
        raise PermanentError("the ink has dried", "mend it")


class Paper(BaseModel):
    """What is printed on."""

    size: str


class PressTask(TaskType[Pages, Sheet, Any]):
    """Stages pages."""

    params = Pages
    result = Sheet

    def execute(self, job: JobView[Inputs], params: Pages, shared: Paper, tools: Any) -> Sheet:
        _behave(job, params.key, whole=params.count > 1)
        target = Location.parse(job.inputs.destination)
        area = places.final_area(target, job.id)
        made = []
        for number in range(params.first, params.first + params.count):
            text = hashlib.sha256(b"%d" % number).hexdigest().encode()
            page = (text * (PAGE_BYTES // len(text) + 1))[: PAGE_BYTES + number]
            final = target.join(f"page{number}.txt")
            made.append(tools.storage.stage(final, [page[:99], page[99:]], area))
            tools.progress(len(made))
        return Sheet(pages=made, remark="." * 9000)

    def adopt(self, job: JobView[Inputs], result: Sheet, tools: Any) -> bool:
        return all(tools.storage.can_commit(page) for page in result.pages)

    def split(
        self, job: JobView[Inputs], params: Pages, budget: int, tools: Any
    ) -> Iterator[PlannedTask]:
        for number in range(params.first, params.first + params.count):
            yield _planned(f"{params.key}.{number}", number, 1, min(MEMORY, budget))


class Loose(RootModel[tuple[StagedObject, ...]]):
    """Pages that are not bound yet."""


class BindTask(TaskType[Pages, Book, Any]):
    """Publishes the pages, and what names them last."""

    params = Pages
    result = Book

    def execute(self, job: JobView[Inputs], params: Pages, shared: Loose, tools: Any) -> Book:
        pages = shared.root
        target = Location.parse(job.inputs.destination)
        area = places.final_area(target, job.id)
        listed = {page.final.name: page.sha256 for page in pages}
        text = json.dumps(listed, indent=1).encode()
        index = tools.storage.stage(target.join(INDEX), [text], area)
        everything = [*pages, index]
        places.write_publish_record(area, everything, tools)
        for page in pages:
            tools.storage.commit(page)
        _behave(job, params.key, whole=False)
        tools.storage.commit(index)
        return Book(files=everything)


class Sheets(StageType[Any]):
    """As many tasks as it takes to make the pages, `wide` at a time."""

    name = "sheets"
    task = PressTask()
    shared = Paper
    plan_seconds: ClassVar[int] = SECONDS

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        inputs = job.inputs
        return StagePlan(shared=Paper(size="A4"), tasks=self._tasks(inputs))

    def _tasks(self, inputs: Inputs) -> Iterator[PlannedTask]:
        for first in range(0, inputs.pages, inputs.wide):
            key = f"sheet{first}"
            memory = 1 << 40 if key in inputs.large else MEMORY
            yield _planned(key, first, min(inputs.wide, inputs.pages - first), memory)


class Bind(StageType[Any]):
    """One task."""

    name = "bind"
    task = BindTask()
    shared = Loose
    plan_seconds: ClassVar[int] = SECONDS

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        sheets = [Sheet.model_validate(row.result) for row in earlier.of("sheets")]
        pages = sorted((page for sheet in sheets for page in sheet.pages), key=_name)
        return StagePlan(shared=Loose(tuple(pages)), tasks=(_planned("bind", 0, len(pages)),))


class Press(JobType[Inputs, Any]):
    """A small book."""

    id: ClassVar[str] = "press"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Book
    stages: tuple[StageType[Any], ...] = (Sheets(), Bind())

    def engine(self) -> str:
        return "press 1"

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Any) -> Preflight:
        return Preflight(
            source_identity="paper",
            prepared={"previous": previous is not None},
            reach="any",
            owns=inputs.destination,
            plan_memory=MEMORY,
        )

    def intact(self, outputs: Any, tools: Any) -> bool:
        return all(_holds(file, tools) for file in outputs.files)

    def clean(self, job: JobView[Inputs], successful: bool, tools: Any) -> None:
        area = places.final_area(Location.parse(job.inputs.destination), job.id)
        if not successful:
            for staged in reversed(places.read_publish_record(area, tools)):
                tools.storage.abort(staged)
                if _holds(staged, tools):
                    tools.storage.delete(staged.final)
        tools.storage.delete_prefix(area)


def _planned(key: str, first: int, count: int, memory: int = MEMORY) -> PlannedTask:
    return PlannedTask(
        key=key,
        params={"key": key, "first": first, "count": count},
        requires=Requirements(memory=memory, seconds=SECONDS),
    )


def _name(staged: StagedObject) -> str:
    return str(staged.final)


def _holds(staged: StagedObject, tools: Any) -> bool:
    location: Location = staged.final
    info = tools.storage.info(location)
    if info is None or info.size != staged.size:
        return False
    tally = Tally()
    tally.add(tools.storage.read(location))
    return tally.matches(staged)
