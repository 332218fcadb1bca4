"""What the guards of the machine are for: checks that fail as soon as one of them is missing."""

from __future__ import annotations

from tests.harness.steps import BROKEN, MEBIBYTE, Heard, claim, join, new_job, plan, planned, submit
from tests.state.mutants import Bench, expect

from cogmill.core_machine.contracts import JobStatus
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state.tasks import Attempt, Settled
from cogmill.core_machine.state.workers import AttemptProgress
from cogmill.errors import Refused


def lists(attempt: Attempt) -> list[AttemptProgress]:
    task = attempt.task
    return [AttemptProgress(task_id=task.id, attempt=task.attempt, job_id=task.job_id, done=0)]


# --- the fence, and one lease at a time (I1, I3) ----------------------------------------------


def an_attempt_of_the_past_settles_nothing(bench: Bench) -> None:
    submit(bench.state)
    worker = join(bench.state)
    plan(bench.state, worker, 1)
    old = claim(bench.state, worker)
    bench.state.tasks.retry(old, BROKEN, 0)
    claim(bench.state, worker)
    expect(bench.state.tasks.succeed(old, {}, None) is Settled.LOST, "a zombie settled")


def a_fork_settles_nothing(bench: Bench) -> None:
    submit(bench.state)
    attempt = claim(bench.state, join(bench.state))
    fork = Attempt(task=attempt.task, incarnation=join(bench.state))
    settled = bench.state.tasks.succeed_plan(fork, None, planned(1), None)
    expect(settled is Settled.LOST, "a fork settled")


