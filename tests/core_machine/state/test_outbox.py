"""What the outbox costs, and whom it still tells when a message was lost."""

from __future__ import annotations

from tests.harness.clock import Clock
from tests.harness.steps import join, submit

from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.errors import TransientError

MESSAGES = 12


class Away:
    """A broker that is away, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def wake(self, reference: str) -> None:
        self.calls += 1
        raise TransientError("the broker does not answer", "try again")


def test_a_broker_that_is_away_is_asked_once_a_message_in_a_sweep(
    database: Database, clock: Clock
) -> None:
    state = StateManager(database)
    worker = join(state)
    for job in [submit(state, f"l{number}.") for number in range(MESSAGES)]:
        state.wakeups.owe(job.id)
    clock.advance(2)
    state.workers.beat(worker, [])
    reconciler = SystemReconciler(state, broker := Away())
    reconciler.step()
    assert broker.calls <= MESSAGES
    assert len(state.wakeups.unsent()) == 0  # a second's grace; they are owed again
    clock.advance(2)
    assert len(state.wakeups.unsent()) == MESSAGES


class Heard:
    """A broker that remembers."""

    def __init__(self) -> None:
        self.references: list[str] = []

    def wake(self, reference: str) -> None:
        self.references.append(reference)


def lost(database: Database, clock: Clock, change: str) -> list[str]:
    """Lose a job's message, change something, wait, and return who was told in a sweep."""
    state = StateManager(database)
    worker = join(state)
    submit(state, "a")  # its message is taken, and reaches nobody
    with database.transaction() as conn:
        conn.execute(change.encode())
    clock.advance(61)
    state.workers.beat(worker, [])
    SystemReconciler(state, broker := Heard()).step()
    return broker.references


def test_a_lost_message_is_sent_again_where_workers_wait_for_their_hosts(
    database: Database, clock: Clock
) -> None:
    assert lost(database, clock, "UPDATE worker SET on_demand = true") == ["a1"]


def test_a_lost_message_costs_nothing_where_a_worker_looks_by_itself(
    database: Database, clock: Clock
) -> None:
    assert lost(database, clock, "SELECT 1") == []


def test_a_worker_of_another_job_or_type_does_not_count(database: Database, clock: Clock) -> None:
    change = "UPDATE worker SET only_jobs = '{another}', job_types = '{other:1}'"
    assert lost(database, clock, change) == ["a1"]


def test_a_row_of_an_older_schema_that_notes_no_time_counts_as_sent_long_ago(
    database: Database, clock: Clock
) -> None:
    change = "WITH old AS (UPDATE wakeup SET sent_at = NULL) UPDATE worker SET on_demand = true"
    assert lost(database, clock, change) == ["a1"]


def test_a_message_counted_as_sent_beyond_what_was_owed_is_sent_again(
    database: Database, clock: Clock
) -> None:
    change = "WITH odd AS (UPDATE wakeup SET sent = 9) UPDATE worker SET on_demand = true"
    assert lost(database, clock, change) == ["a1"]


def test_a_debt_without_an_heir_is_due_again(database: Database, clock: Clock) -> None:
    state = StateManager(database)
    worker = join(state)
    state.jobs.dismiss(submit(state, "a").id)
    with database.transaction() as conn:
        conn.execute("UPDATE cleanup SET due_at = 'infinity', heir = 'nobody'")
    state.workers.beat(worker, [])
    reconciler = SystemReconciler(state, Heard())
    assert [action.finder for action in reconciler.step()] == ["contradiction"]
    clock.advance(1)
    state.workers.beat(worker, [])
    assert state.cleanups.claim(worker) is not None
