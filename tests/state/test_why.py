"""`cogmill show --why`: one query, and the first thing that is in the way, in a sentence."""

from __future__ import annotations

import pytest
from tests.harness.clock import Clock
from tests.harness.steps import BROKEN, MEBIBYTE, claim, join, plan, submit

from cogmill.cli.why import why
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.workers import AttemptProgress


@pytest.fixture
def state(database: Database) -> StateManager:
    made = StateManager(database)
    made.reconciliations.note()  # somebody looks: no alarm
    return made


def reasons(state: StateManager, job_id: str) -> str:
    return "; ".join(why(state.jobs.why(job_id), job_id))


def test_no_worker_lives(state: StateManager) -> None:
    assert "no worker lives: start one with `cogmill worker`" in reasons(state, submit(state).id)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("job_types = '{other:1}'", "none of 1 live workers knows job type toy 1"),
        ("engines = '{e0}'", "no live worker has the engine that the job began with (e)"),
        ("reaches = '{elsewhere}'", "can only be done on host any"),
        ("only_jobs = '{another}'", "every live worker works for another job"),
        ("memory = 1000", "task plan needs 1 MB, and the largest live worker has"),
    ],
)
def test_the_first_demand_that_leaves_no_worker_is_named(
    state: StateManager, database: Database, change: str, words: str
) -> None:
    job = submit(state)
    join(state)
    with database.transaction() as conn:
        conn.execute(f"UPDATE worker SET {change}".encode())
    assert words in reasons(state, job.id)


def test_a_backlog_is_counted(state: StateManager, clock: Clock) -> None:
    worker = join(state)
    submit(state, "busy")
    plan(state, worker, 7)
    clock.advance(1)
    assert "behind 7 tasks of other jobs" in reasons(state, submit(state, "late").id)


def test_a_free_worker_is_about_to_take_it(state: StateManager) -> None:
    job = submit(state)
    join(state)
    assert "1 live workers can take them as soon as a slot is free" in reasons(state, job.id)


def test_what_waits_to_be_tried_again_says_when_and_why(state: StateManager, clock: Clock) -> None:
    job, worker = submit(state), join(state)
    state.tasks.retry(claim(state, worker), BROKEN, 90)
    said = reasons(state, job.id)
    assert "1 tasks wait to be tried again, the next in 1:30: it broke" in said


def test_what_runs_says_where_and_whether_it_is_silent(state: StateManager, clock: Clock) -> None:
    job, worker = submit(state), join(state)
    task = claim(state, worker).task
    state.workers.beat(
        worker, [AttemptProgress(task_id=task.id, attempt=task.attempt, job_id=job.id, done=0)]
    )
    assert "it runs: 1 tasks of stage first, on h (pid 1)" in reasons(state, job.id)
    clock.advance(5)
    assert "1 of these workers have missed their beats" in reasons(state, job.id)


def test_what_was_settled_and_not_advanced_names_the_reconciler(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 0)
    assert "`cogmill reconcile --once` does so now" in reasons(state, job.id)


def test_an_ended_job_says_so_and_what_it_owes(state: StateManager) -> None:
    job = submit(state)
    state.jobs.dismiss(job.id)
    said = reasons(state, job.id)
    assert "the job has ended: it is dismissed" in said
    assert "its clean-up is owed" in said


def test_a_silence_of_the_reconcilers_is_an_alarm(state: StateManager, clock: Clock) -> None:
    job = submit(state)
    clock.advance(301)
    assert "no sweep of a reconciler was recorded for 5:01" in reasons(state, job.id)
    beaten = state.workers.beat(join(state), [])
    assert beaten is not None
    assert beaten.unswept == pytest.approx(301, abs=1)
    SystemReconciler(state, _Nobody()).step()
    assert "no sweep" not in reasons(state, job.id)
    with state.database.transaction() as conn:
        conn.execute("DELETE FROM reconciliation_run")
    assert "no sweep of a reconciler was recorded ever" in reasons(state, job.id)


def test_memory_is_said_as_people_write_it(state: StateManager, database: Database) -> None:
    job = submit(state)
    join(state)
    with database.transaction() as conn:
        conn.execute("UPDATE task SET memory = %s", (600 * MEBIBYTE,))
    said = reasons(state, job.id)
    assert "needs 600 MB, and the largest live worker has 64 MB for one of its children" in said
    assert "start one with --workers 1 --memory 728MB" in said


class _Nobody:
    def wake(self, reference: str) -> None:
        """Nobody hears it."""
