"""Any order of transitions, zombies' included, keeps the invariants I1-I7; then all ends (I10)."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.harness.clock import Clock
from tests.harness.invariants import ENDED, TERMINAL, VIOLATIONS
from tests.harness.steps import BROKEN, MEBIBYTE

from cogmill.core_machine.contracts import (
    CleanUp,
    Failure,
    JobStatus,
    Offer,
    PlannedTask,
    Preflight,
    Requirements,
    TaskKind,
)
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.generations import NewJob, NewStage
from cogmill.core_machine.state.tasks import Attempt, Settled
from cogmill.core_machine.state.workers import AttemptProgress
from cogmill.errors import Refused

STAGES = ("first", "second")


picks = st.integers(min_value=0, max_value=1000)


class Model(RuleBasedStateMachine):
    """Does anything at any time with what it ever got hold of."""

    def __init__(
        self, database: Database, clock: Clock, conn: psycopg.Connection[tuple[Any, ...]]
    ) -> None:
        super().__init__()
        self.conn = conn
        self.clock = clock
        self.state = StateManager(database)
        self.reconciler = SystemReconciler(self.state, self)
        self.jobs: list[str] = []
        self.workers: list[uuid.UUID] = []
        self.attempts: list[Attempt] = []
        self.cleanups: list[tuple[uuid.UUID, CleanUp]] = []
        self.let_go: set[tuple[int, int]] = set()
        self.seen: dict[int, int] = {}
        self.final: dict[object, tuple[Any, ...]] = {}

    def wake(self, reference: str) -> None:
        """Lose every wake-up: it costs nothing but time (I9)."""

    @initialize()
    def empty(self) -> None:
        self.conn.execute("TRUNCATE job, stage, task, task_result, worker, wakeup, cleanup, event")
        self.join()
        self.join()
        self.submit("a", True)
        # Begin where it becomes interesting: a stage of three tasks, two of them at work.
        self.claim(0, 8)
        self._settle(self.attempts[-1], "succeed", 3)
        self.claim(0, 8)
        self.claim(1, 8)

    # --- what people and workers do -----------------------------------------------------------

    @rule(lineage=st.sampled_from("ab"), owns=st.booleans())
    def submit(self, lineage: str, owns: bool) -> None:
        newest = self.state.generations.newest(lineage)
        generation = 1 if newest is None else newest.generation + newest.status.terminal
        found = Preflight(
            source_identity="s", prepared=None, reach="any", owns="/out/" if owns else None,
            plan_memory=MEBIBYTE,
        )  # fmt: skip
        stages = tuple(NewStage(name=name, plan_seconds=60, max_failures=2) for name in STAGES)
        new = NewJob(
            id=f"{lineage}{generation}", lineage=lineage, generation=generation, type="toy",
            version=1, inputs={}, engine="e", priority=0, preflight=found, stages=stages,
        )  # fmt: skip
        try:
            job = self.state.generations.submit(new)
        except Refused:
            return
        assert job is not None
        if job.id not in self.jobs:
            self.jobs.append(job.id)

    @rule()
    def join(self) -> None:
        incarnation = uuid.uuid4()
        self.state.workers.register(
            incarnation,
            Offer(
                host="h", pid=1, slots=2, memory=8 * MEBIBYTE, job_types=("toy:1",),
                engines=("e",), reaches=("any",), beat_seconds=1, suspect_seconds=4,
            ),
        )  # fmt: skip
        self.workers.append(incarnation)

    @rule(pick=picks, free=st.sampled_from([1, 8]))
    def claim(self, pick: int, free: int) -> None:
        worker = self.workers[pick % len(self.workers)]
        task = self.state.tasks.claim(worker, free * MEBIBYTE)
        if task is not None:
            assert task.attempt == self.seen.get(task.id, 0) + 1  # I1
            self.attempts.append(Attempt(task=task, incarnation=worker))

    @precondition(lambda self: self.attempts)
    @rule(pick=picks, how=st.sampled_from(["succeed"] * 4 + ["fail", "retry", "release"]))
    def settle(self, pick: int, how: str) -> None:
        """Settle one of the newest attempts."""
        self._settle(self.attempts[-1 - pick % min(len(self.attempts), 3)], how, pick % 4)

    @precondition(lambda self: self._zombies())
    @rule(pick=picks, how=st.sampled_from(["succeed", "fail", "retry", "release"]))
    def settle_late(self, pick: int, how: str) -> None:
        """Settle an attempt whose task has been claimed again."""
        zombies = self._zombies()
        self._settle(zombies[pick % len(zombies)], how, pick % 4)

    def _zombies(self) -> list[Attempt]:
        newest = {one.task.id: one.task.attempt for one in self.attempts}
        return [one for one in self.attempts if one.task.attempt < newest[one.task.id]]

    @rule(pick=picks)
    def take_over(self, pick: int) -> None:
        """Take what one worker holds and does not know, and claim it with another."""
        self.forget(pick)
        self.claim(pick + 1, 8)

    def _settle(self, attempt: Attempt, how: str, count: int) -> None:
        task, tasks = attempt.task, self.state.tasks
        self._tick()
        # Whatever comes of it: a worker that has settled an attempt lists it no more.
        self.let_go.add((task.id, task.attempt))
        current = self._rows(
            "SELECT 1 FROM task WHERE id = %s AND attempt = %s AND worker = %s",
            task.id, task.attempt, attempt.incarnation,
        )  # fmt: skip
        if how == "fail":
            settled = tasks.fail(attempt, BROKEN)
        elif how == "retry":
            settled = tasks.retry(attempt, BROKEN, 1.0)
        elif how == "release":
            settled = tasks.release(attempt)
        elif task.kind is TaskKind.PLAN:
            settled = tasks.succeed_plan(attempt, None, _planned(count), None)
        else:
            settled = tasks.succeed(attempt, {"by": task.label}, None)
        assert (settled is not Settled.LOST) == bool(current)  # I3
        if settled is Settled.STAGE_DONE and count % 2:
            self.state.jobs.advance(task.job_id)  # or else the reconciler must

    @rule(pick=picks)
    def advance(self, pick: int) -> None:
        self._tick()
        self.state.jobs.advance(self.jobs[pick % len(self.jobs)])

    @rule(pick=picks)
    def dismiss(self, pick: int) -> None:
        if pick % 3 == 0:
            self._tick()
            assert self.state.jobs.dismiss(self.jobs[-1]).terminal

    @rule(pick=picks, honest=st.booleans())
    def beat(self, pick: int, honest: bool) -> None:
        worker = self.workers[pick % len(self.workers)]
        held = [
            one.task
            for one in self.attempts
            if one.incarnation == worker and (one.task.id, one.task.attempt) not in self.let_go
        ]
        progress = [
            AttemptProgress(task_id=task.id, attempt=task.attempt, job_id=task.job_id, done=1)
            for task in held
        ]
        if not honest:  # it knows of none any more, and will not remember
            self.let_go |= {(task.id, task.attempt) for task in held}
        self.state.workers.beat(worker, progress if honest else [])

    @rule(pick=picks)
    def forget(self, pick: int) -> None:
        self.state.tasks.release_unknown_claims(self.workers[pick % len(self.workers)], [])

    @rule(pick=picks)
    def retire(self, pick: int) -> None:
        if len(self.workers) > 1:
            self.state.workers.retire(self.workers[pick % len(self.workers)])

    @rule(seconds=st.sampled_from([0.5, 3, 6, 30]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def reconcile(self) -> None:
        self._tick()
        self.reconciler.step()

    def _tick(self) -> None:
        """Let nothing end at the very instant of an earlier beat, as nothing does."""
        self.clock.advance(0.001)

    @rule(pick=picks)
    def clean(self, pick: int) -> None:
        worker = self.workers[pick % len(self.workers)]
        claimed = self.state.cleanups.claim(worker)
        if claimed is not None:
            self.cleanups.append((worker, claimed))

    @precondition(lambda self: self.cleanups)
    @rule(pick=picks, failure=st.sampled_from([None, BROKEN]))
    def settle_clean(self, pick: int, failure: Failure | None) -> None:
        worker, claimed = self.cleanups[pick % len(self.cleanups)]
        self.state.cleanups.settle(worker, claimed, failure, 1.0)

    # --- what must hold after every step ------------------------------------------------------

    @invariant()
    def nothing_is_violated(self) -> None:
        query = " UNION ALL ".join(
            f"SELECT '{name}' WHERE EXISTS ({sql})" for name, sql in VIOLATIONS.items()
        )
        assert self._rows(query) == []

    @invariant()
    def attempts_only_grow_and_what_ended_stays(self) -> None:
        for row in self._rows("SELECT id, attempt, status, failures, finished_at FROM task"):
            number, attempt, status, *_ = row
            assert attempt >= self.seen.get(number, 0)  # I1
            self.seen[number] = attempt
            self._stays(number, row, status in ENDED)
        jobs = "SELECT id, status, outputs::text, failure::text, finished_at FROM job"
        for row in self._rows(jobs):
            self._stays(row[0], row, row[1] in TERMINAL)

    def _stays(self, key: object, row: tuple[Any, ...], ended: bool) -> None:
        assert self.final.get(key, row) == row  # I2
        if ended:
            self.final[key] = row

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.conn.execute(query.encode(), values or None).fetchall()

    # --- and when the faults have stopped -----------------------------------------------------

    def teardown(self) -> None:
        """One good worker brings everything to its end within a bounded time (I10)."""
        if not self.jobs:
            return
        self.join()
        worker = self.workers[-1]
        for _ in range(40):
            self.clock.advance(6)
            self.state.workers.beat(worker, [])
            self.reconciler.step()
            while (task := self.state.tasks.claim(worker, 8 * MEBIBYTE)) is not None:
                self._settle(Attempt(task=task, incarnation=worker), "succeed", 1)
            if not self._rows("SELECT 1 FROM job WHERE status IN ('accepted', 'running')"):
                break
        else:
            raise AssertionError(f"not all ended: {self._rows('SELECT * FROM task')}")
        assert {self.state.jobs.get(job).status for job in self.jobs} <= {
            JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.DISMISSED
        }  # fmt: skip
        self.nothing_is_violated()
        self.attempts_only_grow_and_what_ended_stays()
        self.clock.advance(24 * 3600 + 1)
        for _ in range(len(self.jobs)):
            self.state.workers.beat(worker, [])
            self.reconciler.step()
            self.clock.advance(2)
            while (claimed := self.state.cleanups.claim(worker)) is not None:
                assert self.state.cleanups.settle(worker, claimed, None, 0)
        assert self._rows("SELECT 1 FROM cleanup WHERE done_at IS NULL") == []


def _planned(count: int) -> list[PlannedTask]:
    return [
        PlannedTask(
            key=str(number), params={"n": number}, requires=Requirements(memory=(1 + number) << 20)
        )
        for number in range(count)
    ]


def test_any_order_of_transitions_keeps_the_invariants(
    database: Database, address: str, clock: Clock, full: bool
) -> None:
    bounds = settings(
        max_examples=1000 if full else 25,
        stateful_step_count=50 if full else 30,
        # To shorten a failing run takes minutes; it is worth them when somebody looks for one.
        phases=tuple(Phase) if full else (Phase.explicit, Phase.generate),
    )
    with psycopg.connect(address, autocommit=True, options="-c search_path=cogmill") as conn:
        run_state_machine_as_test(
            lambda: Model(database, clock, conn),  # type: ignore[arg-type]  # makes one
            settings=bounds,
        )
