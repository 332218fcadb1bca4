"""A fleet with every fault keeps the invariants and comes to rest; a seed is its whole history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from tests.state.mutants import fresh
from tests.state.simulation import Arena, Report, Simulation

from cogmill.core_machine.state.embedded.server import Lease

# What runs must have met to prove anything: else the simulation has lost its teeth.
MOST = (
    "freeze", "kill", "reply lost", "wake-up lost", "wake-up doubled", "wake-up delivered",
    "retry: done", "reconcile: silent worker", "reconcile: dead worker", "clean-up settled",
    "job successful", "job failed", "job dismissed",
)  # fmt: skip
ALL = (
    *MOST,
    "refused", "overtaken", "dismiss", "cut", "retire", "forgotten", "child killed",
    "unknown given back", "buried alive", "ordered: lost", "ordered: hung", "ordered: cancelled",
    "succeeded: lost", "released: done", "failed: stage done", "claim split", "adopted",
    "clean-up lost", "reconcile: lost tasks", "reconcile: settled, not advanced",
    "reconcile: wake-up not sent", "reconcile: forgotten task", "reconcile: lost wake-up",
)  # fmt: skip


@pytest.fixture(scope="module")
def arena(lease: Lease, template: str) -> Iterator[Arena]:
    with fresh(lease, template, "test_simulation") as address:
        made = Arena(address)
        yield made
        made.close()


def _run(arena: Arena, seeds: range, steps: int, every: int) -> list[Report]:
    return [Simulation(arena, seed, every).run(steps) for seed in seeds]


def test_the_same_seed_is_the_same_history(arena: Arena) -> None:
    first, again, other = (Simulation(arena, seed).run(60) for seed in (7, 7, 8))
    assert (first.steps, first.digest, first.met) == (again.steps, again.digest, again.met)
    assert first.digest != other.digest


@pytest.mark.timeout(1800)
def test_a_fleet_with_every_fault_keeps_the_invariants_and_comes_to_rest(
    arena: Arena, full: bool
) -> None:
    """``full`` lives through 100,000 steps, and must have met everything that can happen."""
    reports = _run(arena, range(100, 150), 2000, 5) if full else _run(arena, range(3), 400, 2)
    met = sum((report.met for report in reports), Counter[str]())
    missed = [what for what in (ALL if full else MOST) if not met[what]]
    assert not missed, f"never met, so never proved: {missed}"
