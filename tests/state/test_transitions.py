"""The transitions of the state, called as the processors call them, on real PostgreSQL."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import psycopg
import pytest
from pydantic import JsonValue
from tests.harness.clock import Clock
from tests.harness.steps import BROKEN, MEBIBYTE, Heard, claim, join, new_job, plan, planned, submit

from cogmill.core_machine.contracts import (
    Cause,
    CleanUp,
    Job,
    JobStatus,
    PlannedTask,
    Requirements,
    Task,
    TaskKind,
)
from cogmill.core_machine.reconciliation import ROOM_SECONDS, SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.tasks import MOST_PASSED_OVER, Attempt, Settled
from cogmill.core_machine.state.workers import AttemptProgress
from cogmill.errors import DestinationBusy, Refused


@pytest.fixture
def state(database: Database) -> StateManager:
    return StateManager(database)


def tasks_by_status(database: Database) -> dict[str, int]:
    with database.transaction() as conn:
        rows = conn.execute("SELECT status, count(*) FROM task GROUP BY status").fetchall()
    return {str(status): int(count) for status, count in rows}


def test_a_job_runs_from_submit_to_success_through_both_stages(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    assert job.status is JobStatus.ACCEPTED
    for count in (2, 1):
        plan(state, worker, count)
        for number in range(count):
            settled = state.tasks.succeed(claim(state, worker), {"n": number}, None)
            assert settled is (Settled.STAGE_DONE if number == count - 1 else Settled.DONE)
        state.jobs.advance(job.id)
    ended = state.jobs.get(job.id)
    assert (ended.status, ended.outputs) == (JobStatus.SUCCESSFUL, {"n": 0})
    assert state.cleanups.owed(job.id)


def test_a_zombie_cannot_settle_what_its_successor_holds(
    state: StateManager, database: Database
) -> None:
    submit(state)
    zombie, successor = join(state), join(state)
    plan(state, zombie, 1)
    old = claim(state, zombie)
    state.tasks.release(old)
    new = claim(state, successor)
    assert new.task.attempt == old.task.attempt + 1
    outcomes: list[Callable[[], Settled]] = [
        lambda: state.tasks.succeed(old, {"n": 666}, None),
        lambda: state.tasks.fail(old, BROKEN),
        lambda: state.tasks.retry(old, BROKEN, 0),
        lambda: state.tasks.release(old),
    ]
    assert [outcome() for outcome in outcomes] == [Settled.LOST] * 4
    assert state.tasks.succeed(new, {"n": 1}, None) is Settled.STAGE_DONE
    with database.transaction() as conn:
        assert conn.execute(
            "SELECT result FROM task_result JOIN task ON id = task_id WHERE kind = 'work'"
        ).fetchall() == [({"n": 1},)]


def test_the_same_incarnation_cannot_settle_an_earlier_attempt_of_its_own(
    state: StateManager,
) -> None:
    submit(state)
    worker = join(state)
    plan(state, worker, 1)
    old = claim(state, worker)
    state.tasks.retry(old, BROKEN, 0)
    new = claim(state, worker)
    assert state.tasks.succeed(old, None, None) is Settled.LOST
    assert state.tasks.succeed(new, None, None) is Settled.STAGE_DONE


def test_a_zombie_planner_adds_no_tasks(state: StateManager, database: Database) -> None:
    submit(state)
    zombie, successor = join(state), join(state)
    old = claim(state, zombie)
    state.tasks.release(old)
    plan(state, successor, 2)
    assert state.tasks.succeed_plan(old, None, planned(5), None) is Settled.LOST
    assert tasks_by_status(database) == {"succeeded": 1, "ready": 2}


def test_two_last_tasks_that_end_at_once_advance_the_job_once(
    state: StateManager, database: Database
) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 2)
    attempts = [claim(state, worker), claim(state, worker)]
    barrier = threading.Barrier(2)

    def settle(attempt: Attempt) -> None:
        barrier.wait()
        state.tasks.succeed(attempt, None, None)
        state.jobs.advance(job.id)

    threads = [threading.Thread(target=settle, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as conn:
        row = conn.execute("SELECT count(*) FROM task WHERE kind = 'plan'").fetchone()
    assert row == (2,)
    assert [stage.status for stage in state.jobs.stages(job.id)] == ["closed", "planning"]


def test_an_advance_with_an_open_task_changes_nothing(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 2)
    state.tasks.succeed(claim(state, worker), None, None)
    before = state.jobs.stages(job.id)
    assert state.jobs.advance(job.id) is JobStatus.RUNNING
    assert state.jobs.stages(job.id) == before


def test_a_failed_task_ends_its_job_and_cancels_its_siblings(
    state: StateManager, database: Database
) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 3)
    failing, running = claim(state, worker), claim(state, worker)
    state.tasks.fail(failing, BROKEN)
    assert state.jobs.advance(job.id) is JobStatus.FAILED
    assert tasks_by_status(database) == {"succeeded": 1, "failed": 1, "cancelled": 2}
    assert state.tasks.succeed(running, None, None) is Settled.LOST
    ended = state.jobs.get(job.id)
    assert ended.failure is not None
    assert "it broke (stage first, task 0)" in ended.failure.message


def test_a_dismissed_job_never_changes_again(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    attempt = claim(state, worker)
    assert state.jobs.dismiss(job.id) is JobStatus.DISMISSED
    before = state.jobs.get(job.id)
    assert state.tasks.succeed_plan(attempt, None, planned(3), None) is Settled.LOST
    assert state.jobs.advance(job.id) is JobStatus.DISMISSED
    assert state.jobs.dismiss(job.id) is JobStatus.DISMISSED
    assert state.jobs.get(job.id) == before
    assert state.tasks.claim(worker, 64 * MEBIBYTE) is None


def test_a_dismiss_takes_the_tasks_that_a_plan_is_just_inserting(
    state: StateManager, database: Database, address: str
) -> None:
    job, worker = submit(state), join(state)
    attempt = claim(state, worker)
    dismissed = threading.Event()
    with psycopg.connect(address) as conn:
        # The plan has settled and not yet committed: its row is locked, its tasks unseen.
        conn.execute("SET search_path = cogmill")
        conn.execute(
            "UPDATE task SET status = 'succeeded', worker = NULL, deadline_at = NULL, "
            "finished_at = cogmill.now() WHERE id = %s", (attempt.task.id,)
        )  # fmt: skip
        conn.execute(
            "INSERT INTO task (job_id, position, kind, key, job_type, job_version, engine, reach, "
            "memory, seconds, priority, lane, max_failures) "
            "SELECT job_id, position, 'work', 'late', job_type, job_version, engine, reach, "
            "memory, seconds, priority, lane, max_failures FROM task WHERE id = %s",
            (attempt.task.id,),
        )

        def dismiss() -> None:
            state.jobs.dismiss(job.id)
            dismissed.set()

        thread = threading.Thread(target=dismiss, daemon=True)
        thread.start()
        assert not dismissed.wait(0.2)
    thread.join()
    assert tasks_by_status(database) == {"succeeded": 1, "cancelled": 1}


def test_concurrent_submits_of_one_lineage_make_one_job(state: StateManager) -> None:
    made: list[Job | None] = []
    threads = [
        threading.Thread(target=lambda: made.append(state.generations.submit(new_job())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {job.id for job in made if job} == {"a1"}
    assert len(state.jobs.recent()) == 1


def test_two_live_jobs_never_own_one_destination(state: StateManager) -> None:
    job = submit(state, "a", owns="/out/")
    with pytest.raises(Refused, match="is being written by job a1"):
        submit(state, "b", owns="/out/")
    state.jobs.dismiss(job.id)
    submit(state, "b", owns="/out/")


@pytest.mark.parametrize("offer", [{"engine": "other"}, {"reach": "elsewhere"}, {"memory": 1024}])
def test_a_worker_that_does_not_fit_leaves_the_task_alone(
    state: StateManager, offer: dict[str, object], database: Database
) -> None:
    submit(state)
    assert state.tasks.claim(join(state, **offer), 64 * MEBIBYTE) is None  # type: ignore[arg-type]  # by name
    assert tasks_by_status(database) == {"ready": 1}


def test_a_task_that_does_not_fit_now_is_passed_over_and_then_holds_the_line(
    state: StateManager, clock: Clock
) -> None:
    submit(state)
    worker = join(state)
    state.tasks.succeed_plan(
        claim(state, worker), None, [*planned(1, 50 * MEBIBYTE), *planned(3)[1:]], None
    )
    small = claim(state, worker, free=10 * MEBIBYTE)
    assert small.task.key == "1"
    clock.advance(11)
    assert state.tasks.claim(worker, 10 * MEBIBYTE) is None
    assert claim(state, worker, free=50 * MEBIBYTE).task.key == "0"


def test_a_claim_whose_reply_was_lost_is_given_back(state: StateManager) -> None:
    submit(state)
    worker = join(state)
    lost = claim(state, worker)
    assert state.tasks.release_unknown_claims(worker, [lost.task.id]) == 0
    assert state.tasks.release_unknown_claims(worker, []) == 1
    assert claim(state, worker).task.attempt == lost.task.attempt + 1


def test_a_task_that_this_version_cannot_read_holds_up_no_other(
    state: StateManager, database: Database
) -> None:
    submit(state)
    worker = join(state)
    plan(state, worker, 3)
    with database.transaction() as conn:
        conn.execute("UPDATE task SET params = '[]' WHERE kind = 'work' AND key = '0'")
    taken = [claim(state, worker).task.key for _ in range(2)]
    assert (taken, state.tasks.claim(worker, 64 * MEBIBYTE)) == (["1", "2"], None)
    with database.transaction() as conn:
        left = conn.execute("SELECT key, attempt FROM task WHERE status = 'ready'").fetchall()
    assert left == [("0", 0)]


def test_a_queue_of_tasks_that_cannot_be_read_holds_up_no_claim_for_long(
    state: StateManager, database: Database
) -> None:
    submit(state)
    worker = join(state)
    plan(state, worker, 2 * MOST_PASSED_OVER + 1)
    with database.transaction() as conn:
        conn.execute(
            "UPDATE task SET params = '[]' WHERE kind = 'work' AND key <> %s",
            [str(2 * MOST_PASSED_OVER)],
        )
    claims = [state.tasks.claim(worker, 64 * MEBIBYTE) for _ in range(3)]
    assert [each.key if each else None for each in claims] == [
        None, None, str(2 * MOST_PASSED_OVER),
    ]  # fmt: skip


def test_a_silent_worker_is_dead_only_at_the_second_look(state: StateManager, clock: Clock) -> None:
    submit(state)
    dead, heir = join(state), join(state)
    attempt = claim(state, dead)
    reconciler = SystemReconciler(state, Heard())
    clock.advance(5)
    state.workers.beat(heir, [])
    assert [action.finder for action in reconciler.step()] == ["silent worker"]
    assert state.tasks.claim(heir, 64 * MEBIBYTE) is None
    clock.advance(1.5)
    state.workers.beat(heir, [])
    assert [action.finder for action in reconciler.step()] == ["dead worker"]
    again = claim(state, heir)
    assert (again.task.attempt, again.task.failures) == (attempt.task.attempt + 1, 1)
    assert state.workers.beat(dead, []) is None
    assert state.tasks.claim(dead, 64 * MEBIBYTE) is None


def test_a_beat_between_the_looks_takes_the_suspicion_back(
    state: StateManager, clock: Clock
) -> None:
    submit(state)
    slow = join(state)
    attempt = claim(state, slow)
    reconciler = SystemReconciler(state, Heard())
    clock.advance(5)
    reconciler.step()
    beaten = state.workers.beat(slow, [_progress(attempt.task)])
    assert beaten is not None
    assert beaten.orders == ()
    clock.advance(1.5)
    assert reconciler.step() == []


def test_a_task_whose_workers_keep_dying_fails_its_job(state: StateManager, clock: Clock) -> None:
    job = submit(state)
    reconciler = SystemReconciler(state, Heard())
    for _ in range(3):
        claim(state, join(state))
        clock.advance(5)
        reconciler.step()
        clock.advance(1.5)
        reconciler.step()
        clock.advance(6)
    ended = state.jobs.get(job.id)
    assert ended.status is JobStatus.FAILED
    assert ended.failure is not None
    assert ended.failure.cause is Cause.LOST


def test_what_was_settled_and_not_advanced_is_advanced(state: StateManager, clock: Clock) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 1)
    state.tasks.succeed(claim(state, worker), None, None)
    heard = Heard()
    reconciler = SystemReconciler(state, heard)
    state.wakeups.take()
    assert reconciler.step() == []
    clock.advance(3)
    state.workers.beat(worker, [])
    assert [action.finder for action in reconciler.step()] == ["settled, not advanced"]
    assert [stage.status for stage in state.jobs.stages(job.id)] == ["closed", "planning"]
    clock.advance(2)
    state.workers.beat(worker, [])
    assert [action.finder for action in reconciler.step()] == ["wake-up not sent"]
    assert heard.references == [job.id]
    assert reconciler.step() == []


def test_a_dry_run_changes_nothing(state: StateManager, clock: Clock) -> None:
    submit(state)
    claim(state, join(state))
    state.wakeups.take()
    clock.advance(5)
    reconciler = SystemReconciler(state, Heard())
    found = reconciler.step(dry_run=True)
    assert [action.finder for action in found] == ["silent worker"]
    assert reconciler.step(dry_run=True) == found


def test_a_heartbeat_brings_back_what_the_worker_must_kill(
    state: StateManager, clock: Clock
) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 3)
    cancelled, lost, hung = (claim(state, worker) for _ in range(3))
    state.tasks.release(lost)
    clock.advance(3601)
    held = [_progress(attempt.task) for attempt in (lost, hung)]
    beaten = state.workers.beat(worker, held)
    assert beaten is not None
    assert {(order.task_id, order.order) for order in beaten.orders} == {
        (lost.task.id, "lost"),
        (hung.task.id, "hung"),
    }
    state.jobs.dismiss(job.id)
    beaten = state.workers.beat(worker, [_progress(cancelled.task)])
    assert beaten is not None
    assert [order.order for order in beaten.orders] == ["cancelled"]


def _progress(task: Task) -> AttemptProgress:
    return AttemptProgress(task_id=task.id, attempt=task.attempt, job_id=task.job_id, done=0)


def test_a_clean_up_waits_for_the_last_writer(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    attempt = claim(state, worker)
    state.workers.beat(worker, [_progress(attempt.task)])
    state.jobs.dismiss(job.id)
    assert state.cleanups.claim(worker) is None
    state.workers.beat(worker, [])
    claimed = state.cleanups.claim(worker)
    assert claimed is not None
    assert state.cleanups.claim(worker) is None
    assert state.cleanups.settle(worker, claimed, BROKEN, 0)
    again = state.cleanups.claim(worker)
    assert again is not None
    assert state.cleanups.settle(worker, again, None, 0)
    assert not state.cleanups.owed(job.id)


def test_a_failed_job_is_cleaned_only_after_a_day(state: StateManager, clock: Clock) -> None:
    job, worker = submit(state), join(state)
    state.tasks.fail(claim(state, worker), BROKEN)
    state.jobs.advance(job.id)
    assert state.cleanups.claim(worker) is None
    clock.advance(24 * 3600 + 1)
    state.workers.beat(worker, [])
    assert state.cleanups.claim(worker) is not None


def test_large_results_come_back_as_they_were(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 1)
    large: JsonValue = {"rows": list(range(10_000))}
    state.tasks.succeed(claim(state, worker), large, 5)
    assert [row.result for row in state.jobs.results(job.id, "first")] == [large]


def test_a_stage_without_tasks_is_passed(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    for _ in range(2):
        assert plan(state, worker, 0) is Settled.STAGE_DONE
        state.jobs.advance(job.id)
    assert state.jobs.get(job.id).status is JobStatus.SUCCESSFUL


def test_events_are_read_in_order_and_never_below_a_running_transaction(
    state: StateManager, address: str
) -> None:
    submit(state)
    with psycopg.connect(address) as conn:
        conn.execute("INSERT INTO cogmill.event (job_id, kind) VALUES ('x', 'early')")
        submit(state, "b")
        seen = state.events.page()
        assert [event.job_id for event in seen] == ["a1", "a1"]
    after = state.events.page((seen[-1].xid, seen[-1].id))
    assert [event.job_id for event in after] == ["x", "b1", "b1"]


def test_what_a_lineage_left_names_every_generation_that_is_owed_a_clean_up(
    state: StateManager,
) -> None:
    assert state.generations.previous("a") is None
    for generation in (1, 2):
        job = state.generations.submit(new_job("a", generation))
        assert job is not None
        state.jobs.dismiss(job.id)
    previous = state.generations.previous("a")
    assert previous is not None
    assert (previous.unclean, previous.outputs) == (("a2", "a1"), None)
    worker = join(state)
    claimed = state.cleanups.claim(worker)
    assert claimed is not None
    state.cleanups.settle(worker, claimed, None, 0)
    previous = state.generations.previous("a")
    assert previous is not None
    assert len(previous.unclean) == 1


def test_a_worker_may_leave_only_when_nothing_is_left_that_it_could_do(
    state: StateManager,
) -> None:
    worker, other = join(state), join(state, engine="other")
    assert not state.workers.has_work_ahead(worker)
    job = submit(state)
    attempt = claim(state, worker)
    state.tasks.retry(attempt, BROKEN, 60)
    assert state.workers.has_work_ahead(worker)
    assert not state.workers.has_work_ahead(other)
    state.jobs.dismiss(job.id)
    assert state.workers.has_work_ahead(worker)
    for each in (worker, other):
        state.workers.beat(each, [])
    claimed = state.cleanups.claim(worker)
    assert claimed is not None
    state.cleanups.settle(worker, claimed, None, 0)
    assert not state.workers.has_work_ahead(worker)


# --- what no live worker has room for ----------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1])
def test_a_plan_that_no_live_worker_has_room_for_fails_its_job_and_names_the_budget(
    state: StateManager, database: Database, clock: Clock, position: int
) -> None:
    job, worker = submit(state), join(state, memory=900 * MEBIBYTE)
    if position:
        plan(state, worker, 0)
        state.jobs.advance(job.id)
    with database.transaction() as conn:
        conn.execute("UPDATE task SET memory = %s WHERE status = 'ready'", [1000 * MEBIBYTE])
    clock.advance(ROOM_SECONDS)
    reconciler = SystemReconciler(state, Heard())
    _look(state, reconciler, worker)
    assert not state.jobs.get(job.id).status.terminal
    clock.advance(1)
    _look(state, reconciler, worker)
    failure = state.jobs.get(job.id).failure
    assert failure is not None
    assert (failure.code, failure.cause) == ("no-room", Cause.PERMANENT)
    assert "a plan needs 1000MB of memory, and no live worker has more than 900MB" in (
        failure.message
    )
    assert "start a worker with --workers 1 --memory 1128MB or more" in failure.remedy
    with database.transaction() as conn:
        told = conn.execute("SELECT count(*) FROM event WHERE kind = 'task failed'").fetchone()
    assert told == (1,)


def test_a_plan_waits_where_no_worker_could_do_it_at_any_size(
    state: StateManager, clock: Clock
) -> None:
    job, worker = submit(state), join(state, memory=MEBIBYTE // 2, engine="other")
    clock.advance(3 * ROOM_SECONDS)
    _look(state, SystemReconciler(state, Heard()), worker)
    assert state.jobs.get(job.id).status is JobStatus.ACCEPTED


def test_a_split_that_no_live_worker_has_room_for_is_asked_for_in_less(
    state: StateManager, database: Database, clock: Clock
) -> None:
    submit(state)
    large, small = join(state, memory=64 * MEBIBYTE), join(state, memory=MEBIBYTE // 2)
    plan(state, large, 1, memory=64 * MEBIBYTE)
    state.tasks.split(claim(state, large), BROKEN, 32 * MEBIBYTE)
    state.workers.retire(large)
    clock.advance(ROOM_SECONDS + 1)
    _look(state, SystemReconciler(state, Heard()), small)
    with database.transaction() as conn:
        asked = conn.execute(
            "SELECT kind, memory, split_budget, split_memory FROM task WHERE status = 'ready'"
        ).fetchall()
    half = MEBIBYTE // 2
    assert asked == [("split", half, half, 128 * MEBIBYTE)]


def test_a_split_whose_parts_are_all_there_ends_its_stage(
    state: StateManager, database: Database
) -> None:
    job, worker = submit(state), join(state)
    plan(state, worker, 2)
    made = claim(state, worker)
    state.tasks.succeed(made, {"n": 7}, None)
    state.tasks.split(claim(state, worker), BROKEN, MEBIBYTE)
    parts = [
        one.model_copy(update={"key": f"part {one.key}", "adopted_from": made.task.id})
        for one in planned(2)
    ]
    split = claim(state, worker)
    assert split.task.kind is TaskKind.SPLIT
    assert state.tasks.succeed_split(split, parts, None) is Settled.STAGE_DONE
    state.jobs.advance(job.id)
    assert [stage.status for stage in state.jobs.stages(job.id)] == ["closed", "planning"]
    results = [(row.key, row.result) for row in state.jobs.results(job.id, "first")]
    assert results == [("0", {"n": 7}), ("part 0", {"n": 7}), ("part 1", {"n": 7})]


def _look(state: StateManager, reconciler: SystemReconciler, worker: uuid.UUID) -> None:
    state.workers.beat(worker, [])
    reconciler.step()


def test_a_worker_stays_for_a_task_that_must_be_planned_smaller_and_not_for_a_larger_ones(
    state: StateManager,
) -> None:
    small = join(state)
    job = submit(state)
    attempt = claim(state, small)
    large = PlannedTask(key="k", params={}, requires=Requirements(memory=8 << 30))
    state.tasks.succeed_plan(attempt, None, [large], None)
    assert state.workers.has_work_ahead(small)
    join(state, memory=16 << 30)
    assert not state.workers.has_work_ahead(small)
    state.jobs.dismiss(job.id)


def cleaning(state: StateManager) -> tuple[uuid.UUID, CleanUp]:
    """Return a worker and what it is just removing from the destination "d"."""
    worker = join(state)
    state.jobs.dismiss(submit(state, owns="d").id)
    state.workers.beat(worker, [])
    claimed = state.cleanups.claim(worker)
    assert claimed is not None
    return worker, claimed


def test_no_job_gets_a_destination_while_somebody_may_be_removing_what_lies_there(
    state: StateManager, clock: Clock
) -> None:
    worker, claimed = cleaning(state)
    assert state.cleanups.under_way("d")
    for generation, lineage in ((2, "a"), (1, "b")):
        with pytest.raises(DestinationBusy, match="just being removed"):
            state.generations.submit(new_job(lineage, generation, "d"))
    state.cleanups.settle(worker, claimed, None, 0)
    assert state.generations.submit(new_job("a", 2, "d")) is not None


def test_a_clean_up_whose_worker_is_silent_holds_nobody_up(
    state: StateManager, clock: Clock
) -> None:
    cleaning(state)
    clock.advance(6)
    assert not state.cleanups.under_way("d")
    assert state.generations.submit(new_job("a", 2, "d")) is not None
