"""What a transition does while something else is frozen, unknown or broken."""

from __future__ import annotations

import psycopg
import pytest
from tests.harness.clock import Clock
from tests.harness.steps import Heard, claim, join, plan, submit

from cogmill.core_machine.contracts import JobStatus
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.errors import JobNotFound


@pytest.fixture
def state(database: Database) -> StateManager:
    return StateManager(database)


def test_a_clean_up_waits_for_a_worker_that_claimed_after_its_last_beat(
    state: StateManager, clock: Clock
) -> None:
    job, writer, cleaner = submit(state), join(state), join(state)
    clock.advance(0.5)
    claim(state, writer)
    state.jobs.dismiss(job.id)
    clock.advance(0.5)
    state.workers.beat(cleaner, [])
    assert state.cleanups.claim(cleaner) is None
    state.workers.beat(writer, [])
    assert state.cleanups.claim(cleaner) is not None


def test_a_clean_up_waits_no_longer_than_for_a_dead_worker_to_be_found(
    state: StateManager, clock: Clock
) -> None:
    job, dead, cleaner = submit(state), join(state), join(state)
    claim(state, dead)
    clock.advance(0.5)
    state.jobs.dismiss(job.id)
    reconciler = SystemReconciler(state, Heard())
    for seconds in (5, 1.5):
        clock.advance(seconds)
        state.workers.beat(cleaner, [])
        assert state.cleanups.claim(cleaner) is None
        reconciler.step()
    assert state.cleanups.claim(cleaner) is not None


def test_a_clean_up_that_was_claimed_without_a_reply_is_given_back(state: StateManager) -> None:
    job, worker = submit(state), join(state)
    state.jobs.dismiss(job.id)
    state.workers.beat(worker, [])
    assert state.cleanups.claim(worker) is not None
    assert state.cleanups.release_unknown(worker, [job.id]) == 0
    assert state.cleanups.release_unknown(worker, []) == 1
    assert state.cleanups.claim(worker) is not None


def test_a_claim_does_not_wait_for_a_frozen_holder_of_the_job_row(
    state: StateManager, address: str
) -> None:
    job, worker = submit(state), join(state)
    with psycopg.connect(address) as frozen:
        frozen.execute("SELECT FROM cogmill.job FOR UPDATE")
        assert claim(state, worker).task.job_id == job.id


def test_a_job_that_cannot_be_repaired_keeps_no_other_from_it(
    state: StateManager, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound, worker = submit(state, "a"), submit(state, "b"), join(state)
    advance = state.jobs.advance

    def stubborn(job_id: str) -> JobStatus:
        if job_id == broken.id:
            raise ValueError("no such thing")
        return advance(job_id)

    monkeypatch.setattr(state.jobs, "advance", stubborn)
    for _ in range(2):
        plan(state, worker, 0)
    clock.advance(3)
    state.workers.beat(worker, [])
    SystemReconciler(state, Heard()).step()
    assert [stage.status for stage in state.jobs.stages(broken.id)] == ["running", "pending"]
    assert [stage.status for stage in state.jobs.stages(sound.id)] == ["closed", "planning"]


@pytest.mark.parametrize("prefix", ["%", "_", "a\\", "A"])
def test_a_job_is_found_by_its_prefix_and_by_no_pattern(state: StateManager, prefix: str) -> None:
    job = submit(state)
    assert state.jobs.get("a").id == job.id
    with pytest.raises(JobNotFound):
        state.jobs.get(prefix)
