"""The child process: one task at a time, told and answered in frames.

It never touches the database and reads no environment; it dies with its parent, and its death
kills nobody else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, cast

from pydantic import BaseModel, JsonValue

from cogmill import failpoints, runtime
from cogmill.core_machine.child import frames
from cogmill.core_machine.child.adoption import adopting
from cogmill.core_machine.contracts import (
    Adoptable,
    Cause,
    Failure,
    JobView,
    PlannedTask,
    StageResult,
    StageType,
    Value,
)
from cogmill.core_machine.model.outcomes import no_room
from cogmill.errors import (
    CogmillError,
    DestinationTaken,
    PermanentError,
    Refused,
    SourceChanged,
)
from cogmill.job_types.registry import Registry
from cogmill.job_types.tools import Tools
from cogmill.settings import Settings, child_budget

_PR_SET_PDEATHSIG = 1
_Request = frames.PreflightRequest | frames.Examine | frames.Run


def main() -> None:
    """Serve the parent on standard input and output until it is gone."""
    _die_with_parent()
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    # Whatever a library reads or prints must not touch the frames.
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    try:
        _Server(source, sink).serve()
    except (frames.HungUp, KeyboardInterrupt):
        os._exit(0)


class _Server:
    """Answers one request after the other."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._payloads: dict[str, JsonValue] = {}
        self._shared: tuple[tuple[str, type[BaseModel]], BaseModel] | None = None
        hello = frames.read_to_child(source)
        if not isinstance(hello, frames.Hello):
            raise frames.HungUp(f"unexpected frame {hello.kind}")
        self._settings = Settings.model_validate(hello.settings)
        failpoints.arm(self._settings.failpoints)
        self._types = Registry.load()
        engines = {job_type.id: job_type.engine() for job_type in self._types}
        frames.write_frame(sink, frames.Ready(engines=engines))

    def serve(self) -> None:
        while True:
            match frames.read_to_child(self._source):
                case frames.Payload(digest=digest, body=body):
                    self._payloads[digest] = body
                case frames.PreflightRequest() | frames.Examine() | frames.Run() as request:
                    self._answer(request)
                case other:
                    raise frames.HungUp(f"unexpected frame {other.kind}")

    def _answer(self, request: _Request) -> None:
        _reset_peak_memory()
        failpoints.reach("child.begin")
        try:
            with runtime.tools(self._settings, self._progress, self._memory(request)) as tools:
                match request:
                    case frames.PreflightRequest():
                        value = self._preflight(request, tools)
                    case frames.Examine():
                        value = self._examine(request, tools)
                    case frames.Run():
                        value = self._run(request, tools)
            answer: Value = frames.Returned(value=value, peak_memory=_peak_memory())
        except frames.HungUp:
            raise
        except Exception as error:
            answer = _raised(error)
        failpoints.reach("child.answer")
        try:
            frames.write_frame(self._sink, answer)
        except ValueError as error:  # no JSON: a result of bytes or half a character
            frames.write_frame(self._sink, _raised(error))

    def _memory(self, request: _Request) -> int:
        match request:
            case frames.Run(memory=memory):
                return memory
            case frames.Examine():
                return child_budget(self._settings.memory, 1)
            case frames.PreflightRequest():
                return 0

    def _preflight(self, request: frames.PreflightRequest, tools: Tools) -> JsonValue:
        job_type = self._types.get(request.job_type)
        inputs = job_type.inputs.model_validate(request.inputs)
        previous = request.previous
        found = job_type.preflight(inputs, previous, tools)
        intact = (
            previous is not None
            and previous.outputs is not None
            and job_type.intact(job_type.outputs.model_validate(previous.outputs), tools)
        )
        return {"preflight": found.model_dump(mode="json"), "intact": intact}

    def _examine(self, request: frames.Examine, tools: Tools) -> JsonValue:
        # Here and not at the top: no task needs it.
        from cogmill.job_types.raster_to_cog.examining import examine

        listed = None
        if request.size is not None and request.sha256 is not None:
            listed = (request.size, request.sha256)
        found: JsonValue = examine(request.location, listed, tools).model_dump(mode="json")
        return found

    def _run(self, request: frames.Run, tools: Tools) -> JsonValue:
        job_type = self._types.get(request.job.type)
        # The parent counts on it: what this run does not name is sent again when it is wanted.
        wanted = (request.prepared, request.shared)
        self._payloads = {key: body for key, body in self._payloads.items() if key in wanted}
        job = JobView[Any](
            **{
                **request.job.model_dump(),
                "inputs": job_type.inputs.model_validate(request.job.inputs),
                "prepared": self._payloads[request.prepared],
                "prepared_digest": request.prepared,
            }
        )
        if request.what == "clean":
            job_type.clean(job, request.successful, tools)
            return None
        (stage,) = (stage for stage in job_type.stages if stage.name == request.stage)
        if request.what == "plan":
            return self._plan(stage, job, tools)
        if request.what == "split":
            return self._split(stage, job, request, tools)
        shared = self._parsed_shared(stage, request.shared)
        params = stage.task.params.model_validate(request.params)
        result: JsonValue = stage.task.execute(job, params, shared, tools).model_dump(mode="json")
        return result

    def _parsed_shared(self, stage: StageType[Any], digest: str | None) -> BaseModel | None:
        """Return what a stage shares; parsed once for all of its tasks."""
        if digest is None or stage.shared is None:
            return None
        key = digest, stage.shared
        if self._shared is None or self._shared[0] != key:
            self._shared = key, stage.shared.model_validate(self._payloads[digest])
        return self._shared[1]

    def _plan(self, stage: StageType[Any], job: JobView[Any], tools: Tools) -> JsonValue:
        earlier = _Earlier(self._source, self._sink)
        plan = stage.plan(job, earlier, tools)
        # Asked for in full first: the planner may ask for other rows while it is iterated.
        made = list(earlier.adoptable())
        self._send_planned(adopting(plan, made, stage.task, job, tools))
        if plan.shared is None:
            return None
        if stage.shared is None or not isinstance(plan.shared, stage.shared):
            raise PermanentError(
                f"the planner of stage {stage.name} shares a {type(plan.shared).__name__}, which "
                "is not what the stage says that it shares",
                "that is a defect of the job type",
            )
        shared: JsonValue = plan.shared.model_dump(mode="json")
        return shared

    def _split(
        self, stage: StageType[Any], job: JobView[Any], request: frames.Run, tools: Tools
    ) -> JsonValue:
        params = stage.task.params.model_validate(request.params)
        parts = list(stage.task.split(job, params, request.budget, tools))
        largest = max((part.requires.memory for part in parts), default=0)
        if not parts or largest > request.budget:
            raise no_room("a task", request.whole, request.budget)
        made = list(_Earlier(self._source, self._sink).adoptable())
        self._send_planned(adopting(parts, made, stage.task, job, tools))
        return None

    def _send_planned(self, tasks: Iterable[PlannedTask]) -> None:
        rest = iter(tasks)
        while batch := tuple(islice(rest, frames.ROWS_PER_FRAME)):
            frames.write_frame(self._sink, frames.Planned(tasks=batch))

    def _progress(self, done: int) -> None:
        frames.write_frame(self._sink, frames.Progress(done=done))


