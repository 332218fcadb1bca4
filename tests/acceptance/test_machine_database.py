"""PostgreSQL without a free connection, and without PostgreSQL: it costs time only."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.harness.figure import Figure
from tests.harness.fleet import FAST, QUICK, Fleet
from tests.harness.processes import children_of, living, signal_all, until

from cogmill.core_machine.state.embedded import keeper

IDLE = "an idle one"
#: A client's own name, so that nothing of this session is taken for a worker.
OTHERS = (
    "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "
    f"AND application_name <> '{IDLE}'"
)


@contextmanager
def _full(conninfo: str) -> Iterator[int]:
    """Take every connection there is, those of the workers too; give how many."""
    idle = make_conninfo(conninfo, application_name=IDLE)
    with psycopg.connect(idle, autocommit=True) as admin, ExitStack() as taken:

        def take() -> int:
            count = 0
            try:
                while True:
                    taken.enter_context(psycopg.connect(idle))
                    count += 1
            except psycopg.OperationalError as error:
                assert "too many clients" in str(error)
            return count

        ((limit,),) = admin.execute("SELECT current_setting('max_connections')::int").fetchall()
        count = 1 + take()

        def alone() -> bool:
            # Counted, for a client that is only being let in is not yet in pg_stat_activity.
            nonlocal count
            admin.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}".encode())
            count += take()
            return count == limit

        until(alone, "nobody else has a connection")
        yield count


@pytest.mark.timeout(300)
def test_a_job_ends_after_postgresql_was_out_of_connections(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    fleet.pace = FAST if full else QUICK.model_copy(update={"lease": 1.0})
    workers = fleet.started([fleet.launch() for _ in range(2 if full else 1)])
    job = fleet.submit(count=len(workers))
    until(lambda: fleet.holding() == len(workers), "every worker holds a task")
    children = [child for worker in workers for child in children_of(worker.pid)]
    begun = time.monotonic()
    with _full(fleet.conninfo) as count:
        until(lambda: not living(children), "no worker goes on past its lease")
        without = time.monotonic() - begun
    fleet.go()
    freed = time.monotonic()
    fleet.ended(job)
    _charges_nobody(fleet, workers)
    figure.measured(
        f"{count} idle connections for {without:.1f} s; the job ended {_since(freed)} after them, "
        "0 attempts charged",
        "0 charged",
    )


@pytest.mark.timeout(300)
def test_a_job_ends_after_postgresql_was_stopped_and_charges_no_attempt(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    seconds = 10.0 if full else 2.0
    fleet.pace = FAST if full else QUICK
    workers = fleet.started([fleet.launch() for _ in range(2 if full else 1)])
    job = fleet.submit(count=len(workers))
    until(lambda: fleet.holding() == len(workers), "every worker holds a task")
    data = fleet.server.embedded.places.data
    postmaster = int((data / "postmaster.pid").read_text().split()[0])
    signal_all([postmaster], signal.SIGINT)
    until(lambda: not keeper.is_postmaster(postmaster, data), "the server has stopped")
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped >= seconds, "that lasts", 2 * seconds)
    fleet.server.lease.ensure_running()
    fleet.go()
    started = time.monotonic()
    fleet.ended(job)
    _charges_nobody(fleet, workers)
    figure.measured(
        f"stopped for {seconds:g} s; the job ended {_since(started)} after the start, "
        "0 attempts charged",
        "0 charged",
    )


def _since(begun: float) -> str:
    return f"{time.monotonic() - begun:.1f} s"


def _charges_nobody(fleet: Fleet, workers: list[Any]) -> None:
    assert fleet.number("SELECT sum(failures) FROM task") == 0
    assert fleet.events("task rescued") == 0
    assert fleet.workers() == ["live"] * len(workers)
