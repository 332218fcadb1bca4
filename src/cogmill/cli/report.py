"""A job as ``--json`` shows it; the names are a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from cogmill.core_machine.contracts import Cause, Failure, Job, JobStatus
from cogmill.job_types.raster_to_cog.request import plan_summary
from cogmill.raster.plan.plan_summary import PlanSummary

if TYPE_CHECKING:
    from cogmill.core_machine.state import StateManager

_COUNTED = ("counted", "pieces_counted")


def job_document(state: StateManager, job: Job) -> dict[str, Any]:
    """Return a job with its plan, its result and its figures.

    Returns
    -------
    dict
        ``job_id``, ``status``, ``outputs``, ``seconds``, ``peak_memory_bytes``, ``attempts``,
        ``counted``, ``failure`` and ``plan``.
    """
    figures = state.jobs.figures(job.id)
    outputs, counted = _outputs(job.outputs)
    return {
        "job_id": job.id,
        "status": str(job.status),
        "outputs": outputs,
        "seconds": _seconds(job),
        "peak_memory_bytes": figures.get("peak_memory", 0),
        "attempts": figures.get("attempts", 0),
        "counted": counted,
        "failure": failure_document(job.failure),
        "plan": _plan(plan_summary(state.jobs.prepared(job)), counted),
    }


def _plan(summary: PlanSummary | None, counted: Any) -> dict[str, Any]:
    """Set what reading the source took beside what was predicted, for the strategy that ran."""
    document = plan_document(summary)
    match counted:
        case {"tiles": {**by_tiles}, "pieces": {**by_pieces}} if summary is not None:
            staged = summary.strategy == "two-stage"
            tasks = summary.tiles.pieces if staged else summary.tiles.output
            took = by_pieces if staged else by_tiles
            real = {"strategy": summary.strategy, "tasks": tasks, **took}
            return {**document, "cost": {**document["cost"], "counted": real}}
    return document


def plan_document(summary: PlanSummary | None) -> dict[str, Any]:
    """Return a plan as ``--json`` shows it; empty for other job types."""
    return {} if summary is None else summary.model_dump(mode="json")


def plan_lines(prepared: JsonValue) -> list[str]:
    """Return what preflight prepared for people; empty for other job types."""
    match prepared:
        case {"explained": [*lines]}:
            return [str(line) for line in lines]
    return []


def failure_document(failure: Failure | None) -> dict[str, str] | None:
    """Return a failure with its code, message and remedy."""
    if failure is None:
        return None
    return {
        "code": failure.code,
        "cause": failure.cause.value,
        "message": failure.message,
        "remedy": failure.remedy,
    }


def next_command(job: Job) -> str | None:
    """Return the line that ends with what a person types after a job that failed.

    The command comes last and bare, so that it can be copied into any shell. None after any other
    job.
    """
    if job.status is not JobStatus.FAILED or job.failure is None:
        return None
    command = f"cogmill retry {job.id[:12]}"
    match job.failure.cause:
        case Cause.PERMANENT | Cause.SOURCE_CHANGED:
            when = " (when its cause is mended; what succeeded is not done again)"
        case Cause.MEMORY:
            when = " (with a worker that has more --memory)"
        case _:
            when = ""
    return f"next{when}: {command}"


def _outputs(outputs: JsonValue) -> tuple[JsonValue, JsonValue]:
    """Take what was counted out of a job's outputs: it says nothing of what was made."""
    if not isinstance(outputs, dict):
        return outputs, None
    counted = {name: outputs[name] for name in _COUNTED if name in outputs}
    made = {name: value for name, value in outputs.items() if name not in counted}
    return made, _together(counted)


def _together(counted: dict[str, JsonValue]) -> JsonValue:
    """Return what all stages counted, and what each part of it did."""
    if not counted:
        return None
    total: dict[str, JsonValue] = {}
    for part in counted.values():
        for name, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, int):
                total[name] = value + int(str(total.get(name, 0)))
    return {**total, "tiles": counted.get("counted"), "pieces": counted.get("pieces_counted")}


def _seconds(job: Job) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return round((job.finished_at - job.started_at).total_seconds(), 3)
