"""Nobody is declared dead who is only busy, or who froze together with everything else."""

from __future__ import annotations

import signal
import time

import pytest
from tests.harness.figure import Figure
from tests.harness.fleet import FAST, QUICK, Fleet
from tests.harness.processes import children_of, signal_all, until

from cogmill.core_machine.contracts import Job

SLOTS = 2


def _false_rescues(fleet: Fleet, job: Job) -> dict[str, int]:
    """Count what must not happen while everybody lives."""
    return {
        "rescued": fleet.events("task rescued"),
        "repeated": sum(attempt > 1 for _, attempt, _ in fleet.tasks(job)),
        "charged": sum(failures for _, _, failures in fleet.tasks(job)),
        "dead": fleet.workers().count("dead"),
    }


NONE = {"rescued": 0, "repeated": 0, "charged": 0, "dead": 0}


@pytest.mark.timeout(900)
def test_no_task_is_rescued_from_four_busy_children_on_two_cores_that_hold_the_gil(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    seconds, hold = (600.0, 60.0) if full else (8.0, 5.0)
    fleet.pace = FAST if full else QUICK
    fleet.started([fleet.launch(slots=SLOTS) for _ in range(2)])
    job = fleet.submit(do="burn", count=1000, seconds=hold)
    until(lambda: fleet.holding() == 2 * SLOTS, "four children are busy")
    end = time.monotonic() + seconds
    silence = 0.0

    def looked() -> bool:
        nonlocal silence
        beaten = "SELECT max(extract(epoch FROM cogmill.now() - beat_at)) FROM worker"
        silence = max(silence, float(fleet.rows(beaten)[0][0]))
        return time.monotonic() > end

    until(looked, "the time is over", seconds=2 * seconds)
    suspected = fleet.number(
        "SELECT count(*) FROM reconciliation_action WHERE finder = 'silent worker'"
    )
    found = _false_rescues(fleet, job)
    held = [result["seconds"] for result in fleet.results(job)]
    fleet.state.jobs.dismiss(job.id)
    figure.measured(
        f"{found} in {seconds:g} s, {suspected} suspicions; the longest silence was "
        f"{silence:.1f} s of {fleet.pace.suspect:g} s; {len(held)} tasks ended, one call of C held "
        f"the GIL for up to {max(held):.0f} s",
        "0 rescued, 0 repeated, 0 dead",
    )
    assert found == NONE
    assert max(held) > fleet.pace.suspect
    assert len(held) >= 2 * SLOTS


@pytest.mark.timeout(400)
def test_no_task_is_rescued_after_everything_was_frozen_together(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    seconds = 90.0 if full else 6.0
    fleet.pace = FAST if full else QUICK
    slots = 2 if full else 1
    workers = fleet.started([fleet.launch(slots=slots) for _ in range(2)])
    job = fleet.submit(count=2 * slots)
    until(lambda: fleet.holding() == 2 * slots, "every child holds a task")
    everything = [worker.pid for worker in workers]
    everything += [child for worker in workers for child in children_of(worker.pid)]
    server = fleet.server.processes()
    everything += server
    signal_all(everything, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun >= seconds, "the freeze is over", seconds * 2)
    finally:
        signal_all(everything, signal.SIGCONT)
    thawed = fleet.now()
    # Each has beaten and looked for the dead until the last suspicion must have come to its end.
    looked = fleet.pace.suspect + 3 * fleet.pace.beat
    until(
        lambda: fleet.number(
            "SELECT count(*) FROM worker WHERE status = 'live' "
            "AND beat_at > %s + make_interval(secs => %s)", thawed, looked,
        ) >= len(workers),
        "all beat as they did",
    )  # fmt: skip
    fleet.go()
    fleet.ended(job)
    found = _false_rescues(fleet, job)
    figure.measured(
        f"{found} after {seconds:g} s, {len(everything)} processes frozen, "
        f"{len(server)} of them the server's",
        "0 rescued, 0 repeated, 0 charged, 0 dead",
    )
    assert len(server) > len(workers) + 2
    assert found == NONE
