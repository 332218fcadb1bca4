"""What a state that contradicts itself comes to: an end that is told, never a result with a hole.

Found by setting every status of every row of every shape to every other value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from tests.harness.clock import Clock
from tests.harness.steps import BROKEN, Heard, claim, join, plan, submit
from tests.state.wreckage import CHECKS, violated

from cogmill.core_machine.contracts import Cause, Job, JobStatus
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.tasks import Settled
from cogmill.core_machine.transitions.settlement import MAX_BACKOFF_SECONDS
from cogmill.errors import TransientError


@pytest.fixture
def state(database: Database) -> StateManager:
    return StateManager(database)


@pytest.fixture
def conn(address: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(address, autocommit=True) as opened:
        opened.execute("SET search_path = cogmill")
        yield opened


class Bench:
    """One job, one worker that beats, and a reconciler that looks once a beat."""

    def __init__(self, state: StateManager, clock: Clock) -> None:
        self.state = state
        self.clock = clock
        self.worker = join(state)
        self.heard = Heard()
        self.reconciler = SystemReconciler(state, self.heard)

    def look(self, times: int = 3) -> None:
        for _ in range(times):
            self.clock.advance(3)
            self.state.workers.beat(self.worker, [])
            self.reconciler.step()

    def planned(self, count: int = 2) -> Job:
        job = submit(self.state)
        plan(self.state, self.worker, count)
        self.state.wakeups.take()
        return job

    def work(self, times: int) -> None:
        for _ in range(times):
            attempt = claim(self.state, self.worker)
            self.state.tasks.succeed(attempt, {"n": attempt.task.id}, None)

    def second(self) -> Job:
        """Return a job at its second stage, planned, with one task to do."""
        job = self.planned()
        self.work(2)
        self.state.jobs.advance(job.id)
        plan(self.state, self.worker, 1)
        return job


@pytest.fixture
def bench(state: StateManager, clock: Clock) -> Bench:
    return Bench(state, clock)


# --- an advance that never ends, and jobs that never do ----------------------------------------


def test_a_planning_stage_whose_plan_was_cancelled_does_not_keep_an_advance_for_ever(
    bench: Bench, conn: psycopg.Connection
) -> None:
    job = submit(bench.state)
    # Without this the advance goes on until the disk is full of its events.
    conn.execute(
        """CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF (SELECT count(*) > 20 FROM event) THEN RAISE EXCEPTION 'endless'; END IF;
               RETURN NEW;
           END $$"""
    )
    conn.execute("CREATE TRIGGER stop BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION stop()")
    conn.execute("UPDATE task SET status = 'cancelled', finished_at = cogmill.now()")
    bench.look()
    assert bench.state.jobs.get(job.id).status is JobStatus.FAILED


@pytest.mark.parametrize("position", [0, 1])
def test_a_pending_stage_that_has_its_plan_task_is_brought_to_an_end(
    bench: Bench, conn: psycopg.Connection, position: int
) -> None:
    job = bench.second()
    bench.work(1)
    conn.execute("UPDATE stage SET status = 'pending' WHERE position = %s", (position,))
    bench.look()
    assert bench.state.jobs.get(job.id).status.terminal


def test_a_suspicion_without_a_postmaster_begins_again(
    bench: Bench, conn: psycopg.Connection
) -> None:
    dead = join(bench.state)
    bench.clock.advance(60)
    conn.execute(
        "UPDATE worker SET suspected_at = cogmill.now(), suspected_postmaster = NULL "
        "WHERE incarnation = %s", (dead,),
    )  # fmt: skip
    bench.look()
    assert bench.state.workers.beat(dead, []) is None


def test_a_failed_task_ends_its_job_however_busy_its_siblings_are(bench: Bench) -> None:
    job = bench.planned(12)
    bench.state.tasks.fail(claim(bench.state, bench.worker), BROKEN)  # and its worker is killed
    for _ in range(10):
        bench.clock.advance(1)
        if bench.state.jobs.get(job.id).status.terminal:
            break
        bench.work(1)
        bench.state.workers.beat(bench.worker, [])
        bench.reconciler.step()
    assert bench.state.jobs.get(job.id).status is JobStatus.FAILED


@pytest.mark.parametrize("due", ["infinity", "3026-01-01"])
def test_a_task_that_is_due_at_a_time_that_never_comes_is_due_now(
    bench: Bench, conn: psycopg.Connection, due: str
) -> None:
    bench.planned()
    conn.execute("UPDATE task SET due_at = %s WHERE key = '1'", (due,))
    bench.look(times=1)
    bench.work(2)


def test_a_task_that_backs_off_as_long_as_one_can_is_left_alone(
    bench: Bench, conn: psycopg.Connection
) -> None:
    bench.planned()
    bench.state.tasks.retry(claim(bench.state, bench.worker), BROKEN, 1.5 * MAX_BACKOFF_SECONDS)
    due = conn.execute("SELECT due_at FROM task WHERE failures > 0").fetchone()
    bench.look(times=1)
    assert conn.execute("SELECT due_at FROM task WHERE failures > 0").fetchone() == due


# --- a plan whose work is there, and it is not -------------------------------------------------

UNPLANNED = {
    "its plan is gone": "DELETE FROM task WHERE kind = 'plan' AND position = 0",
    "its plan is open again": """WITH reopened AS (
            UPDATE task SET status = 'ready', finished_at = NULL
            WHERE kind = 'plan' AND position = 0 RETURNING id)
        DELETE FROM task_result USING reopened WHERE task_id = id""",
    "its plan was cancelled":
        "UPDATE task SET status = 'cancelled' WHERE kind = 'plan' AND position = 0",
}  # fmt: skip


@pytest.mark.parametrize("unplanned", UNPLANNED.values(), ids=UNPLANNED.keys())
def test_a_stage_that_runs_without_its_plan_is_called_a_contradiction(
    bench: Bench, conn: psycopg.Connection, unplanned: str
) -> None:
    job = bench.planned()
    conn.execute(unplanned.encode())
    bench.look(times=1)
    failure = bench.state.jobs.get(job.id).failure
    assert failure is not None
    assert (failure.code, failure.cause) == ("contradiction", Cause.TRANSIENT)
    assert "stage first has begun" in failure.message


def test_a_plan_that_is_done_again_before_anybody_looked_blames_no_job_type(
    bench: Bench, conn: psycopg.Connection
) -> None:
    job = bench.planned()
    conn.execute(UNPLANNED["its plan is open again"].encode())
    assert plan(bench.state, bench.worker, 2) is Settled.STAGE_DONE
    assert bench.state.jobs.advance(job.id) is JobStatus.FAILED
    failure = bench.state.jobs.get(job.id).failure
    assert failure is not None
    assert failure.code == "contradiction"


# --- jobs that succeed, and their result is not whole ------------------------------------------

HOLES = {
    "a task was cancelled": "UPDATE task SET status = 'cancelled' WHERE key = '0' AND position = 0",
    "a task of a closed stage has failed":
        "UPDATE task SET status = 'failed' WHERE key = '0' AND position = 0",
    "a task is gone": "DELETE FROM task WHERE key = '0' AND position = 0",
    "a result is gone": """DELETE FROM task_result USING task
        WHERE task_id = id AND key = '0' AND position = 0""",
    "a stage was cancelled": "UPDATE stage SET status = 'cancelled' WHERE position = 0",
}  # fmt: skip


@pytest.mark.parametrize("hole", HOLES.values(), ids=HOLES.keys())
def test_a_job_whose_earlier_work_is_not_whole_does_not_succeed(
    bench: Bench, conn: psycopg.Connection, hole: str
) -> None:
    job = bench.second()
    conn.execute(hole.encode())
    bench.work(1)
    bench.look()
    assert bench.state.jobs.get(job.id).status is JobStatus.FAILED


@pytest.mark.parametrize("status", ["closed", "cancelled"])
def test_a_job_does_not_succeed_without_a_stage_that_was_never_planned(
    bench: Bench, conn: psycopg.Connection, status: str
) -> None:
    job = bench.planned()
    conn.execute("UPDATE stage SET status = %s WHERE position = 1", (status,))
    bench.work(2)
    bench.look()
    assert bench.state.jobs.get(job.id).status is JobStatus.FAILED


# --- counts ------------------------------------------------------------------------------------


def test_a_count_that_is_too_low_refuses_no_result(bench: Bench, conn: psycopg.Connection) -> None:
    bench.planned()
    conn.execute("UPDATE stage SET remaining = 0 WHERE status = 'running'")
    attempt = claim(bench.state, bench.worker)
    assert bench.state.tasks.succeed(attempt, {}, None) is not Settled.LOST


def test_a_count_that_drifted_is_right_when_its_stage_is_closed(
    bench: Bench, conn: psycopg.Connection
) -> None:
    bench.planned()
    bench.work(2)
    conn.execute("UPDATE stage SET remaining = 3 WHERE status = 'running'")
    bench.look()
    assert violated(conn, CHECKS) == []


def test_a_count_that_is_missing_is_set(bench: Bench, conn: psycopg.Connection) -> None:
    bench.planned()
    conn.execute("UPDATE stage SET remaining = NULL")
    bench.look()
    assert conn.execute("SELECT remaining FROM stage WHERE position = 0").fetchone() == (2,)


# --- one record, one broker --------------------------------------------------------------------


@pytest.mark.parametrize("poison", ["task", "worker"])
def test_a_record_that_cannot_be_read_stops_no_sweep(
    bench: Bench, conn: psycopg.Connection, poison: str
) -> None:
    submit(bench.state, "a")
    claim(bench.state, bench.worker)
    told = submit(bench.state, "b")
    conn.execute("DELETE FROM wakeup WHERE job_id = 'b1'")
    if poison == "task":
        conn.execute("UPDATE task SET params = '[]' WHERE job_id = 'a1'")
    bench.clock.advance(3)
    bench.state.workers.beat(bench.worker, [])
    if poison == "worker":
        conn.execute("UPDATE worker SET progress = '{}'")
    try:
        bench.reconciler.step()
    except Exception as error:
        raise AssertionError("the sweep was stopped") from error
    assert told.id in bench.heard.references


def test_a_look_that_takes_too_long_stops_no_sweep(
    bench: Bench, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.planned()
    conn.execute("UPDATE task SET failures = max_failures WHERE kind = 'work'")
    refuse = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'query_canceled'; END $$"

    def too_long() -> list[str]:
        bench.state.database.run(lambda own: own.execute(refuse))
        return []

    monkeypatch.setattr(bench.state.jobs, "unadvanced", too_long)
    bench.reconciler.step()
    assert bench.state.jobs.get(job.id).status is JobStatus.FAILED


class Broker(Heard):
    """A broker that is away when its first message comes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def wake(self, reference: str) -> None:
        self.calls += 1
        if self.calls == 1:
            raise TransientError("the broker does not answer", "try again")
        super().wake(reference)


def test_a_broker_that_is_away_once_loses_no_other_message(
    bench: Bench, conn: psycopg.Connection
) -> None:
    jobs = [submit(bench.state, lineage).id for lineage in "abc"]
    conn.execute("UPDATE wakeup SET sent = 0, due_at = cogmill.now() - interval '5 seconds'")
    reconciler = SystemReconciler(bench.state, broker := Broker())
    for _ in range(3):
        with contextlib.suppress(TransientError):
            reconciler.step()
    assert len(set(jobs) & set(broker.references)) >= 2


def test_a_broker_that_is_away_stops_no_sweep(bench: Bench, conn: psycopg.Connection) -> None:
    told, exhausted = submit(bench.state, "a"), submit(bench.state, "b")
    conn.execute("UPDATE wakeup SET sent = 0, due_at = cogmill.now() - interval '5 seconds'")
    conn.execute("UPDATE task SET failures = max_failures WHERE job_id = 'b1'")
    with contextlib.suppress(TransientError):
        SystemReconciler(bench.state, Broker()).step()
    assert bench.state.jobs.get(exhausted.id).status is JobStatus.FAILED
    assert bench.state.jobs.get(told.id).status is JobStatus.ACCEPTED
