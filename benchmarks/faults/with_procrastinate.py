"""Procrastinate's adapter; runs in the benchmark's venv.

Pages named in comments are those of procrastinate's documentation, under howto/.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import procrastinate
import psycopg
from benchmarks.faults.client import Look, NotOffered, main
from benchmarks.faults.pace import BEAT, LOOK, SILENCE, SLOTS
from benchmarks.faults.work import Order, perform
from procrastinate import exceptions

_NOTIFY = "procrastinate_jobs_notify_queue_job_inserted_v1"
_LOOK = """
    SELECT count(*) FILTER (WHERE event.type = 'succeeded'),
           count(*) FILTER (WHERE job.status IN ('todo', 'doing')),
           count(*) FILTER (WHERE job.status IN ('failed', 'cancelled', 'aborted'))
    FROM procrastinate_jobs job LEFT JOIN procrastinate_events event ON event.job_id = job.id
    WHERE job.task_name = 'unit' AND job.args -> 'order' ->> 'unit' = %s
"""
"""Its events table has a row for each time that a job became ``succeeded``; results are not
stored."""


def _app(address: str) -> procrastinate.App:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=address))

    # A plain function runs in a thread (production/concurrency), so heartbeats go on beside it.
    @app.task(name="unit")
    def unit(order: Order) -> str:
        return perform(order)

    # production/retry_stalled_jobs: the periodic task of that page, word for word but for the two
    # times, which it says to adjust together with the worker's two. The sixth column of the cron
    # expression is seconds (advanced/cron).
    @app.periodic(cron="* * * * * */1")
    @app.task(name="retry_stalled_jobs", queueing_lock="retry_stalled_jobs", pass_context=True)
    async def retry_stalled_jobs(context: procrastinate.JobContext, timestamp: int) -> None:
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=SILENCE):
            await app.job_manager.retry_job(job)

    return app


class ProcrastinateClient:
    """Defers jobs, and reads jobs and events."""

    def prepare(self, address: str) -> None:
        """Apply the schema."""

        async def apply() -> None:
            async with _app(address).open_async() as app:
                await app.schema_manager.apply_schema_async()

        asyncio.run(apply())

    def submit(self, address: str, order: Order, lose: bool) -> None:
        """Defer a job."""

        async def defer() -> None:
            async with _app(address).open_async() as app:
                # advanced/queueing_locks: the only thing that is offered against a second job of
                # the same meaning; that page says to ignore the exception.
                task = app.configure_task("unit", queueing_lock=order["unit"])
                with contextlib.suppress(exceptions.AlreadyEnqueued):
                    await task.defer_async(order=order)

        with _without_notify(address) if lose else contextlib.nullcontext():
            asyncio.run(defer())

    def fan_in(self, address: str, orders: list[Order], follow: Order) -> None:
        """Say that there is none: no page of the documentation has jobs that wait for others."""
        raise NotOffered("no job can wait for others; locks only keep jobs apart")

    def look(self, address: str, unit: str) -> Look:
        """Read the jobs of that unit, and how often one of them succeeded."""
        with psycopg.connect(address) as conn:
            row: Any = conn.execute(_LOOK, (unit,)).fetchone()
        return Look(accepted=row[0], stored="", open=row[1] > 0, failed=row[2] > 0)


@contextlib.contextmanager
def _without_notify(address: str) -> Any:
    # NOTIFY is sent by a trigger; without it the message is lost and the job is not.
    with psycopg.connect(address, autocommit=True) as conn:
        conn.execute(f"ALTER TABLE procrastinate_jobs DISABLE TRIGGER {_NOTIFY}")
        try:
            yield
        finally:
            conn.execute(f"ALTER TABLE procrastinate_jobs ENABLE TRIGGER {_NOTIFY}")


def work(address: str, name: str) -> None:
    """Work until killed."""

    async def run() -> None:
        async with _app(address).open_async() as app:
            await app.run_worker_async(
                name=name,
                concurrency=SLOTS,
                # basics/worker: polling is what finds jobs whose notification was lost.
                fetch_job_polling_interval=LOOK,
                # production/retry_stalled_jobs: adjusted together (defaults 10, 30 and 30 s).
                update_heartbeat_interval=BEAT,
                stalled_worker_timeout=SILENCE,
            )

    asyncio.run(run())


if __name__ == "__main__":
    main(ProcrastinateClient, work)
