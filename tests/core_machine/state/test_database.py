"""The way to PostgreSQL: on a real server, with real losses."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from cogmill.core_machine.state.database import migrations
from cogmill.core_machine.state.database.database import (
    Connection,
    ConnectionLost,
    Database,
    OutcomeUnknown,
    ServerBusy,
    statement,
)
from cogmill.core_machine.state.database.listener import Listener
from cogmill.core_machine.state.database.migrations import Migration, packaged_migrations
from cogmill.core_machine.state.embedded.server import Lease
from cogmill.errors import CogmillError, DatabaseUnavailable, Refused

ONE = Migration(1, "one", "CREATE TABLE cogmill.one (n int); INSERT INTO cogmill.one VALUES (1)")
TWO = Migration(2, "two", "CREATE TABLE cogmill.two (share text DEFAULT '50 %')")


@pytest.fixture
def empty(address: str) -> str:
    """Give the address of a database without our schema."""
    with psycopg.connect(address) as conn:
        conn.execute("DROP SCHEMA cogmill CASCADE")
    return address


def value(database: Database, query: bytes) -> object:
    # Again where a session is met that a kill has just cut off.
    row = database.run(lambda conn: conn.execute(query).fetchone(), repeatable=True)
    return row[0] if row else None


def end_session(conn: Connection, address: str) -> None:
    """Let the server end somebody's session, and wait until it is gone."""
    with psycopg.connect(address, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])


# Transactions


def test_a_transaction_is_committed_at_its_end_and_rolled_back_on_an_exception(
    database: Database,
) -> None:
    with database.transaction() as conn:
        conn.execute("CREATE TABLE numbers (n int)")
    with pytest.raises(ZeroDivisionError), database.transaction() as conn:
        conn.execute("INSERT INTO numbers VALUES (1)")
        _ = 1 / 0
    assert value(database, b"SELECT count(*) FROM cogmill.numbers") == 0


def test_a_session_speaks_utc_in_our_schema_and_never_holds_a_lock_for_good(
    database: Database,
) -> None:
    with database.transaction() as conn:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert conn.execute("SELECT current_setting(%s)", [name]).fetchone() != ("0",)
        assert conn.execute("SELECT current_setting('search_path')").fetchone() == ("cogmill",)
        assert conn.execute("SELECT current_setting('timezone')").fetchone() == ("UTC",)
        assert conn.execute("SELECT current_setting('application_name')").fetchone() == ("cogmill",)


def test_a_deadlock_is_run_again_and_both_sides_are_written(database: Database) -> None:
    with database.transaction() as conn:
        conn.execute("CREATE TABLE numbers (id int PRIMARY KEY, n int)")
        conn.execute("INSERT INTO numbers VALUES (1, 0), (2, 0)")
    both_hold_one = threading.Barrier(2)
    first_runs = []

    def add(order: tuple[int, int]) -> Callable[[Connection], None]:
        def work(conn: Connection) -> None:
            conn.execute("SET LOCAL deadlock_timeout = '50ms'")
            conn.execute("UPDATE numbers SET n = n + 1 WHERE id = %s", [order[0]])
            if order not in first_runs:
                first_runs.append(order)
                both_hold_one.wait(10)
            conn.execute("UPDATE numbers SET n = n + 1 WHERE id = %s", [order[1]])

        return work

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda order: database.run(add(order)), [(1, 2), (2, 1)]))
    assert value(database, b"SELECT array_agg(n) FROM cogmill.numbers") == [2, 2]