def a_cancelled_attempt_settles_nothing(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    plan(bench.state, worker, 1)
    attempt = claim(bench.state, worker)
    bench.state.jobs.dismiss(job.id)
    expect(bench.state.tasks.succeed(attempt, {}, None) is Settled.LOST, "a cancelled one settled")


def two_claims_at_once_never_get_one_task(bench: Bench) -> None:
    submit(bench.state)
    workers = join(bench.state), join(bench.state)
    claims = bench.race(
        lambda state: state.tasks.claim(workers[0], MEBIBYTE),
        lambda state: state.tasks.claim(workers[1], MEBIBYTE),
    )
    expect([bool(claim.result()) for claim in claims] == [True, False], "claimed twice")


# --- advance (I4) -----------------------------------------------------------------------------


def an_advance_waits_for_the_open_task(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    plan(bench.state, worker, 2)
    bench.state.tasks.succeed(claim(bench.state, worker), {}, None)
    bench.state.jobs.advance(job.id)
    bench.nothing_is_violated()


def every_success_is_counted_down(bench: Bench) -> None:
    submit(bench.state)
    worker = join(bench.state)
    plan(bench.state, worker, 2)
    for _ in range(2):
        settled = bench.state.tasks.succeed(claim(bench.state, worker), {}, None)
        bench.nothing_is_violated()
    expect(settled is Settled.STAGE_DONE, "nobody was told to advance")


def two_advances_at_once_close_a_stage_once(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    plan(bench.state, worker, 0)
    for advance in bench.race(
        lambda state: state.jobs.advance(job.id), lambda state: state.jobs.advance(job.id)
    ):
        advance.result()
    closed = bench.rows("SELECT 1 FROM event WHERE kind = 'stage closed'")
    expect(len(closed) == 1, "a stage was closed twice")


# --- life and death of workers ----------------------------------------------------------------


def a_dead_worker_claims_nothing(bench: Bench) -> None:
    submit(bench.state)
    worker = join(bench.state)
    bench.clock.advance(5)
    bench.state.workers.suspect(worker)
    bench.clock.advance(1.5)
    assert bench.state.workers.declare_dead(worker) == []
    expect(bench.state.tasks.claim(worker, MEBIBYTE) is None, "a dead worker claimed")


def a_worker_that_dies_while_it_claims_keeps_nothing(bench: Bench) -> None:
    submit(bench.state)
    worker = join(bench.state)
    bench.clock.advance(5)
    bench.state.workers.suspect(worker)
    bench.clock.advance(1.5)
    claimed, buried = bench.race(
        lambda state: state.tasks.claim(worker, MEBIBYTE),
        lambda state: state.workers.declare_dead(worker),
    )
    assert claimed.result() is not None
    assert buried.result() == []
    expect(not bench.state.workers.orphaned(), "a dead worker holds a task")


def a_suspect_gets_one_more_beat(bench: Bench) -> None:
    worker = join(bench.state)
    bench.clock.advance(5)
    assert bench.state.workers.suspect(worker)
    bench.clock.advance(0.5)
    expect(bench.state.workers.declare_dead(worker) is None, "dead at the first look")


def a_suspicion_from_before_a_restart_proves_nothing(bench: Bench) -> None:
    worker = join(bench.state)
    bench.clock.advance(5)
    assert bench.state.workers.suspect(worker)
    bench.look.execute(
        "UPDATE worker SET suspected_postmaster = suspected_postmaster - '1 h'::interval"
    )
    bench.clock.advance(1.5)
    expect(bench.state.workers.declare_dead(worker) is None, "dead by an old suspicion")


def a_beat_takes_the_suspicion_back(bench: Bench) -> None:
    worker = join(bench.state)
    bench.clock.advance(5)
    assert bench.state.workers.suspect(worker)
    bench.state.workers.beat(worker, [])
    bench.clock.advance(1.5)
    expect(bench.state.workers.declare_dead(worker) is None, "dead in spite of its beat")


# --- memory -----------------------------------------------------------------------------------


def what_is_too_large_for_now_is_passed_over_and_then_waited_for(bench: Bench) -> None:
    submit(bench.state)
    worker = join(bench.state)
    tasks = [*planned(1, 50 * MEBIBYTE), *planned(2)[1:]]
    bench.state.tasks.succeed_plan(claim(bench.state, worker), None, tasks, None)
    small = bench.state.tasks.claim(worker, 10 * MEBIBYTE)
    expect(small is not None and small.key == "1", "the small one waits behind the large one")
    assert small is not None
    bench.state.tasks.release(Attempt(task=small, incarnation=worker))
    bench.clock.advance(11)
    for _ in range(2):
        waiting = bench.state.tasks.claim(worker, 10 * MEBIBYTE)
        expect(waiting is None or waiting.memory <= 10 * MEBIBYTE, "more memory than there is")
        expect(waiting is None, "the large one starves")


def what_no_budget_of_a_worker_holds_is_left_to_others(bench: Bench) -> None:
    submit(bench.state)
    worker = join(bench.state, memory=10 * MEBIBYTE)
    tasks = [*planned(1, 50 * MEBIBYTE), *planned(2)[1:]]
    bench.state.tasks.succeed_plan(claim(bench.state, worker), None, tasks, None)
    bench.clock.advance(11)
    small = bench.state.tasks.claim(worker, 10 * MEBIBYTE)
    expect(small is not None and small.key == "1", "the line is held for ever")


# --- the end of a job (I2, I5) ----------------------------------------------------------------


def what_has_ended_stays_when_it_is_dismissed_meanwhile(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    plan(bench.state, worker, 0)
    bench.state.jobs.advance(job.id)
    plan(bench.state, worker, 0)
    ended, dismissed = bench.race(
        lambda state: state.jobs.advance(job.id), lambda state: state.jobs.dismiss(job.id)
    )
    assert ended.result() is JobStatus.SUCCESSFUL
    expect(bench.state.jobs.get(job.id).status is JobStatus.SUCCESSFUL, "I2: it changed")
    expect(dismissed.result() is JobStatus.SUCCESSFUL, "a person was told what is not so")


def a_dismissal_leaves_what_succeeded(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    plan(bench.state, worker, 2)
    bench.state.tasks.succeed(claim(bench.state, worker), {}, None)
    bench.state.jobs.dismiss(job.id)
    bench.nothing_is_violated()


def a_dismissal_takes_what_a_plan_is_just_inserting(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    attempt = claim(bench.state, worker)
    settled, dismissed = bench.race(
        lambda state: state.tasks.succeed_plan(attempt, None, planned(2), None),
        lambda state: state.jobs.dismiss(job.id),
    )
    assert settled.result() is Settled.DONE
    assert dismissed.result() is JobStatus.DISMISSED
    bench.nothing_is_violated()


def two_jobs_never_own_one_destination(bench: Bench) -> None:
    for made in bench.race(
        lambda state: state.generations.submit(new_job("a", owns="/out/")),
        lambda state: state.generations.submit(new_job("b", owns="/out/")),
    ):
        error = made.exception()
        assert error is None or isinstance(error, Refused)
    bench.nothing_is_violated()


# --- wake-ups and clean-up (I6) ---------------------------------------------------------------


def whoever_dies_after_a_transition_has_left_its_wake_up(bench: Bench) -> None:
    """Nothing is sent after any of these; the outbox must have it for others to send."""
    state = bench.state
    job = state.generations.submit(new_job())
    assert job is not None
    worker = join(state)

    def told() -> None:
        expect(state.wakeups.take() == [job.id], "nobody will be told")

    told()
    plan(state, worker, 1)
    told()
    state.tasks.succeed(claim(state, worker), {}, None)
    state.jobs.advance(job.id)
    told()
    claim(state, worker)
    bench.clock.advance(5)
    reconciler = SystemReconciler(state, Heard())
    reconciler.step()
    bench.clock.advance(1.5)
    state.workers.declare_dead(worker)
    told()
    state.jobs.dismiss(job.id)
    told()


def a_clean_up_waits_for_a_writer_that_is_listed(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    bench.state.workers.beat(worker, lists(claim(bench.state, worker)))
    bench.state.jobs.dismiss(job.id)
    bench.state.workers.beat(join(bench.state), [])
    bench.state.cleanups.claim(worker)
    bench.nothing_is_violated()


def a_clean_up_waits_for_a_writer_that_no_beat_has_told_of(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    bench.clock.advance(0.5)
    claim(bench.state, worker)
    bench.state.jobs.dismiss(job.id)
    expect(bench.state.cleanups.claim(worker) is None, "cleaned beside a writer")


def a_clean_up_of_the_past_settles_nothing(bench: Bench) -> None:
    job, worker = submit(bench.state), join(bench.state)
    bench.state.jobs.dismiss(job.id)
    old = bench.state.cleanups.claim(worker)
    assert old is not None
    bench.state.cleanups.release_unknown(worker, [])
    assert bench.state.cleanups.claim(worker) is not None
    expect(not bench.state.cleanups.settle(worker, old, None, 0), "a zombie cleaned up")
