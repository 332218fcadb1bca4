"""``cogmill jobs``, ``show`` and ``dismiss``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from cogmill import runtime
from cogmill.cli.console import Output, error_document, size_text, time_text
from cogmill.cli.options import load_settings, output_options
from cogmill.cli.report import failure_document, job_document, next_command
from cogmill.cli.why import why
from cogmill.core_machine.contracts import Cause, Job, JobStatus, Stage
from cogmill.core_machine.transitions import wakeups
from cogmill.errors import CogmillError, Refused

ID_LENGTH = 12


@click.command("jobs")
@click.option("--limit", type=click.IntRange(1, 10000), default=50, show_default=True)
@output_options
def jobs(*, out: Output, limit: int, log_level: str | None) -> int:
    """List the newest jobs."""
    with runtime.machine(load_settings(log_level=log_level)) as machine:
        found = machine.state.jobs.recent(limit)
    if out.as_json:
        out.result({"jobs": [_entry(job) for job in found]})
    else:
        out.table(("job", "status", "created", "source", "destination"), map(_row, found))
        if not found:
            out.say("no job yet; `cogmill run SRC DST` makes one")
    return 0


@click.command("show")
@click.argument("job_id", metavar="JOB")
@click.option("--why", "ask_why", is_flag=True, help="Say why it does not run, or not yet.")
@output_options
def show(*, out: Output, job_id: str, ask_why: bool, log_level: str | None) -> int:
    """Show a job: its stages, its result or its failure. JOB may be the beginning of an id."""
    with runtime.machine(load_settings(log_level=log_level)) as machine:
        state = machine.state
        job = state.jobs.get(job_id)
        stages = state.jobs.stages(job.id)
        document = {
            **job_document(state, job),
            **_entry(job),
            "inputs": job.inputs,
            "stages": [stage.model_dump(mode="json") for stage in stages],
        }
        if ask_why:
            standing = state.jobs.why(job.id)
            document["why"] = {
                "reasons": why(standing, job.id),
                "facts": standing.model_dump(mode="json"),
            }
    for line in _lines(job, document):
        out.say(line)
    out.table(("stage", "status", "done", "running", "ready", "retrying"), map(_stage, stages))
    for line in document["why"]["reasons"] if ask_why else ():
        out.say(f"why: {line}")
    out.result(document)
    return 0


@click.command("retry")
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("--from-stage", metavar="NAME", help="Do this stage and what follows again.")
@click.option(
    "--cause",
    type=click.Choice([cause.value for cause in Cause]),
    help="Instead of JOB: every job that failed for this cause and was not retried.",
)
@output_options
def retry(
    *,
    out: Output,
    job_id: str | None,
    from_stage: str | None,
    cause: str | None,
    log_level: str | None,
) -> int:
    """Make the next generation of an ended JOB; what succeeded is taken over, not done again."""
    if (job_id is None) == (cause is None):
        raise click.UsageError("name one JOB, or a --cause")
    with runtime.machine(load_settings(log_level=log_level)) as machine:
        names = [job_id] if job_id is not None else machine.state.jobs.failed(str(cause))
        made, refused = [], []
        for name in names:
            try:
                made.append(machine.job_processor().retry(name, from_stage=from_stage))
            except CogmillError as error:
                if job_id is not None:
                    raise
                refused.append({"job_id": name, **error_document(error)})
                out.error(f"job {name[:ID_LENGTH]} cannot be retried: {error}")
    for submitted in made:
        word = "accepted" if submitted.created else f"{submitted.job.status} already"
        if from_stage is not None and not submitted.created:
            word += ", as it was begun and not anew from that stage"
        out.say(
            f"job {submitted.job.id[:ID_LENGTH]} (generation {submitted.job.generation}) is "
            f"{word}; `cogmill worker` works on it"
        )
    if not names:
        out.say(f"no failed job of cause {cause!r} is left to retry")
    documents = [{**_entry(one.job), "created": one.created} for one in made]
    out.result(documents[0] if job_id else {"jobs": documents, "refused": refused})
    return 1 if refused else 0


@click.command("dismiss")
@click.argument("job_id", metavar="JOB")
@output_options
def dismiss(*, out: Output, job_id: str, log_level: str | None) -> int:
    """Cancel a job and remove what it wrote. JOB may be the beginning of an id."""
    with runtime.machine(load_settings(log_level=log_level)) as machine:
        job = machine.state.jobs.get(job_id)
        status = machine.state.jobs.dismiss(job.id)
        wakeups.flush(machine.state, machine.publisher)
    if status is not JobStatus.DISMISSED:
        raise Refused(
            f"job {job.id[:ID_LENGTH]} is {status}, and an ended job never changes",
            "what it staged is kept a day for `cogmill retry`, then removed"
            if status is JobStatus.FAILED
            else "remove its files yourself, or run it again with --force",
        )
    out.say(f"job {job.id[:ID_LENGTH]} is dismissed; the next worker removes its files")
    out.result({"job_id": job.id, "status": str(status)})
    return 0


def _entry(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "status": str(job.status),
        "type": job.type,
        "generation": job.generation,
        "source": job.inputs.get("source"),
        "destination": job.inputs.get("destination"),
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at and job.started_at.isoformat(),
        "finished_at": job.finished_at and job.finished_at.isoformat(),
        "failure": failure_document(job.failure),
    }


def _row(job: Job) -> tuple[str, ...]:
    return (
        job.id[:ID_LENGTH],
        str(job.status),
        f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
        str(job.inputs.get("source", job.type)),
        str(job.inputs.get("destination", job.owns or "")),
    )


def _lines(job: Job, document: dict[str, Any]) -> Iterator[str]:
    yield f"job {job.id} ({job.type} {job.version}, generation {job.generation}) is {job.status}"
    yield f"from {job.inputs.get('source', '-')} to {job.owns or '-'}"
    if job.failure is not None:
        yield f"failed: {job.failure}"
    if command := next_command(job):
        yield command
    if document["seconds"] is not None:
        yield (
            f"took {time_text(document['seconds'])}, {document['attempts']} attempts, at most "
            + (f"{size_text(document['peak_memory_bytes'])} of memory a task")
        )
    match document["outputs"]:
        case {"main": str(main), "files": [*files]}:
            yield f"made {main} ({len(files)} files)"


def _stage(stage: Stage) -> tuple[str, ...]:
    planned = "?" if stage.planned is None else str(stage.planned)
    return (
        stage.name,
        stage.status,
        f"{stage.succeeded}/{planned}" + (f" ({stage.adopted} adopted)" if stage.adopted else ""),
        str(stage.running),
        str(stage.ready),
        str(stage.retrying),
    )
