"""A stage fans out in one transaction, is claimed from fast however long, and fans in once."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.harness.figure import Figure
from tests.harness.fleet import Fleet
from tests.harness.steps import claim, join, plan, planned, submit

from cogmill.core_machine.contracts import JobStatus
from cogmill.core_machine.state.tasks import Attempt, Settled

PLANNING_SECONDS = 10.0
CLAIMS = 200
CLAIM_MILLISECONDS = 50.0
ADVANCE_SECONDS = 1.0
COUNT = "SELECT count(*) FROM cogmill.task WHERE position = 0 AND kind = 'work'"


class Reader(threading.Thread):
    """Counts the tasks over and over, and remembers every number."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(daemon=True)
        self._conninfo = conninfo
        self._over = threading.Event()
        self.seen: list[int] = []

    def run(self) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as conn:
            while not self._over.is_set():
                self.seen += [row[0] for row in conn.execute(COUNT)]

    def end(self) -> list[int]:
        self._over.set()
        self.join()
        return self.seen


def _timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@pytest.mark.timeout(600)
def test_many_tasks_fan_out_atomically_and_fan_in_through_one_advance(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    count = 100_000 if full else 2000
    state = fleet.state
    job, worker = submit(state), join(state)
    attempt = claim(state, worker)
    tasks = planned(count)
    reader = Reader(fleet.conninfo)
    reader.start()
    planning = _timed(lambda: state.tasks.succeed_plan(attempt, None, tasks, None))
    seen = [*reader.end(), fleet.number(COUNT)]
    transactions = fleet.number(
        "SELECT count(DISTINCT xmin::text) FROM task WHERE position = 0 AND kind = 'work'"
    )
    claims = sorted(1000 * _timed(lambda: claim(state, worker)) for _ in range(CLAIMS))
    last = _close_all_but_two(fleet, job.id)
    settled = [state.tasks.succeed(claim(state, worker), {"n": 1}, None) for _ in range(last)]
    advance = _timed(lambda: state.jobs.advance(job.id))
    results = _timed(lambda: state.jobs.results(job.id, "first"))
    figure.measured(
        f"{count} tasks: planned in {planning:.2f} s, {transactions} transaction, a reader saw "
        f"{sorted(set(seen))} in {len(seen)} looks; {CLAIMS} claims: median "
        f"{statistics.median(claims):.1f} ms, max {claims[-1]:.1f} ms; advance {advance:.3f} s; "
        f"their results read in {results:.2f} s",
        f"{PLANNING_SECONDS:g} s, 1 transaction, {CLAIM_MILLISECONDS:g} ms, {ADVANCE_SECONDS:g} s",
    )
    assert set(seen) <= {0, count}
    assert len(seen) > 2
    assert transactions == 1
    assert planning <= PLANNING_SECONDS
    assert statistics.median(claims) <= CLAIM_MILLISECONDS
    assert settled == [Settled.DONE, Settled.STAGE_DONE]
    assert advance <= ADVANCE_SECONDS
    assert fleet.rows("SELECT position, kind, status FROM task WHERE position = 1") == [
        (1, "plan", "ready")
    ]
    assert fleet.events("stage closed") == 1


def _close_all_but_two(fleet: Fleet, job_id: str) -> int:
    """Do what many settles would; return how many are left."""
    fleet.rows(
        "WITH closed AS ("
        "  UPDATE task SET status = 'succeeded', attempt = 1, worker = NULL, deadline_at = NULL,"
        "    started_at = cogmill.now(), finished_at = cogmill.now()"
        "  WHERE job_id = %s AND kind = 'work'"
        "    AND id < (SELECT max(id) - 1 FROM task WHERE kind = 'work') RETURNING id"
        "), kept AS ("
        "  INSERT INTO task_result (task_id, result, seconds)"
        """    SELECT id, '{"n": 1}', 0 FROM closed"""
        ") UPDATE stage SET remaining = 2 WHERE job_id = %s AND position = 0 RETURNING 1",
        job_id, job_id,
    )  # fmt: skip
    return 2


@pytest.mark.timeout(900)
def test_the_last_two_tasks_of_a_stage_that_end_at_once_advance_it_once(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    # Each job has two stages, so two races.
    jobs = 500 if full else 13
    state = fleet.state
    worker = join(state)
    both_at_zero = 0
    for number in range(jobs):
        job = submit(state, f"race{number}")
        for _ in range(2):
            plan(state, worker, 2)
            # One of them may be slower to settle than the other to look: every other time each
            # advances whatever it is told, as the reconciler does.
            settled = _race(fleet, job.id, [claim(state, worker) for _ in range(2)], number % 2)
            assert settled.count(Settled.LOST) == 0
            both_at_zero += settled.count(Settled.STAGE_DONE) - 1
        assert state.jobs.get(job.id).status is JobStatus.SUCCESSFUL
    per_stage = {
        kind: fleet.rows(
            "SELECT n, count(*) FROM (SELECT count(*) AS n FROM event WHERE kind = %s "
            "GROUP BY job_id, stage) AS counted GROUP BY n", kind,
        )
        for kind in ("stage opened", "stage closed")
    }  # fmt: skip
    plans = fleet.rows(
        "SELECT n, count(*) FROM (SELECT count(*) AS n FROM task WHERE kind = 'plan' "
        "GROUP BY job_id, position) AS counted GROUP BY n"
    )
    ends = fleet.events("job successful")
    figure.measured(
        f"{2 * jobs} races: {per_stage}, plan tasks {plans}, {ends} jobs ended (times, stages); "
        f"{both_at_zero} times both or none were told to advance",
        "each stage opened, planned and closed 1 time",
    )
    assert per_stage == {kind: [(1, 2 * jobs)] for kind in per_stage}
    assert plans == [(1, 2 * jobs)]
    assert ends == jobs


def _race(fleet: Fleet, job_id: str, attempts: list[Attempt], always: int) -> list[Settled]:
    barrier = threading.Barrier(len(attempts))
    settled: list[Settled] = []

    def settle(attempt: Attempt) -> None:
        barrier.wait()
        found = fleet.state.tasks.succeed(attempt, {"n": 1}, None)
        settled.append(found)
        if found is Settled.STAGE_DONE or always:
            fleet.state.jobs.advance(job_id)

    threads = [threading.Thread(target=settle, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(settled) == len(attempts)
    return settled
