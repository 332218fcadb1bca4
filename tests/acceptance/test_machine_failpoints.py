"""Every place of the machine times every fault: the job ends, with the same bytes, done once."""

from __future__ import annotations

import pytest
from tests.faults.sweep import FAULTS, selection, sweep
from tests.harness.figure import Figure

from cogmill.core_machine.state.embedded.server import Lease

SEED = 8
#: In how many scenarios a place is struck, at most: what is lost there depends on who gets there.
SCENARIOS = 1
#: Few enough for `make test`, where most depends on it: what publishes and ends the job.
QUICK = ("binding",)
#: Migrations are one transaction of their own with its own places, `migrate.commit` and
#: `migrate.committed`; a session is configured, and a plan copied, in the middle of a statement.
NO_PLACES = {
    "sql.applied_migrations",
    "sql.begin_migration",
    "sql.configure_session",
    "sql.copy_planned",
    "sql.create_migration_table",
    "sql.create_schema",
    "sql.has_migration_table",
    "sql.has_schema",
    "sql.lock_migrations",
    "sql.record_migration",
}


@pytest.mark.timeout(3600)
def test_a_fault_at_any_place_breaks_no_invariant_and_changes_no_byte(
    lease: Lease, template: str, figure: Figure, full: bool
) -> None:
    figure.command = "python -m tests.faults.sweep"
    if full:
        report = sweep(lease, template, scenarios=SCENARIOS)
        assert set(report.unreached) == NO_PLACES
    else:
        figure.seed = SEED
        report = sweep(
            lease, template, names=QUICK, choose=lambda every: selection(every, SEED, 1), traces=1
        )
    found = report.figures
    figure.measured(
        f"{found['places']} places, {found['faults']} faults, {found['trials']} trials, "
        f"{found['breaks']} breaks",
        "0 breaks",
    )
    assert report.broken == []
    assert found["faults"] == len(FAULTS)
