"""Many sources in one command: one COG each, one set of slots for all, one table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cogmill import runtime
from cogmill.cli.asking import Asked, demand_fit, same_command
from cogmill.cli.console import Output, error_document, size_text
from cogmill.cli.progress import watching_files
from cogmill.cli.report import job_document, next_command
from cogmill.cli.signals import INTERRUPTED
from cogmill.core_machine.contracts import Job, JobStatus
from cogmill.errors import CogmillError, Refused
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.request import most_children, plan_summary
from cogmill.runtime import Machine
from cogmill.settings import Settings
from cogmill.storage.location import Location
from cogmill.storage.matching import is_pattern, matching
from cogmill.storage.store import Storage

_ALREADY, _REFUSED = "already made", "refused"
_FAILED = ("failed", "dismissed", "error")
_OPEN = ("accepted", "running")


@dataclass(frozen=True)
class _File:
    """One source and what became of it: a job, or the reason why there is none.

    Attributes
    ----------
    already : bool
        True where an earlier job made the output.
    waits : bool
        True where there is something to do: the job, or its clean-up.
    """

    inputs: Inputs
    job: Job | None = None
    error: CogmillError | None = None
    already: bool = False
    waits: bool = False

    @property
    def status(self) -> str:
        """What the table and the exit code go by."""
        if self.error is not None:
            return str(error_document(self.error)["status"])
        return _ALREADY if self.job is None or self.already else str(self.job.status)


def wanted(asked: Asked, storage: Storage) -> Inputs | list[Inputs]:
    """Return the job that was typed, or the jobs where several sources or a pattern were.

    Raises
    ------
    Refused
        An option or a location is wrong, a pattern matches nothing, or two outputs would be one,
        or one a source.
    """
    if len(asked.sources) == 1 and not _expands(asked.sources[0], storage):
        return asked.inputs(asked.sources[0], asked.destination, storage)
    sources = [place for text in asked.sources for place in _places(text, storage)]
    if not asked.destination.endswith("/"):
        raise Refused(
            f"{len(sources)} sources cannot all become {asked.destination}",
            "name a folder that ends in a slash; each becomes one COG in it",
        )
    folder = storage.resolve_destination(Location.parse(asked.destination))
    outputs = [folder.join(f"{source.stem}.tif") for source in sources]
    _demand_apart(sources, outputs, storage)
    return [
        asked.inputs(str(source), str(output), storage)
        for source, output in zip(sources, outputs, strict=True)
    ]


def _expands(text: str, storage: Storage) -> bool:
    """Return whether a source is a pattern; a file of that very name is none."""
    return is_pattern(text) and storage.info(Location.parse(text)) is None


def _places(text: str, storage: Storage) -> list[Location]:
    if not _expands(text, storage):
        return [Location.parse(text)]
    found = matching(Location.parse(text), storage)
    if not found:
        raise Refused(f"no file matches {text}", "check the pattern")
    return found


def _demand_apart(
    sources: Sequence[Location], outputs: Sequence[Location], storage: Storage
) -> None:
    made: dict[Location, Location] = {}
    for source, output in zip(sources, outputs, strict=True):
        if output in made:
            raise Refused(
                f"{made[output]} and {source} would both become {output}",
                "rename one, or run them into two folders",
            )
        made[output] = source
    read = {storage.canonical(source): source for source in sources}
    for output in outputs:
        if storage.canonical(output) in read:
            raise Refused(f"{output} is a source itself", "choose another folder")


def run_many(out: Output, settings: Settings, asked: Asked, wanted: Sequence[Inputs]) -> int:
    """Work on all jobs and wait; return the exit code."""
    with runtime.machine(settings, wants_child=True) as machine:
        files = _submitted(out, machine, asked, wanted)
        files = [_fitting(machine, file) for file in files]
        todo = [file.job for file in files if file.job and file.waits]
        interrupted = False
        if todo:
            from cogmill.cli.waiting import work

            each = [most_children(settings, machine.state.jobs.prepared(job)) for job in todo]
            seen = watching_files(out, len(todo))
            interrupted = work(out, machine, [job.id for job in todo], seen, min(each))
        return _end(out, machine, [_seen(machine, file) for file in files], interrupted)


def submit_many(out: Output, settings: Settings, asked: Asked, wanted: Sequence[Inputs]) -> int:
    """Record all jobs; return the exit code."""
    with runtime.machine(settings, wants_child=True) as machine:
        files = _submitted(out, machine, asked, wanted)
        _show(out, machine, files)
    if waiting := sum(file.status in _OPEN for file in files):
        out.say(f"{waiting} jobs wait; `cogmill worker` works on them")
    return _exit_code(files)


def _submitted(
    out: Output, machine: Machine, asked: Asked, wanted: Sequence[Inputs]
) -> list[_File]:
    """Record the jobs, or find those that answer already; a refused file stops no other."""
    from cogmill.core_machine.worker.run_jobs import needs_work

    files: list[_File] = []
    answers = machine.job_processor().submit_all(
        RasterToCog.id, wanted, priority=asked.priority, force=asked.force
    )
    for inputs, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, CogmillError):
            files.append(_File(inputs, error=answer))
            continue
        made = answer.job.status is JobStatus.SUCCESSFUL
        waits = needs_work(machine.state, answer.job)
        files.append(_File(inputs, job=answer.job, already=made, waits=waits))
        if answer.created:
            _warn(out, machine, files[-1])
    return files


def _warn(out: Output, machine: Machine, file: _File) -> None:
    if file.job is not None:
        summary = plan_summary(machine.state.jobs.prepared(file.job))
        for warning in () if summary is None else summary.warnings:
            out.say(f"warning: {file.inputs.source}: {warning}")


def _fitting(machine: Machine, file: _File) -> _File:
    """Refuse a job that others began with more memory than is here."""
    if file.job is not None and not file.job.status.terminal:
        try:
            demand_fit(machine.settings, machine.state.jobs.prepared(file.job), file.job)
        except Refused as error:
            return replace(file, job=None, error=error)
    return file


def _seen(machine: Machine, file: _File) -> _File:
    return file if file.job is None else replace(file, job=machine.state.jobs.get(file.job.id))


def _end(out: Output, machine: Machine, files: Sequence[_File], interrupted: bool) -> int:
    _show(out, machine, files)
    left = sum(file.status in _OPEN for file in files)
    if interrupted and left:
        out.error(f"{left} files are not done; the same command resumes them: {same_command()}")
        return INTERRUPTED
    return _exit_code(files)


def _exit_code(files: Sequence[_File]) -> int:
    found = {file.status for file in files}
    if found & set(_FAILED):
        return 1
    return 2 if _REFUSED in found else 0


def _show(out: Output, machine: Machine, files: Sequence[_File]) -> None:
    documents = [_document(machine, file) for file in files]
    for file, document in zip(files, documents, strict=True):
        failure = document["failure"]
        if failure is not None:
            said = "; ".join(text for text in (failure["message"], failure["remedy"]) if text)
            out.error(f"{file.inputs.source}: {file.status}: {said}")
    # Names alone: every output has another, and whole paths would fold the table.
    out.table(
        ("source", "output", "status", "size", "seconds", "what to do"),
        [_row(file, document) for file, document in zip(files, documents, strict=True)],
    )
    out.say(f"outputs are in {files[0].inputs.target.parent}")
    out.result({"jobs": documents})


def _document(machine: Machine, file: _File) -> dict[str, Any]:
    places = {"source": str(file.inputs.source), "output": str(file.inputs.target)}
    if file.job is not None:
        job = {**job_document(machine.state, file.job), "already_made": file.already}
        return {**places, **job, "size_bytes": _size(job["outputs"])}
    failure = None if file.error is None else error_document(file.error)["failure"]
    return {**places, "job_id": None, "status": file.status, "failure": failure}


def _row(file: _File, document: dict[str, Any]) -> tuple[str, ...]:
    size = document.get("size_bytes")
    return (
        file.inputs.source.name,
        file.inputs.target.name,
        file.status,
        "" if size is None else size_text(size),
        "" if document.get("seconds") is None else f"{document['seconds']:.1f}",
        _advice(file),
    )


def _advice(file: _File) -> str:
    if file.error is not None:
        return file.error.remedy
    if file.job is None or file.job.status is JobStatus.DISMISSED:
        return "run it again"
    return next_command(file.job) or ""


def _size(outputs: Any) -> int | None:
    """Return the bytes of a job's files."""
    match outputs:
        case {"files": [*files]}:
            return sum(int(file["size"]) for file in files)
    return None
