"""A whole fleet on real PostgreSQL in one thread and virtual time, replayed from its seed.

The machine's promise is about every interleaving of people, workers, reconcilers, clean-ups and
faults. The model test shuffles single transitions; here processes live for thousands of steps, with
leases, timers, restarts and messages, and nothing but the seed decides what happens next.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import Any, cast

import psycopg
from psycopg.conninfo import make_conninfo
from tests.harness.invariants import ENDED, TERMINAL, VIOLATIONS
from tests.harness.steps import MEBIBYTE, new_job
from tests.state.virtual import MOST_TASK_MEMORY, PACES, VirtualWorker
from tests.state.world import World

from cogmill.core_machine.contracts import Job
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.errors import Refused

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
DAY_SECONDS = 24 * 3600.0
DESTINATIONS = {"a": "/out/1/", "b": "/out/1/", "c": "/out/2/", "d": None, "e": None}
FINDERS = (
    "suspects", "silent", "stale_suspicions", "orphaned", "unadvanced", "contradictions", "stuck",
    "unsent",
)  # fmt: skip
TABLES = "job, stage, task, task_result, worker, wakeup, cleanup, event, reconciliation_run"
CHECKS = {
    **VIOLATIONS,
    "I4: the count of what remains is wrong": """
        SELECT 1 FROM stage WHERE status IN ('running', 'closed') AND remaining <> (
            SELECT count(*) FROM task WHERE task.job_id = stage.job_id
              AND task.position = stage.position AND kind <> 'plan'
              AND task.status <> 'succeeded')""",
    "a debt is being paid whose heir still uses what it would remove": """
        SELECT 1 FROM cleanup JOIN job ON job.id = cleanup.heir
        WHERE cleanup.worker IS NOT NULL AND job.status IN ('accepted', 'running')""",
}
CHECK = " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS ({q})" for name, q in CHECKS.items())
LIVE = "SELECT id FROM job WHERE status IN ('accepted', 'running') ORDER BY id"


class Violation(AssertionError):
    """An invariant does not hold: seed, step, and the trace before it."""


@dataclass(frozen=True)
class Report:
    """What a run was: its trace's hash, what it met, and how long it took to become calm."""

    seed: int
    steps: int
    digest: str
    met: Counter[str]
    calm_seconds: float


class _Late:
    """A noun whose finders answer with what they would have found when they were asked last."""

    def __init__(self, noun: object) -> None:
        self._noun = noun
        self._found: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._noun, name)
        if name not in FINDERS:
            return real

        def late() -> Any:
            found = real()
            before = self._found.get(name, found)
            self._found[name] = found
            return before

        return late


class _LateState:
    """What a reconciler sees that is frozen between finding and repairing."""

    def __init__(self, state: StateManager) -> None:
        self._state = state
        self.workers, self.jobs = _Late(state.workers), _Late(state.jobs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def _raise_defects(record: logging.LogRecord) -> bool:
    """Let no reconciler swallow what it only logs: here every repair succeeds."""
    if record.levelno >= logging.WARNING:
        raise AssertionError(record.getMessage()) from (record.exc_info or (None, None))[1]
    return True


class Arena:
    """The database of a run: one session whose clock is a setting, and one that reads.

    Like the fixture `clock`, it replaces the one clock of the machine; but that one costs a
    connection and every cached plan whenever it is moved, and here time moves at every step.
    Nobody crashes the server, so that commits need not wait for the disk.
    """

    def __init__(self, address: str) -> None:
        address = make_conninfo(address, options="-c synchronous_commit=off -c jit=off")
        self.database = Database(address, connections=1)
        self.state = StateManager(self.database)
        with self.database.transaction() as conn:
            self._session = conn  # the pool's only one: idle whenever a step has ended
        self.reads = psycopg.connect(
            make_conninfo(
                address, options="-c search_path=cogmill -c jit=off -c synchronous_commit=off"
            ),
            autocommit=True,
        )
        self.reads.execute(
            "CREATE OR REPLACE FUNCTION cogmill.now() RETURNS timestamptz LANGUAGE sql STABLE "
            "AS $$ SELECT current_setting('cogmill.simulated_now')::timestamptz $$"
        )
        for table in TABLES.split(", "):
            # Which of two equal rows comes first must not depend on a vacuum.
            self.reads.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())

    def empty(self) -> None:
        self.reads.execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE".encode())
        self.set(0)

    def set(self, seconds: float) -> None:
        """Move the machine's clock, which is all that is ever written here."""
        now = (EPOCH + timedelta(seconds=seconds)).isoformat()
        self._session.pgconn.exec_(f"SET cogmill.simulated_now = '{now}'".encode())

    def close(self) -> None:
        self.reads.close()
        self.database.close()


