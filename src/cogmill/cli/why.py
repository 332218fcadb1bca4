"""Why a job does not run, in sentences: the first thing that is in the way, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from cogmill.cli.console import size_text, time_text
from cogmill.core_machine.contracts import JobStatus
from cogmill.core_machine.state.jobs import Standing
from cogmill.settings import PARENT_MEMORY

ALARM_SECONDS = 300.0
"""So long without a recorded sweep: nobody repairs what a crash leaves behind."""


def why(standing: Standing, job_id: str) -> list[str]:
    """Return the reasons, the most telling first."""
    return [*_reasons(standing, job_id), *_alarms(standing)]


def _reasons(at: Standing, job_id: str) -> Iterator[str]:
    if at.job_status.terminal:
        yield f"the job has ended: it is {at.job_status}"
        if at.owes_cleanup:
            yield (
                "what it staged is kept a day for `cogmill retry` to take over, then a worker "
                "removes it"
                if at.job_status is JobStatus.FAILED
                else "its clean-up is owed; the next worker that knows its type does it"
            )
        return
    if at.running:
        who = ", ".join(at.holders or ("a worker that is gone",))
        yield f"it runs: {at.running} tasks of stage {at.stage}, on {who}"
        if at.silent_holders:
            yield (
                f"{at.silent_holders} of these workers have missed their beats; they are declared "
                "dead at the second look, and their tasks are done elsewhere"
            )
    if at.due:
        yield from _unclaimed(at, job_id)
    if at.later:
        failure = f": {at.last_failure}" if at.last_failure else ""
        yield (
            f"{at.later} tasks wait to be tried again, the next in "
            f"{time_text(max(0.0, at.next_seconds or 0.0))}{failure}"
        )
    if not (at.running or at.due or at.later):
        yield (
            f"no task of stage {at.stage} is open: somebody ended before the next step; a "
            "reconciler takes it within seconds (`cogmill reconcile --once` does so now)"
        )


def _unclaimed(at: Standing, job_id: str) -> Iterator[str]:
    """Name the first demand that leaves no live worker."""
    tasks = f"{at.due} tasks of stage {at.stage} are due"
    if not at.live:
        yield f"{tasks}, and no worker lives: start one with `cogmill worker`"
    elif not at.of_type:
        yield (
            f"{tasks}, and none of {at.live} live workers knows job type {at.wants_type}: "
            "install its package where they run"
        )
    elif not at.of_engine:
        yield (
            f"{tasks}, and no live worker has the engine that the job began with "
            f"({at.wants_engine}): start one of that version, or run the job again, which "
            "begins anew with the engine of today"
        )
    elif not at.of_reach:
        yield f"{tasks} and can only be done on host {at.wants_reach}: start a worker there"
    elif not at.for_job:
        yield f"{tasks}, and every live worker works for another job: start `cogmill worker`"
    elif not at.of_memory:
        needed, largest = at.needs_memory or 0, at.largest_memory or 0
        option = size_text(needed + PARENT_MEMORY).replace(" ", "")
        yield (
            f"{tasks}; task {at.next_key} needs {size_text(needed)}, and the largest live worker "
            f"has {size_text(largest)} for one of its children: start one with --workers 1 "
            f"--memory {option}, or wait until it is planned again smaller"
        )
    elif at.ahead:
        yield f"{tasks}, behind {at.ahead} tasks of other jobs: add workers, or wait"
    else:
        yield f"{tasks}, and {at.of_memory} live workers can take them as soon as a slot is free"


def _alarms(at: Standing) -> Iterator[str]:
    if not at.job_status.terminal and (at.unswept is None or at.unswept > ALARM_SECONDS):
        since = "ever" if at.unswept is None else f"for {time_text(at.unswept)}"
        yield (
            f"no sweep of a reconciler was recorded {since}: nothing repairs what a crash leaves "
            "behind; start `cogmill worker` or `cogmill reconcile`"
        )
