"""The adapter of DBOS Transact; runs in the benchmark's venv.

Pages named in comments are those of the DBOS documentation.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import psycopg
from benchmarks.faults.client import Look, main
from benchmarks.faults.pace import LOOK, POISON_ATTEMPTS, SLOTS
from benchmarks.faults.work import Order, carry_on, perform
from dbos import DBOS, DBOSClient, DBOSConfig
from psycopg.conninfo import conninfo_to_dict

_APP = "bench"
_AUDIT = """
    CREATE TABLE accepted (unit text NOT NULL, at timestamptz NOT NULL DEFAULT now());
    CREATE FUNCTION note_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.accepted (unit) VALUES (NEW.workflow_uuid); RETURN NULL; END $$;
    CREATE TRIGGER note_accepted AFTER UPDATE ON dbos.workflow_status
        FOR EACH ROW
        WHEN (NEW.status = 'SUCCESS' AND (OLD.status, OLD.output) IS DISTINCT FROM
                                         (NEW.status, NEW.output))
        EXECUTE FUNCTION note_accepted();
"""
"""DBOS keeps a workflow's last outcome only; this counts how often one was written."""


@DBOS.step()
def unit_step(order: Order) -> str:
    """Do one unit. A step is at least once (Tutorials, Steps), as in every other system here."""
    return perform(order)


@DBOS.step()
def then_step(order: Order, token: str) -> str:
    """Follow one unit."""
    return carry_on(order, token)


# Reference, Decorators: how often it may be tried.
@DBOS.workflow(name="unit", max_recovery_attempts=POISON_ATTEMPTS)
def unit_workflow(order: Order) -> str:
    """Do one unit durably."""
    return then_step(order, unit_step(order))


@DBOS.workflow(name="fan in", max_recovery_attempts=POISON_ATTEMPTS)
def fan_in_workflow(orders: list[Order], follow: Order) -> str:
    """Tutorials, Queues, Queue example: enqueue tasks, await their handles, go on."""
    handles = [DBOS.enqueue_workflow("units", unit_workflow, order) for order in orders]
    for handle in handles:
        handle.get_result()
    return unit_step(follow)


def _config(address: str, executor: str) -> DBOSConfig:
    return DBOSConfig(
        name=_APP,
        system_database_url=_url(address),
        # Production, Workflow recovery, distributed setting: every executor has an id, and one that
        # restarts under its id recovers what was pending there. Detecting that an executor is gone
        # is left to Conductor (a service, licensed for production) or, as here, to whoever
        # restarts executors.
        executor_id=executor,
        application_version="1",
        log_level="ERROR",
    )


def _url(address: str) -> str:
    parts = conninfo_to_dict(address)
    return (
        f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    )


class DbosClient:
    """Enqueues workflows, and reads their status."""

    def prepare(self, address: str) -> None:
        """Let a launch migrate, and watch what is accepted."""
        DBOS(config=_config(address, "prepare"))
        DBOS.launch()
        DBOS.destroy()
        with psycopg.connect(address) as conn:
            conn.execute(_AUDIT)

    def submit(self, address: str, order: Order, lose: bool) -> None:
        """Enqueue a workflow. Queues are polled: there is no message that could be lost."""
        self._enqueue(address, "units", "unit", order["unit"], order)

    def fan_in(self, address: str, orders: list[Order], follow: Order) -> None:
        """Enqueue a workflow that awaits others."""
        self._enqueue(address, "parents", "fan in", follow["unit"], orders, follow)

    def _enqueue(self, address: str, queue: str, workflow: str, unit: str, *args: Any) -> None:
        with psycopg.connect(address):
            pass  # fail at once where the client would wait for the server
        client = _client(address)
        # Tutorials, Workflows, Workflow IDs and idempotency: the id is the idempotency key.
        client.enqueue(
            {
                "queue_name": queue,
                "workflow_name": workflow,
                "workflow_id": unit,
                "max_recovery_attempts": POISON_ATTEMPTS,
            },
            *args,
        )

    def look(self, address: str, unit: str) -> Look:
        """Read one workflow."""
        with psycopg.connect(address) as conn:
            row: Any = conn.execute(
                "SELECT status, output FROM dbos.workflow_status WHERE workflow_uuid = %s", (unit,)
            ).fetchone()
            accepted: Any = conn.execute(
                "SELECT count(*) FROM accepted WHERE unit = %s", (unit,)
            ).fetchone()
        status, output = row or ("", "")
        return Look(
            accepted=accepted[0],
            stored=output or "",
            open=status in ("ENQUEUED", "PENDING", "DELAYED"),
            failed=status in ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"),
        )


@functools.lru_cache(maxsize=1)
def _client(address: str) -> DBOSClient:
    return DBOSClient(system_database_url=_url(address), application_name=_APP)


def work(address: str, name: str) -> None:
    """Work until killed."""
    DBOS(config=_config(address, name))
    DBOS.launch()
    # Tutorials, Queues: registered after launch; a parent must not take its children's places.
    DBOS.register_queue("units", worker_concurrency=SLOTS, polling_interval_sec=LOOK)
    DBOS.register_queue("parents", worker_concurrency=SLOTS, polling_interval_sec=LOOK)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(DbosClient, work)
