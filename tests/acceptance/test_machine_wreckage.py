"""What crashes, lost messages and hands leave behind is repaired; nothing else is touched."""

from __future__ import annotations

import time

import pytest
from tests.harness.clock import Clock
from tests.harness.figure import Figure
from tests.harness.steps import Heard
from tests.state.wreckage import KINDS, MENDED, look_alikes, violated, yard

from cogmill.core_machine.reconciliation import SystemReconciler

SEED = 20261125
PASSES = 2
#: Shapes of jobs that had ended before they were broken.
ENDED = ("successful", "failed", "dismissed", "heir-ended", "heir-failed")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_seeded_inconsistency_is_repaired_in_two_passes_and_nothing_else_is_touched(
    address: str, clock: Clock, figure: Figure, full: bool
) -> None:
    wrecks, healthy, sample = (10_000, 2_000, 250) if full else (300, 57, 40)
    with yard(address, clock, SEED) as place:
        place.build(wrecks, look_alikes(healthy))
        assert set(place.wrecks.by_kind()) == set(KINDS)
        reconciler = SystemReconciler(place.state, heard := Heard())
        before, spared = place.digest(), place.digest(place.wrecks.healthy)

        would = reconciler.step(dry_run=True)
        assert place.digest() == before
        assert heard.references == []

        began = time.perf_counter()
        did = reconciler.step()
        seconds = time.perf_counter() - began
        assert {(one.finder, one.subject) for one in did} <= {
            (one.finder, one.subject) for one in would
        }
        for _ in range(PASSES - 1):
            place.beat_later()
            reconciler.step()
        broken = place.broken(heard.references)
        unlike = place.digest(place.wrecks.healthy) != spared
        violations = violated(place.conn, MENDED)
        figure.command, figure.seed = "cogmill reconcile --once, twice", SEED
        figure.measured(
            f"{wrecks} wrecks of {len(KINDS)} kinds, alone and in pairs: "
            f"{sum(map(len, broken.values()))} broken after {PASSES} passes "
            f"(the first took {seconds:.1f} s), {len(violations)} invariants violated, "
            f"healthy jobs {'changed' if unlike else 'as before'}",
            "0 broken, 0 violated, healthy jobs as before",
        )
        assert broken == {}
        assert violations == []
        assert not unlike

        repaired = place.digest()
        assert reconciler.step() == []
        assert reconciler.step(dry_run=True) == []
        assert place.digest() == repaired

        jobs = list(place.wrecks.kinds)[:sample]
        place.drive(jobs, reconciler.step)
        query = "SELECT id, status FROM job WHERE id = ANY (%(jobs)s)"
        status = {str(job): str(how) for job, how in place.rows(query, jobs=jobs)}
        live = {job for job in jobs if place.wrecks.shapes[job] not in ENDED}
        assert {job: status[job] for job in live} == {
            job: "failed" if place.wrecks.ends(job) else "successful" for job in live
        }
        assert violated(place.conn, MENDED) == []
