"""The reconciler among wrecks: what it finds, whom it races, and what cannot stop it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.harness.clock import Clock
from tests.harness.steps import Heard
from tests.state.wreckage import (
    HEALTHY,
    KINDS,
    MENDED,
    OWED,
    Yard,
    look_alikes,
    violated,
    yard,
)

from cogmill.core_machine.contracts import TaskKind
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.tasks import Attempt, Settled

DAY_SECONDS = 24 * 3600
BEATS = 3.0


# --- what it finds, and what it leaves alone ---------------------------------------------------


def test_a_reconciler_leaves_a_healthy_database_as_it_is(address: str, clock: Clock) -> None:
    with yard(address, clock, seed=1) as place:
        place.build(0, [*look_alikes(2 * len(HEALTHY)), OWED, OWED])
        before = place.digest()
        assert SystemReconciler(place.state, heard := Heard()).step() == []
        assert place.digest() == before
        assert heard.references == []


def test_a_dry_run_names_every_wreck_by_its_kind_and_changes_nothing(
    address: str, clock: Clock
) -> None:
    with yard(address, clock, seed=2) as place:
        place.build(2 * len(KINDS), look_alikes(len(HEALTHY)), pairs=0)
        before = place.digest()
        reconciler = SystemReconciler(place.state, heard := Heard())
        found = reconciler.step(dry_run=True)
        assert place.digest() == before
        assert place.rows("SELECT 1 FROM reconciliation_run") == []
        assert heard.references == []
        named = {(action.finder, action.subject.split()[0]) for action in found}
        missed = [
            (job, name)
            for name, jobs in place.wrecks.by_kind().items()
            for job in jobs
            if not named & {(KINDS[name].found_as, subject) for subject in _subjects(place, job)}
        ]
        assert missed == []
        subjects = {subject for job in place.wrecks.kinds for subject in _subjects(place, job)}
        assert {subject for _, subject in named} <= subjects
        assert reconciler.step() == found


def _repair(place: Yard, step: Callable[[], object]) -> None:
    """Look twice: at the second look, a beat later, the silent are dead."""
    step()
    place.beat_later()
    step()


def _subjects(place: Yard, job: str) -> set[str]:
    return {job, job[:12], str(place.wrecks.workers.get(job))}


def test_whatever_was_repaired_comes_to_its_end_and_is_cleaned_up(
    address: str, clock: Clock
) -> None:
    with yard(address, clock, seed=3) as place:
        place.build(3 * len(KINDS))
        reconciler = SystemReconciler(place.state, Heard())
        _repair(place, reconciler.step)
        place.drive(list(place.wrecks.kinds), reconciler.step)
        wrong = [
            (job, status, place.wrecks.kinds[job])
            for job, status in place.rows("SELECT id, status FROM job WHERE generation = 1")
            if place.wrecks.shapes.get(job) not in (None, "failed", "dismissed")
            and status != ("failed" if place.wrecks.ends(job) else "successful")
        ]
        assert wrong == []
        clock.advance(DAY_SECONDS + 1)
        cleaner = place.join(types=("toy:1", "elsewhere:1"))
        for worker in (*place.pool, place.late):
            place.state.workers.retire(worker)
        reconciler.step()
        clock.advance(BEATS)
        place.state.workers.beat(cleaner, [])
        reconciler.step()
        while (claimed := place.state.cleanups.claim(cleaner)) is not None:
            assert place.state.cleanups.settle(cleaner, claimed, None, 0)
        assert place.rows("SELECT job_id FROM cleanup WHERE done_at IS NULL") == []
        assert place.rows("SELECT id FROM job WHERE id NOT IN (SELECT job_id FROM cleanup)") == []
        assert violated(place.conn, MENDED) == []


# --- whom it races -----------------------------------------------------------------------------


@pytest.mark.parametrize("reconcilers", [2, 5])
def test_many_reconcilers_at_once_repair_each_wreck_once(
    address: str, clock: Clock, reconcilers: int, full: bool
) -> None:
    wrecks = len(KINDS) * (30 if full else 4)
    alone = _events_of_a_repair(address, clock, wrecks, 1)
    assert _events_of_a_repair(address, clock, wrecks, reconcilers) == alone


def _events_of_a_repair(
    address: str, clock: Clock, wrecks: int, reconcilers: int
) -> Counter[tuple[Any, ...]]:
    """Repair the same wreckage with so many, and count what the repairs recorded."""
    now = clock.now
    with yard(address, clock, seed=4, connections=2 * reconcilers) as place:
        place.rows("TRUNCATE job, worker, event, reconciliation_run, payload CASCADE")
        place.build(wrecks, look_alikes(len(HEALTHY)))
        spared = place.digest(place.wrecks.healthy)
        heard = Heard()
        team = [SystemReconciler(place.state, heard) for _ in range(reconcilers)]
        barrier = threading.Barrier(reconcilers)

        def step(one: SystemReconciler) -> None:
            barrier.wait()
            one.step()

        with ThreadPoolExecutor(reconcilers) as threads:
            _repair(place, lambda: list(threads.map(step, team)))
        assert place.broken(heard.references) == {}
        assert violated(place.conn, MENDED) == []
        assert place.digest(place.wrecks.healthy) == spared
        rows = place.rows("SELECT job_id, kind, stage, task FROM event")
    clock.set(now)
    return Counter(rows)


TAKEN = (
    "its worker does not know of it",
    "its worker has ended",
    "it hangs at a worker that beats",
)


@pytest.mark.parametrize("kind", TAKEN)
def test_a_settle_and_a_repair_at_once_end_an_attempt_once(
    address: str, clock: Clock, kind: str
) -> None:
    with yard(address, clock, seed=5, connections=6) as place:
        place.build(24, pairs=0, only=[kind])
        attempts = place.attempts()
        barrier = threading.Barrier(3)
        reconciler = SystemReconciler(place.state, Heard())

        def settle(some: Iterable[Attempt]) -> dict[int, Settled]:
            barrier.wait()
            return {one.task.id: _succeed(place.state, one) for one in some}

        def repair() -> None:
            barrier.wait()
            reconciler.step()

        with ThreadPoolExecutor(3) as threads:
            # From both ends, so that one meets the reconciler whichever way it goes.
            halves = attempts[: len(attempts) // 2], attempts[: len(attempts) // 2 - 1 : -1]
            settling = [threads.submit(settle, half) for half in halves]
            threads.submit(repair).result()
            settled = settling[0].result() | settling[1].result()
        assert len(settled) == len(attempts)
        _each_ended_once(place, settled)


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("first", ["settle", "repair"])
def test_the_fence_decides_between_a_settle_and_a_repair_that_was_already_found(
    address: str, clock: Clock, kind: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with yard(address, clock, seed=6) as place:
        place.build(6, pairs=0, only=[kind])
        attempts = place.attempts()
        reconciler = SystemReconciler(place.state, Heard())
        if first == "repair":
            reconciler.step()
            assert {_succeed(place.state, one) for one in attempts} == {Settled.LOST}
            _each_ended_once(place, {one.task.id: Settled.LOST for one in attempts})
            return
        stuck, orphaned = place.state.tasks.stuck(), place.state.workers.orphaned()
        assert stuck or orphaned
        settled = {one.task.id: _succeed(place.state, one) for one in attempts}
        assert Settled.LOST not in settled.values()
        before = place.digest()
        # It had looked before, and was frozen until now.
        monkeypatch.setattr(place.state.tasks, "stuck", lambda: stuck)
        monkeypatch.setattr(place.state.workers, "orphaned", lambda: orphaned)
        reconciler.step()
        assert place.digest() == before
        _each_ended_once(place, settled)


def _succeed(state: StateManager, attempt: Attempt) -> Settled:
    if attempt.task.kind is TaskKind.PLAN:
        return state.tasks.succeed_plan(attempt, None, [], None)
    return state.tasks.succeed(attempt, {"by": attempt.task.label}, None)


def _each_ended_once(place: Yard, settled: dict[int, Settled]) -> None:
    ends = Counter(
        (job, key)
        for job, key in place.rows(
            """SELECT job_id, task FROM event
               WHERE kind IN ('work succeeded', 'plan succeeded', 'task rescued', 'task retrying')
            """
        )
    )
    for number, job, key, status, failures in place.rows(
        "SELECT id, job_id, key, status, failures FROM task WHERE id = ANY (%(ids)s)",
        ids=list(settled),
    ):
        lost = settled[number] is Settled.LOST
        assert (status, failures) == (("ready", 1) if lost else ("succeeded", 0))
        assert ends[job, key] == 1
    assert violated(place.conn, MENDED) == []


# --- what cannot stop it -----------------------------------------------------------------------

_REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no room for this'; END $$"""
NO_AUDIT = {
    "no table of actions": ("DROP TABLE reconciliation_action",),
    "no table of runs": ("DROP TABLE reconciliation_run CASCADE",),
    "actions are refused": (
        _REFUSE,
        """CREATE TRIGGER refuse BEFORE INSERT ON reconciliation_action
           FOR EACH ROW EXECUTE FUNCTION refuse()""",
    ),
    "runs are refused": (
        _REFUSE,
        """CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON reconciliation_run
           FOR EACH ROW EXECUTE FUNCTION refuse()""",
    ),
    "no end of a run": (
        _REFUSE,
        """CREATE TRIGGER refuse BEFORE UPDATE ON reconciliation_run
           FOR EACH ROW EXECUTE FUNCTION refuse()""",
    ),
}