def test_a_transaction_that_always_loses_says_that_the_server_is_busy_and_why(
    database: Database,
) -> None:
    calls = []

    def lose(conn: Connection) -> None:
        calls.append(1)
        conn.execute("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(ServerBusy) as caught:
        database.run(lose)
    assert len(calls) == 6
    assert isinstance(caught.value.__cause__, errors.SerializationFailure)


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_connection_that_breaks_before_the_commit_repeats_only_what_is_repeatable(
    database: Database, address: str, repeatable: bool
) -> None:
    calls = []

    def work(conn: Connection) -> int:
        calls.append(1)
        if len(calls) == 1:
            end_session(conn, address)
        conn.execute("SELECT 1")
        return len(calls)

    if repeatable:
        assert database.run(work, repeatable=True) == 2
    else:
        with pytest.raises(ConnectionLost):
            database.run(work)
        assert len(calls) == 1


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_commit_without_a_reply_is_an_unknown_outcome_unless_it_is_repeatable(
    database: Database, address: str, repeatable: bool
) -> None:
    calls = []

    def work(conn: Connection) -> int:
        calls.append(1)
        conn.execute("SELECT 1")
        if len(calls) == 1:
            end_session(conn, address)
        return len(calls)

    if repeatable:
        assert database.run(work, repeatable=True) == 2
    else:
        with pytest.raises(OutcomeUnknown):
            database.run(work)
        assert len(calls) == 1


def test_an_error_of_the_statement_itself_reaches_the_caller_as_it_is(database: Database) -> None:
    calls = []

    def work(conn: Connection) -> None:
        calls.append(1)
        conn.execute("SELECT 1/0")

    with pytest.raises(errors.DivisionByZero) as caught:
        database.run(work, repeatable=True)
    assert len(calls) == 1
    assert caught.value.__cause__ is None


def test_sessions_that_the_server_ended_are_not_handed_out_again(
    database: Database, address: str
) -> None:
    with database.transaction() as conn:
        pid = conn.info.backend_pid
    with psycopg.connect(address, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert value(database, b"SELECT 1") == 1


def test_the_kill_of_the_embedded_postmaster_costs_the_open_transaction_and_no_data(
    database: Database,
) -> None:
    database.run(lambda conn: conn.execute("CREATE TABLE kept AS SELECT 7 AS n"))
    calls = []

    def work(conn: Connection) -> int:
        calls.append(1)
        if len(calls) == 1:
            os.kill(postmaster(conn), signal.SIGKILL)
        conn.execute("INSERT INTO kept VALUES (8)")
        return len(calls)

    # The session that the kill cuts off may take one statement more before it notices.
    assert database.run(work, repeatable=True) <= 2
    assert value(database, b"SELECT min(n) FROM cogmill.kept") == 7
    assert value(database, b"SELECT count(*) FROM cogmill.kept") in (2, 3)


def postmaster(conn: Connection) -> int:
    row = conn.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    return int(row[0].split()[0])


def test_when_all_connections_are_busy_the_caller_hears_it_within_its_patience(
    address: str,
) -> None:
    with (
        Database(address, connections=1, patience_seconds=0.3) as database,
        database.transaction(),
        pytest.raises(DatabaseUnavailable, match="busy"),
    ):
        database.run(lambda conn: None)


# Connecting


def test_a_silent_server_is_waited_for_and_then_named_without_the_password() -> None:
    address = "postgresql://me:hushhush@127.0.0.1:1/work"
    begun = time.monotonic()
    with (
        Database(address, patience_seconds=0.5) as database,
        pytest.raises(DatabaseUnavailable) as caught,
    ):
        database.run(lambda conn: None)
    assert 0.5 <= time.monotonic() - begun < 5
    assert "127.0.0.1" in str(caught.value)
    assert "hushhush" not in str(caught.value)


def test_a_server_that_says_no_is_not_asked_again(lease: Lease) -> None:
    begun = time.monotonic()
    with (
        Database(make_conninfo(lease.conninfo, dbname="nowhere")) as database,
        pytest.raises(DatabaseUnavailable, match='"nowhere" does not exist'),
    ):
        database.run(lambda conn: None)
    assert time.monotonic() - begun < 2


def test_an_address_that_cannot_be_read_is_refused_without_quoting_it() -> None:
    with pytest.raises(Refused, match="COGMILL_DATABASE_URL") as caught:
        Database("postgresql://me:hush hush@[half")
    assert "hush" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize("password", ["a@hush", "a/hush", "1/hush"])
def test_a_password_that_breaks_the_address_apart_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(Refused, match="%40 and %2F") as caught:
        Database(f"postgresql://me:{password}@127.0.0.1:1/work")
    assert "hush" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_refused_and_leaves_the_parent_s_connection_alone(database: Database) -> None:
    assert value(database, b"SELECT 1") == 1
    child = os.fork()
    if child == 0:
        try:
            with database.transaction():
                os._exit(1)
        except CogmillError:
            database.close()
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert value(database, b"SELECT 1") == 1


# Schema


def test_migrations_are_applied_once_in_order_and_recorded(empty: str) -> None:
    with Database(empty) as database:
        assert database.migrate([ONE]) == ["0001_one"]
        assert database.migrate([ONE, TWO]) == ["0002_two"]
        assert database.migrate([ONE, TWO]) == []
        recorded = b"SELECT array_agg(version || name || sha256 ORDER BY 1) FROM cogmill.migration"
        assert value(database, recorded) == [f"1one{ONE.sha256}", f"2two{TWO.sha256}"]
        assert value(database, b"SELECT n FROM cogmill.one") == 1


def test_many_migrate_at_once_and_one_of_them_does_it(empty: str) -> None:
    with Database(empty, connections=4) as database, ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(lambda _: database.migrate([ONE, TWO]), range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, 2]


def test_a_migration_that_fails_leaves_nothing_of_the_others(empty: str) -> None:
    broken = Migration(2, "broken", "CREATE TABLE cogmill.two (n int); SELECT 1/0")
    with Database(empty) as database:
        with pytest.raises(errors.DivisionByZero):
            database.migrate([ONE, broken])
        assert value(database, b"SELECT to_regnamespace('cogmill')") is None


def test_a_database_newer_than_the_code_is_refused(empty: str) -> None:
    with Database(empty) as database:
        database.migrate([ONE, TWO])
        with pytest.raises(Refused, match="schema 2") as caught:
            database.migrate([ONE])
    assert "newer cogmill" in caught.value.remedy


def test_a_database_with_other_contents_under_the_same_number_is_refused(empty: str) -> None:
    with Database(empty) as database:
        database.migrate([ONE])
        with pytest.raises(Refused, match="not the one of"):
            database.migrate([Migration(1, "one", "CREATE TABLE cogmill.one (n bigint)"), TWO])
        assert value(database, b"SELECT to_regclass('cogmill.two')") is None


def test_a_user_who_may_not_create_the_schema_is_told_what_its_owner_runs(empty: str) -> None:
    role = f"guest_{os.getpid()}"
    with psycopg.connect(empty, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN")
    try:
        with Database(make_conninfo(empty, user=role)) as database:
            with pytest.raises(Refused) as caught:
                database.migrate([ONE])
            assert f"AUTHORIZATION {role}" in caught.value.remedy
        with psycopg.connect(empty, autocommit=True) as conn:
            conn.execute(f"CREATE SCHEMA cogmill AUTHORIZATION {role}")
        with Database(make_conninfo(empty, user=role)) as database:
            assert database.migrate([ONE]) == ["0001_one"]
    finally:
        with psycopg.connect(empty, autocommit=True) as conn:
            conn.execute(f"DROP OWNED BY {role}")
            conn.execute(f"DROP ROLE {role}")


def test_the_packaged_migrations_bring_every_database_up_to_date(
    empty: str, database: Database
) -> None:
    with Database(empty) as fresh:
        assert len(fresh.pending_migrations()) == len(packaged_migrations())
        fresh.migrate()
        assert fresh.pending_migrations() == []


# Notifications


def test_a_notification_ends_the_wait_and_brings_its_payload(database: Database) -> None:
    with database.notifications("cogmill_wakeup") as listener:
        database.run(lambda conn: conn.execute(statement("notify"), {"reference": "job-1"}))
        assert listener.wait(10) == ["job-1"]
        assert listener.wait(0.01) == []


def test_a_listener_whose_session_was_ended_listens_again(database: Database) -> None:
    with database.notifications("cogmill_wakeup") as listener:
        database.run(
            lambda conn: conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
        )
        assert listener.wait(1) == []
        listener.wait(0)
        database.run(lambda conn: conn.execute(statement("notify"), {"reference": "job-2"}))
        assert listener.wait(10) == ["job-2"]


def test_an_interrupted_listener_waits_no_longer_connected_or_not(database: Database) -> None:
    for conninfo in (database.conninfo, "host=127.0.0.1 port=9"):
        with Listener(conninfo, ["cogmill_wakeup"]) as listener:
            begun = time.monotonic()
            waiting = threading.Thread(target=listener.wait, args=(60,))
            waiting.start()
            listener.interrupt()
            waiting.join(30)
            assert listener.wait(60) == []
            assert time.monotonic() - begun < 30
        listener.interrupt()


# The clock of the tests


def test_the_clock_of_the_machine_moves_only_when_the_test_moves_it(
    database: Database, request: pytest.FixtureRequest
) -> None:
    clock = request.getfixturevalue("clock")
    assert value(database, b"SELECT cogmill.now()") == clock.now
    clock.advance(90)
    assert value(database, b"SELECT cogmill.now()") == clock.now
    clock.set(clock.now - timedelta(days=1))
    assert value(database, b"SELECT cogmill.now()") == clock.now


# What a server may do to anybody


@pytest.mark.parametrize(
    "trouble",
    [
        "SET LOCAL statement_timeout = '20ms'; SELECT pg_sleep(5)",
        "SET LOCAL lock_timeout = '10ms'; LOCK TABLE cogmill.job",
        "SET TRANSACTION READ ONLY; CREATE TABLE cogmill.standby ()",
        "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'out_of_memory'; END $$",
    ],
    ids=["too slow", "locked", "a standby", "out of memory"],
)
def test_what_a_server_cannot_do_just_now_is_nobody_s_defect(
    database: Database, address: str, trouble: str
) -> None:
    # As a defect it would be charged to an attempt, and five of them would fail the job.
    with psycopg.connect(address) as other:
        other.execute("LOCK TABLE cogmill.job IN ROW SHARE MODE")
        with pytest.raises(ServerBusy) as caught:
            database.run(lambda conn: conn.execute(trouble.encode()))
    assert not caught.value.permanent


def test_a_migration_that_waits_for_a_reader_does_not_hold_up_everybody(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.05)
    three = Migration(2, "three", "ALTER TABLE cogmill.one ADD COLUMN more int")
    with Database(empty) as database, psycopg.connect(empty) as dump:
        database.migrate([ONE])
        dump.execute("SELECT FROM cogmill.one")
        with pytest.raises(ServerBusy):
            database.migrate([ONE, three])
        dump.commit()
        assert database.migrate([ONE, three]) == ["0002_three"]
