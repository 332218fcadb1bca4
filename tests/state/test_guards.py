"""Every guard is needed: take one out of the machine, and a check that passes with it fails.

A guard that no test misses is one that the next change removes. Each check is run on the machine as
it is, then on every mutant of it that it is meant to notice. The simulation is held to the same:
it must notice what it says it would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.harness.clock import Clock
from tests.state import guards
from tests.state.mutants import Bench, Caught, Mutant, fresh
from tests.state.simulation import EPOCH, Arena, Simulation, Violation

from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.embedded.server import Lease


@pytest.fixture(scope="module")
def bench(lease: Lease, template: str) -> Iterator[Bench]:
    with fresh(lease, template, "test_guards") as address, Database(address) as database:
        made = Bench(database, address, Clock(address, EPOCH))
        yield made
        made.close()


@pytest.fixture(scope="module")
def arena(lease: Lease, template: str) -> Iterator[Arena]:
    with fresh(lease, template, "test_notices") as address:
        made = Arena(address)
        yield made
        made.close()


@dataclass(frozen=True)
class Proof:
    check: Callable[[Bench], None]
    mutants: dict[str, Mutant]


_PROBE = {"current_stage": ("AS has_open", "AND stage.status = 'planning' AS has_open")}
_FENCE = ("AND attempt = %(attempt)s AND worker = %(incarnation)s AND status = 'running'", "")
_ATTEMPT = ("AND attempt = %(attempt)s", "")
_INCARNATION = ("AND worker = %(incarnation)s", "")
_NO_LOCK = (
    "SELECT pg_advisory_xact_lock(hashtextextended('cogmill.job:' || %(job_id)s, 0))",
    "SELECT 1",
)
_LIVE_JOB = ("AND status IN ('accepted', 'running')", "")
_LOOKS_LIVE = ("SELECT *", "SELECT *, 'running' AS status")
_SUSPECTED = ("AND suspected_at <= cogmill.now() - make_interval(secs => beat_seconds)", "")

PROOFS = {
    proof.check.__name__: proof
    for proof in (
        Proof(
            guards.an_attempt_of_the_past_settles_nothing,
            {
                "the attempt in the fence": Mutant("zombie", {"fence_task": _ATTEMPT}),
                "the step from one attempt to the next": Mutant(
                    "zombie", {"claim_task": ("attempt = task.attempt + 1", "attempt = 1")}
                ),
            },
        ),
        Proof(
            guards.a_fork_settles_nothing,
            {"the incarnation in the fence": Mutant("fork", {"fence_task": _INCARNATION})},
        ),
        Proof(
            guards.a_cancelled_attempt_settles_nothing,
            {
                "both that say who holds it": Mutant(
                    "cancelled", {"fence_task": (f"{_INCARNATION[0]} AND status = 'running'", "")}
                )
            },
        ),
        Proof(
            guards.two_claims_at_once_never_get_one_task,
            {
                "the lock of the claimed task": Mutant(
                    "claimed twice", {"claim_task": ("FOR UPDATE OF task SKIP LOCKED", "")}
                )
            },
        ),
        Proof(
            guards.an_advance_waits_for_the_open_task,
            {"the probe of the stage": Mutant("I4", _PROBE)},
        ),
        Proof(
            guards.every_success_is_counted_down,
            {
                "the count-down": Mutant(
                    "I4: the count", {"count_down": ("remaining - 1", "remaining")}
                )
            },
        ),
        Proof(
            guards.two_advances_at_once_close_a_stage_once,
            {"the lock of the job": Mutant("closed twice", {"lock_job": _NO_LOCK})},
        ),
        Proof(
            guards.a_dead_worker_claims_nothing,
            {
                "the look at the worker's row": Mutant(
                    "claimed", {"claim_task": ("AND status = 'live'", "")}
                )
            },
        ),
        Proof(
            guards.a_worker_that_dies_while_it_claims_keeps_nothing,
            {"the lock of the worker's row": Mutant("holds", {"claim_task": ("FOR SHARE", "")})},
        ),
        Proof(
            guards.a_suspect_gets_one_more_beat,
            {"the second look": Mutant("first look", {"declare_dead": _SUSPECTED})},
        ),
        Proof(
            guards.a_suspicion_from_before_a_restart_proves_nothing,
            {
                "the postmaster of the second look": Mutant(
                    "old suspicion",
                    {
                        "declare_dead": (
                            "AND suspected_postmaster = pg_postmaster_start_time()",
                            "",
                        )
                    },
                )
            },
        ),
        Proof(
            guards.a_beat_takes_the_suspicion_back,
            {
                "the beat against a suspicion": Mutant(
                    "in spite",
                    {
                        "beat": (
                            "suspected_at = NULL, suspected_postmaster = NULL",
                            "suspected_at = suspected_at",
                        )
                    },
                )
            },
        ),
        Proof(
            guards.what_is_too_large_for_now_is_passed_over_and_then_waited_for,
            {
                "the admission": Mutant(
                    "more memory", {"claim_task": ("AND chosen.memory <= %(free)s", "")}
                ),
                "passing over": Mutant(
                    "waits behind", {"claim_task": ("(task.memory <= %(free)s", "(true")}
                ),
                "holding the line": Mutant(
                    "starves",
                    {
                        "claim_task": (
                            "OR task.due_at < cogmill.now() - make_interval(secs => %(patience)s)",
                            "",
                        )
                    },
                ),
            },
        ),
        Proof(
            guards.what_no_budget_of_a_worker_holds_is_left_to_others,
            {
                "the budget": Mutant(
                    "for ever", {"claim_task": ("AND task.memory <= me.memory", "")}
                )
            },
        ),
        Proof(
            guards.what_has_ended_stays_when_it_is_dismissed_meanwhile,
            {
                "the lock of the job": Mutant("told", {"lock_job": _NO_LOCK}),
                "that lock, and the condition on the job": Mutant(
                    "I2", {"lock_job": _NO_LOCK, "end_job": _LIVE_JOB}
                ),
                "the look in advance": Mutant("told", {"get_job": _LOOKS_LIVE}),
                "that look, and the condition on the job": Mutant(
                    "I2", {"get_job": _LOOKS_LIVE, "end_job": _LIVE_JOB}
                ),
            },
        ),
        Proof(
            guards.a_dismissal_leaves_what_succeeded,
            {
                "the condition on the tasks": Mutant(
                    "lacks its result", {"cancel_tasks": ("AND status IN ('ready', 'running')", "")}
                )
            },
        ),
        Proof(
            guards.a_dismissal_takes_what_a_plan_is_just_inserting,
            {"the second cancel": Mutant("I5", only_once="cancel_tasks")},
        ),
        Proof(
            guards.two_jobs_never_own_one_destination,
            {"the owner of a destination": Mutant("I7", index="job_owner")},
        ),
        Proof(
            guards.whoever_dies_after_a_transition_has_left_its_wake_up,
            {"the outbox": Mutant("nobody", never="bump_wakeup")},
        ),
        Proof(
            guards.a_clean_up_waits_for_a_writer_that_is_listed,
            {
                "the look for writers": Mutant(
                    "still lists",
                    {"claim_cleanup": ("WHERE writer.status = 'live'", "WHERE false")},
                )
            },
        ),
        Proof(
            guards.a_clean_up_waits_for_a_writer_that_no_beat_has_told_of,
            {
                "the look for a beat since the end": Mutant(
                    "beside", {"claim_cleanup": ("writer.beat_at < job.finished_at", "false")}
                )
            },
        ),
        Proof(
            guards.a_clean_up_of_the_past_settles_nothing,
            {"the fence of clean-up": Mutant("zombie", {"settle_cleanup": _ATTEMPT})},
        ),
    )
}


@pytest.mark.parametrize("name", PROOFS)
def test_a_check_passes_and_fails_without_its_guard(name: str, bench: Bench) -> None:
    proof = PROOFS[name]
    bench.empty()
    proof.check(bench)
    for mutant in proof.mutants.values():
        bench.empty()
        with mutant.in_place(bench.look), pytest.raises(Caught, match=mutant.caught):
            proof.check(bench)


# What the simulation notices of itself, by the invariant that it names.
NOTICED = {
    "the fence": Mutant("I3|cannot be recorded", {"fence_task": _FENCE}),
    "the probe of the stage": Mutant("I4", _PROBE),
    "the count-down": Mutant("I4", {"count_down": ("remaining - 1", "remaining")}),
    "the cancelling of tasks": Mutant("I5", never="cancel_tasks"),
    "the debt of clean-up": Mutant("I6|nobody is to clean up", never="owe_cleanup"),
    "the owner of a destination": Mutant("I7", index="job_owner"),
    "the rescue": Mutant(
        "I10",
        {"rescue_tasks": ("WHERE worker = %(incarnation)s AND status", "WHERE false AND status")},
    ),
}


@pytest.mark.parametrize("name", NOTICED)
def test_the_simulation_notices_a_missing_guard(name: str, arena: Arena) -> None:
    mutant = NOTICED[name]
    with mutant.in_place(arena.reads), pytest.raises(Violation, match=mutant.caught):
        for seed in range(10):
            Simulation(arena, seed, bound_seconds=60).run(300)