@pytest.mark.parametrize("sabotage", NO_AUDIT.values(), ids=NO_AUDIT.keys())
def test_an_audit_that_fails_stops_no_sweep(
    address: str, clock: Clock, sabotage: Sequence[str]
) -> None:
    with yard(address, clock, seed=7) as place:
        place.build(2 * len(KINDS), look_alikes(len(HEALTHY)))
        for statement in sabotage:
            place.rows(statement)
        reconciler = SystemReconciler(place.state, heard := Heard())
        _repair(place, reconciler.step)
        assert place.broken(heard.references) == {}


def test_records_that_cannot_be_repaired_keep_no_other_from_it(address: str, clock: Clock) -> None:
    with yard(address, clock, seed=8) as place:
        place.build(3 * len(KINDS), pairs=0)
        stubborn = {jobs[0] for jobs in place.wrecks.by_kind().values()}
        place.rows("CREATE TABLE stubborn AS SELECT unnest(%(jobs)s::text[]) AS id",
                   jobs=sorted(stubborn))  # fmt: skip
        place.rows(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF EXISTS (SELECT FROM stubborn WHERE id = NEW.job_id) THEN
                       RAISE EXCEPTION 'no room for this';
                   END IF;
                   RETURN NEW;
               END $$"""
        )
        for table in ("event", "wakeup", "cleanup", "task"):
            place.rows(
                f"""CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table}
                    FOR EACH ROW EXECUTE FUNCTION refuse()"""
            )
        reconciler = SystemReconciler(place.state, heard := Heard())
        _repair(place, reconciler.step)
        left = {job for jobs in place.broken(heard.references).values() for job in jobs}
        # A worker's tasks are freed all or none; who shares one with a stubborn job waits for it.
        # And what is due to be told is taken in one statement: see the tests of the doubts.
        together = {
            job for job, worker in place.wrecks.workers.items()
            if worker in {place.wrecks.workers.get(one) for one in stubborn}
        }  # fmt: skip
        messages = {job for name in place.wrecks.by_kind() if "wake-up" in name
                    for job in place.wrecks.by_kind()[name]}  # fmt: skip
        assert left - messages <= stubborn | together
        assert stubborn & left