class _Earlier:
    """Asks the parent for results of earlier stages."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink

    def of(self, stage: str) -> Iterator[StageResult]:
        """Iterate the results of a closed stage."""
        return cast("Iterator[StageResult]", self._rows(stage))

    def adoptable(self) -> Iterator[Adoptable]:
        """Iterate what earlier generations made for the stage that is planned."""
        return cast("Iterator[Adoptable]", self._rows(None))

    def _rows(self, stage: str | None) -> Iterator[StageResult | Adoptable]:
        start, last = 0, False
        while not last:
            frames.write_frame(self._sink, frames.Ask(stage=stage, start=start))
            frame = frames.read_to_child(self._source)
            if not isinstance(frame, frames.Rows):
                raise frames.HungUp(f"unexpected frame {frame.kind}")
            yield from frame.rows
            start, last = start + len(frame.rows), frame.last


def _raised(error: Exception) -> frames.Raised:
    """Turn an exception into what the parent settles; the only place that does."""
    detail = "".join(traceback.format_exception(error))[-4000:]
    match error:
        case Refused():
            cause, refused = Cause.PERMANENT, True
        case SourceChanged():
            cause, refused = Cause.SOURCE_CHANGED, False
        case CogmillError(permanent=permanent):
            cause, refused = (Cause.PERMANENT if permanent else Cause.TRANSIENT), False
        case MemoryError():
            cause, refused = Cause.MEMORY, False
        case _:
            # A defect of ours or of a job type: the same input would meet it again.
            cause, refused = Cause.PERMANENT, False
    if isinstance(error, CogmillError):
        failure = Failure(code=error.code, cause=cause, message=error.message, remedy=error.remedy)
    else:
        message = f"{type(error).__name__}: {error}"
        failure = Failure(code="defect", cause=cause, message=message[:1000])
    owns = error.owns if isinstance(error, DestinationTaken) else None
    return frames.Raised(failure=failure, refused=refused, owns=owns, detail=detail)


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that spawned us ends; leave if it already has."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def _reset_peak_memory() -> None:
    # What earlier tasks freed and the allocator kept is not this task's: it goes back first.
    with contextlib.suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # not on Linux, or forbidden: the peak is then that of the process's life


def _peak_memory() -> int | None:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


if __name__ == "__main__":
    main()