class Simulation(World[VirtualWorker]):
    """People, a fleet and reconcilers in one world.

    Parameters
    ----------
    every : int
        Check the invariants after so many steps.
    bound_seconds : float
        Virtual time within which all is terminal once the faults have stopped (I10).
    """

    def __init__(
        self, arena: Arena, seed: int, every: int = 1, bound_seconds: float = 300.0
    ) -> None:
        super().__init__(arena.state, arena.reads, seed)
        self.seed = seed
        self._arena = arena
        self._every = every
        self._bound_seconds = bound_seconds
        self._made = 0
        self._newest: dict[str, Job | None] = {}
        self._final: dict[object, tuple[Any, ...]] = {}

    def run(self, steps: int) -> Report:
        """Live through so many steps with faults, then without any until all has ended."""
        log = logging.getLogger(SystemReconciler.__module__)
        log.addFilter(_raise_defects)
        try:
            self._arena.empty()
            self._begin()
            while self.steps < steps:
                self._step()
            calm = self._calm_down()
        except Exception as error:
            trace = "\n".join(self.trace[-25:])
            message = f"seed {self.seed}, step {self.steps}: {error}\n{trace}"
            raise Violation(message) from error
        finally:
            log.removeFilter(_raise_defects)
        return Report(self.seed, self.steps, self.digest, self.met, calm)

    def _begin(self) -> None:
        for push in (False, False, False, True, True):
            self._hire(push)
        for number in range(self.rng.randint(1, 3)):
            state = cast(StateManager, _LateState(self.state)) if number == 1 else self.state
            # Without a grace for its own sleep, which is of real time and would be no seed's.
            self._repair(SystemReconciler(state, self.broker, grace=inf), late=number == 1)
        self._ask()
        self._trouble()

    def _step(self) -> None:
        at, action = self.next()
        if at > self.now:
            self._arena.set(at)
            self.now = at
        self.steps += 1
        action()
        self.broker.draw()
        if self.steps % self._every == 0:
            found = self.rows(CHECK)
            assert not found, found
        if self.steps % (7 * self._every) == 0:
            self._check_what_is_final()

    def _check_what_is_final(self) -> None:
        for row in self.rows("SELECT id, status, attempt, failures, finished_at FROM task"):
            assert row[2] == self.attempts.get(row[0], 0), f"I1: attempts of {row}"
            self._stays(row, ENDED)
        for row in self.rows(
            "SELECT id, status, outputs::text, failure::text, finished_at FROM job"
        ):
            self._stays(row, TERMINAL)

    def _stays(self, row: tuple[Any, ...], ended: tuple[str, ...]) -> None:
        before = self._final.get(row[0], row)
        assert before == row, f"I2: {before} became {row}"
        if row[1] in ended:
            self._final[row[0]] = row

    # --- the fleet, and what happens to it ----------------------------------------------------

    def _hire(self, push: bool, only_jobs: tuple[str, ...] | None = None) -> None:
        self._made += 1
        worker = VirtualWorker(
            world=self,
            name=f"{'push' if push else 'poll'}{self._made}",
            push=push,
            pace=self.rng.choice(PACES),
            slots=self.rng.randint(1, 3),
            memory=self.rng.randint(MOST_TASK_MEMORY, 2 * MOST_TASK_MEMORY) * MEBIBYTE,
            only_jobs=only_jobs,
        )
        self.fleet.append(worker)
        worker.start()

    def _trouble(self) -> None:
        working = [worker for worker in self.fleet if worker.reachable]
        if working and self.faulty:
            worker = self.rng.choice(working)
            faults = (worker.freeze, worker.freeze, worker.cut, worker.kill, worker.kill)
            self.rng.choice((*faults, worker.drain))()
        self._replace()
        self.later(1, 8, self._trouble)

    def _replace(self) -> None:
        """Start a process for each that has ended, at once or after a while."""
        for worker in [one for one in self.fleet if not one.alive]:
            self.fleet.remove(worker)
            if worker.only_jobs is None:
                self.later(0, 20, partial(self._hire, worker.push))

    def _repair(self, reconciler: SystemReconciler, late: bool) -> None:
        def step() -> None:
            dry = self.chance(0.1)
            for action in reconciler.step(dry_run=dry):
                # What no transition leaves must not be found, but by who looked long ago.
                assert late or action.finder != "contradiction", action
                self.note(f"reconcile: {action.finder}", f"{action.subject} {dry}")
            self.later(0.5, 7, step)

        self.later(0.5, 7, step)

    # --- people -------------------------------------------------------------------------------

    def _ask(self) -> None:
        if not self.faulty:
            return
        lineage = self.rng.choice(list(DESTINATIONS))
        live = [row[0] for row in self.rows(LIVE)]
        what = self.rng.random()
        if what < 0.08 and live:
            job = self.rng.choice(live)
            self.note("dismiss", f"{job} {self.state.jobs.dismiss(job)}")
            self.flush_sometime()
        elif what < 0.2 and live:
            self.advance(self.rng.choice(live))
        else:
            self._submit(lineage, stale=what > 0.9)
        self.later(0.2, 3, self._ask)

    def _submit(self, lineage: str, stale: bool) -> None:
        """Submit as `JobProcessor` does; `stale`: somebody else was quicker since it looked."""
        newest = self._newest.get(lineage) if stale else self.state.generations.newest(lineage)
        generation = 1 if newest is None else newest.generation + newest.status.terminal
        new = new_job(lineage, generation, owns=DESTINATIONS[lineage])
        stages = [
            new.stages[0].model_copy(update={"name": f"stage{number}", "plan_seconds": 20})
            for number in range(self.rng.randint(2, 3))
        ]
        new = new.model_copy(
            update={"stages": tuple(stages), "adopt_before": self.rng.choice((None, None, 0, 1))}
        )
        try:
            job = self.state.generations.submit(new)
        except Refused:
            self.note("refused", new.id)
            return
        self.note("submit" if job else "overtaken", new.id)
        if self.rng.random() < 0.5:
            self._newest[lineage] = newest
        self.flush_sometime()
        if job and self.rng.random() < 0.1:
            self._hire(push=False, only_jobs=(job.id,))

    # --- the end ------------------------------------------------------------------------------

    def _calm_down(self) -> float:
        """Stop the faults: everything becomes terminal, and every debt is paid (I10)."""
        self.faulty = False
        self.broker.loses = self.rng.choice((0.0, 1.0))
        for worker in self.fleet:
            worker.frozen_until = worker.cut_until = 0.0
        began = self.now
        self._until("not all jobs ended", LIVE)
        calm = self.now - began
        self.sleep(DAY_SECONDS)
        self._until("not all is cleaned up", "SELECT job_id FROM cleanup WHERE done_at IS NULL")
        found = self.rows(CHECK)
        assert not found, found
        self._check_what_is_final()
        for (status,) in self.rows("SELECT status FROM job"):
            self.met[f"job {status}"] += 1
        return calm

    def _until(self, what: str, query: str) -> None:
        limit = self.now + self._bound_seconds
        while left := self.rows(query):
            assert self.now < limit, f"I10: {what} within {self._bound_seconds:g} s: {left}"
            self._step()
