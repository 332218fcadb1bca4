"""The steps of a job as the processors make them, called on the state alone."""

from __future__ import annotations

import uuid

from cogmill.core_machine.contracts import (
    Cause,
    Failure,
    Job,
    Offer,
    PlannedTask,
    Preflight,
    Requirements,
    TaskKind,
)
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.generations import NewJob, NewStage
from cogmill.core_machine.state.tasks import Attempt, Settled

MEBIBYTE = 1 << 20
BROKEN = Failure(code="permanent", cause=Cause.PERMANENT, message="it broke")


class Heard:
    """A publisher that remembers."""

    def __init__(self) -> None:
        self.references: list[str] = []

    def wake(self, reference: str) -> None:
        self.references.append(reference)


def new_job(lineage: str = "a", generation: int = 1, owns: str | None = None) -> NewJob:
    found = Preflight(
        source_identity="s", prepared={"n": 1}, reach="any", owns=owns, plan_memory=MEBIBYTE
    )
    stages = tuple(
        NewStage(name=name, plan_seconds=60, max_failures=3) for name in ("first", "second")
    )
    return NewJob(
        id=f"{lineage}{generation}", lineage=lineage, generation=generation, type="toy", version=1,
        inputs={}, engine="e", priority=0, preflight=found, stages=stages,
    )  # fmt: skip


def submit(state: StateManager, lineage: str = "a", owns: str | None = None) -> Job:
    job = state.generations.submit(new_job(lineage, owns=owns))
    assert job is not None
    state.wakeups.take()
    return job


def join(
    state: StateManager, memory: int = 64 * MEBIBYTE, engine: str = "e", reach: str = "any"
) -> uuid.UUID:
    incarnation = uuid.uuid4()
    state.workers.register(
        incarnation,
        Offer(
            host="h", pid=1, slots=2, memory=memory, job_types=("toy:1",), engines=(engine,),
            reaches=(reach,), beat_seconds=1, suspect_seconds=4,
        ),
    )  # fmt: skip
    return incarnation


def claim(state: StateManager, worker: uuid.UUID, free: int = 64 * MEBIBYTE) -> Attempt:
    task = state.tasks.claim(worker, free)
    assert task is not None
    return Attempt(task=task, incarnation=worker)


def planned(count: int, memory: int = MEBIBYTE) -> list[PlannedTask]:
    return [
        PlannedTask(key=str(n), params={"n": n}, requires=Requirements(memory=memory))
        for n in range(count)
    ]


def plan(state: StateManager, worker: uuid.UUID, count: int, memory: int = MEBIBYTE) -> Settled:
    attempt = claim(state, worker)
    assert attempt.task.kind is TaskKind.PLAN
    return state.tasks.succeed_plan(attempt, None, planned(count, memory), None)
