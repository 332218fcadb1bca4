"""What the transitions lock, for how long and in which order; and what PostgreSQL reads for it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from tests.harness.steps import MEBIBYTE, claim, join, plan, submit

from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database


@pytest.fixture
def state(database: Database) -> StateManager:
    return StateManager(database)


@pytest.fixture
def conn(address: str) -> Iterator[psycopg.Connection]:
    """Give a transaction that holds what it locks until the test lets go."""
    with psycopg.connect(address) as opened:
        opened.execute("SET search_path = cogmill")
        yield opened


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def until_blocked(conn: psycopg.Connection, count: int = 1) -> None:
    """Wait until so many sessions of this database wait for a lock."""
    pause = threading.Event()
    for _ in range(1000):
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        if row == (count,):
            return
        pause.wait(0.01)
    raise AssertionError("nobody waits")


# --- order and strength ------------------------------------------------------------------------


def test_an_advance_does_not_wait_for_a_split_that_inserts_its_parts(
    state: StateManager, conn: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    # Waiting, it would stand in the way of a second split: a deadlock of the three.
    job, worker = submit(state), join(state)
    plan(state, worker, 2)
    conn.execute("SELECT FROM stage WHERE position = 0 FOR KEY SHARE")  # as its foreign key does
    advanced = threads.submit(state.jobs.advance, job.id)
    try:
        advanced.result(5)
    finally:
        conn.rollback()


def test_a_rescue_owes_the_wake_ups_of_many_jobs_in_the_order_of_their_ids(
    state: StateManager, conn: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    worker = join(state)
    for lineage in "ba":
        submit(state, lineage)
        claim(state, worker)
    conn.execute("SELECT FROM wakeup WHERE job_id = 'a1' FOR UPDATE")
    rescued = threads.submit(state.workers.rescue, worker)
    with _let_go(conn, rescued):
        conn.execute("SELECT FROM wakeup WHERE job_id = 'b1' FOR UPDATE NOWAIT")


CHANGES: dict[str, Callable[[StateManager, uuid.UUID], object]] = {
    "extend deadlines": lambda state, worker: state.tasks.extend_deadlines(worker, 10),
    "release unknown": lambda state, worker: state.tasks.release_unknown_claims(worker, []),
    "rescue": lambda state, worker: state.workers.rescue(worker),
    "dismiss": lambda state, worker: state.jobs.dismiss("a1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whoever_changes_many_tasks_locks_them_in_the_order_of_their_ids(
    state: StateManager, conn: psycopg.Connection, threads: ThreadPoolExecutor,
    change: Callable[[StateManager, uuid.UUID], object],
) -> None:  # fmt: skip
    submit(state)
    worker = join(state)
    plan(state, worker, 2)
    first, second = (claim(state, worker).task.id for _ in range(2))
    # Behind the other in its table, and so for whoever asks for no order.
    conn.execute("UPDATE task SET due_at = due_at - interval '1 s' WHERE id = %s", (first,))
    conn.commit()
    conn.execute("SELECT FROM task WHERE id = %s FOR UPDATE", (first,))
    changed = threads.submit(change, state, worker)
    with _let_go(conn, changed):
        conn.execute("SELECT FROM task WHERE id = %s FOR UPDATE NOWAIT", (second,))


@contextmanager
def _let_go(conn: psycopg.Connection, waiting: Future[Any]) -> Iterator[None]:
    try:
        until_blocked(conn)
        yield
    finally:
        conn.rollback()
        waiting.result(10)


def test_wake_ups_are_taken_past_one_that_is_just_being_owed(
    state: StateManager, conn: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    for job in [submit(state, lineage) for lineage in "ab"]:
        state.wakeups.owe(job.id)
    conn.execute("UPDATE wakeup SET generation = generation + 1 WHERE job_id = 'a1'")
    try:
        assert threads.submit(state.wakeups.take).result(5) == ["b1"]
    finally:
        conn.commit()
    assert state.wakeups.take() == ["a1"]


# --- what is read for one row ------------------------------------------------------------------


def test_a_claim_does_not_read_the_queue_whatever_the_planner_knows_of_it(address: str) -> None:
    # What a fan-out has just inserted, nobody has analyzed; and plans are kept from before it.
    with Database(address, connections=1) as database, psycopg.connect(address) as conn:
        state = StateManager(database)
        conn.execute("ALTER TABLE cogmill.task SET (autovacuum_enabled = off)")
        conn.commit()
        worker = join(state)
        for _ in range(12):
            assert state.tasks.claim(worker, 64 * MEBIBYTE) is None
        submit(state)
        plan(state, worker, 3000)
        before = _entries_read(database, conn)
        for job_id in (None, "a1"):
            assert state.tasks.claim(worker, 64 * MEBIBYTE, job_id=job_id) is not None
        assert _entries_read(database, conn) - before < 100


def test_a_beat_leaves_no_entry_in_an_index_behind(address: str) -> None:
    # At a beat a second and worker these would be most of what there is to vacuum.
    with Database(address, connections=1) as database, psycopg.connect(address) as conn:
        state = StateManager(database)
        worker = join(state)
        for _ in range(50):
            state.workers.beat(worker, [])
        database.run(lambda own: own.execute("SELECT pg_stat_force_next_flush()"))
        database.run(lambda own: own.execute("SELECT"))
        row = conn.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'worker'"
        ).fetchone()
        assert row is not None
        assert row[0] >= 50
        assert row[1] > 0.9 * row[0]


def _entries_read(database: Database, conn: psycopg.Connection) -> int:
    database.run(lambda own: own.execute("SELECT pg_stat_force_next_flush()"))
    database.run(lambda own: own.execute("SELECT"))
    conn.rollback()
    row = conn.execute(
        """SELECT sum(idx_tup_read) + (SELECT seq_tup_read FROM pg_stat_user_tables
                                       WHERE relname = 'task')
           FROM pg_stat_user_indexes WHERE relname = 'task'"""
    ).fetchone()
    assert row is not None
    return int(row[0])
