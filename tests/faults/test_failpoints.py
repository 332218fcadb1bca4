"""A few of the machine's places, struck by every kind of fault; the sweep strikes all of them."""

from __future__ import annotations

import pytest
from tests.faults.sweep import FAULTS, faults_of, places_in_source, selection, sweep

from cogmill.core_machine.state.embedded.server import Lease

SEED = 8
OF_EACH = 2


@pytest.mark.timeout(300)
def test_faults_at_places_that_a_calm_run_reaches_cost_time_only(
    lease: Lease, template: str
) -> None:
    report = sweep(
        lease,
        template,
        names=("calm",),
        choose=lambda every: selection(every, SEED, OF_EACH),
        traces=1,
    )
    assert report.broken == []
    assert {outcome.case.fault for outcome in report.outcomes} == set(FAULTS)
    assert len(report.outcomes) == OF_EACH * len(FAULTS)
    assert all(outcome.fired for outcome in report.outcomes)


@pytest.mark.parametrize(
    ("place", "count"),
    [("settle.committed", 4), ("storage.committed", 3), ("settle.commit", 3), ("sql.beat", 3)],
)
def test_a_reply_is_lost_only_where_one_was_on_its_way(place: str, count: int) -> None:
    assert len(faults_of(place)) == count


def test_every_statement_is_a_place() -> None:
    assert len(places_in_source()) > 80
