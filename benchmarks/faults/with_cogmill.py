"""cogmill's adapter; runs in the project's own .venv."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psycopg
from benchmarks.faults.client import Look, main
from benchmarks.faults.pace import BEAT, LOOK, SILENCE, SLOTS
from benchmarks.faults.work import Order
from pydantic import SecretStr

from cogmill import runtime
from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.orchestration import JobProcessor
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.transitions.wakeups import NotifyPublisher, WakeupPublisher
from cogmill.job_types.registry import Registry
from cogmill.settings import Pace, Settings

_LOOK = """
    SELECT count(*) FROM event WHERE kind = 'work succeeded' AND task = %(unit)s
    UNION ALL
    SELECT count(*) FROM task WHERE key = %(unit)s AND status IN ('ready', 'running')
    UNION ALL
    SELECT count(*) FROM task WHERE key = %(unit)s AND status = 'failed'
"""
"""Events are one row an accepted end of a task (DESIGN.md, section 3: Settle)."""


class _Silent:
    """A wake-up that gets lost: NOTIFY is a call of its own in cogmill, not a trigger."""

    def wake(self, reference: str) -> None:
        """Send nothing."""


class _KeptChild(ChildProcess):
    """One child for all preflights: a submit is not what is measured."""

    def close(self) -> None:
        """Stay; it dies with this process."""


def _settings(address: str) -> Settings:
    # ARCHITECTURE.md and DESIGN.md section 3, Worker: the fast profile beats every second and looks
    # every second; suspicion is set to the silence that all systems get. A worker stops itself
    # (lease) later than it may be suspected, as in the profiles.
    pace = Pace(beat=BEAT, suspect=SILENCE, lease=SILENCE + 2 * BEAT, look=LOOK, grace=BEAT)
    return Settings(
        database_url=SecretStr(address), workers=SLOTS, memory=2**30, host="bench", pace=pace
    )  # fmt: skip


class CogmillClient:
    """Submits jobs of one unit, and reads tasks and events."""

    def __init__(self) -> None:
        self._child: ChildProcess | None = None

    def prepare(self, address: str) -> None:
        """Migrate."""
        with Database(address) as database:
            database.migrate()

    def submit(self, address: str, order: Order, lose: bool) -> None:
        """Submit a job; the same order again is the same lineage, so the same job."""
        self._submit(address, "bench-unit", {"order": order}, lose=lose)

    def fan_in(self, address: str, orders: list[Order], follow: Order) -> None:
        """Submit a job of two stages: a stage opens when the one before has no open task."""
        inputs = {"orders": orders, "follow": follow}
        self._submit(address, "bench-fan-in", inputs, lose=False)

    def _submit(
        self, address: str, type_id: str, inputs: Mapping[str, object], *, lose: bool
    ) -> None:
        self._child = self._child or _KeptChild(_settings(address).for_child())
        child = self._child
        types = Registry.load()
        with Database(address) as database:
            state = StateManager(database)
            publisher: WakeupPublisher = _Silent() if lose else NotifyPublisher(state)
            processor = JobProcessor(state, types, publisher, lambda: child)
            processor.submit(type_id, types.get(type_id).inputs.model_validate(inputs))

    def look(self, address: str, unit: str) -> Look:
        """Read the tasks of that key, and every accepted end of them."""
        with psycopg.connect(address, options="-c search_path=cogmill") as conn:
            counts = [row[0] for row in conn.execute(_LOOK, {"unit": unit})]
            stored = conn.execute(
                "SELECT result ->> 'token' FROM task JOIN task_result ON task_id = task.id"
                " WHERE key = %s",
                (unit,),
            ).fetchone()
            # A job whose plan has not been made has no task of that key yet.
            pending = conn.execute(
                "SELECT count(*) FROM job WHERE status IN ('accepted', 'running') AND"
                " coalesce(inputs -> 'order', inputs -> 'follow') ->> 'unit' = %s",
                (unit,),
            ).fetchone()
        return Look(
            accepted=counts[0],
            stored=stored[0] if stored else "",
            open=counts[1] > 0 or bool(pending and pending[0]),
            failed=counts[2] > 0,
        )


def work(address: str, name: str) -> None:
    """Work until killed."""
    with runtime.machine(_settings(address)) as machine:
        machine.worker().start()
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(CogmillClient, work)
