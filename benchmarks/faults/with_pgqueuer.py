"""PgQueuer's adapter; runs in the benchmark's venv.

Pages named in comments are those of PgQueuer's documentation.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import psycopg
from benchmarks.faults.client import Look, NotOffered, main
from benchmarks.faults.pace import LOOK, SILENCE, SLOTS
from benchmarks.faults.work import Order, perform
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from psycopg.conninfo import conninfo_to_dict

_NOTIFY = "tg_pgqueuer_changed"
_LOOK = """
    SELECT (SELECT count(*) FROM pgqueuer_log WHERE job_id = ANY (%(ids)s)
                                                AND status = 'successful'),
           (SELECT count(*) FROM pgqueuer WHERE id = ANY (%(ids)s)
                                            AND status IN ('queued', 'picked')),
           (SELECT count(*) FROM pgqueuer_log WHERE job_id = ANY (%(ids)s)
                AND status IN ('exception', 'canceled', 'deleted', 'failed'))
"""
"""Guides, Reliability, Audit trail: the log has a row for each end of a job; results are not
stored."""


@contextlib.asynccontextmanager
async def _driver(address: str) -> AsyncIterator[AsyncpgDriver]:
    parts: Any = conninfo_to_dict(address)
    # Guides, Deployment: one connection of asyncpg a worker.
    conn = await asyncpg.connect(
        host=parts["host"], port=parts["port"], user=parts["user"], database=parts["dbname"]
    )
    try:
        yield AsyncpgDriver(conn)
    finally:
        await conn.close()


class PgQueuerClient:
    """Enqueues jobs, and reads queue and log."""

    def __init__(self) -> None:
        # The log knows a job by its number only.
        self._ids: dict[str, list[int]] = {}

    def prepare(self, address: str) -> None:
        """Install the schema."""

        async def install() -> None:
            async with _driver(address) as driver:
                await Queries(driver).install()

        asyncio.run(install())

    def submit(self, address: str, order: Order, lose: bool) -> None:
        """Enqueue a job."""

        async def enqueue() -> list[int]:
            async with _driver(address) as driver:
                # Guides, Reliability, Idempotency: a key that means something, and duplicates
                # skipped.
                made = await Queries(driver).enqueue(
                    "unit",
                    json.dumps(order).encode(),
                    dedupe_key=order["unit"],
                    on_conflict="skip",
                )
            return [int(job) for job in made if job is not None]

        with _without_notify(address) if lose else contextlib.nullcontext():
            self._ids.setdefault(order["unit"], []).extend(asyncio.run(enqueue()))

    def fan_in(self, address: str, orders: list[Order], follow: Order) -> None:
        """Say that there is none.

        Guides, Completion tracking, lets a producer wait for several jobs; what it does next is in
        its own process and gone with it, so it is no follow-up that the system runs.
        """
        raise NotOffered("a producer can await jobs (CompletionWatcher), nothing durable follows")

    def look(self, address: str, unit: str) -> Look:
        """Read the rows of that unit's jobs."""
        with psycopg.connect(address) as conn:
            row: Any = conn.execute(_LOOK, {"ids": self._ids.get(unit, [])}).fetchone()
        return Look(accepted=row[0], stored="", open=row[1] > 0, failed=row[2] > 0)


@contextlib.contextmanager
def _without_notify(address: str) -> Iterator[None]:
    # NOTIFY is sent by a trigger; without it the message is lost and the job is not.
    with psycopg.connect(address, autocommit=True) as conn:
        conn.execute(f"ALTER TABLE pgqueuer DISABLE TRIGGER {_NOTIFY}")
        try:
            yield
        finally:
            conn.execute(f"ALTER TABLE pgqueuer ENABLE TRIGGER {_NOTIFY}")


def work(address: str, name: str) -> None:
    """Work until killed."""

    async def run() -> None:
        async with _driver(address) as driver:
            queuer = PgQueuer(driver)

            # Entrypoints are coroutines; blocking work goes to a thread, as the library says when
            # it is given a plain function, so that heartbeats go on beside it.
            @queuer.entrypoint("unit")
            async def unit(job: Job) -> None:
                await asyncio.to_thread(perform, json.loads(job.payload or b""))

            await queuer.run(
                # Guides, Performance tuning: polling is what finds jobs whose notification was
                # lost (default 30 s).
                dequeue_timeout=timedelta(seconds=LOOK),
                # Guides, Heartbeat and Reliability, Worker-crash recovery: a job whose heartbeat is
                # older is picked again; beats come at half of it (default 30 s).
                heartbeat_timeout=timedelta(seconds=SILENCE),
                batch_size=SLOTS // 2,
                max_concurrent_tasks=SLOTS,
                # Guides, Deployment, Process supervision and the checklist there.
                shutdown_on_listener_failure=True,
            )

    asyncio.run(run())


if __name__ == "__main__":
    main(PgQueuerClient, work)
