"""A dismissed job: nothing of it is claimed, runs or lies about a moment later."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from tests.harness.figure import Figure
from tests.harness.fleet import FAST, Fleet
from tests.harness.processes import children_of, living, until

from cogmill.core_machine.contracts import JobStatus
from cogmill.core_machine.state.tasks import Attempt

#: For the kernel to bury what was killed in time, on cores that others use too.
BURIAL_SECONDS = 0.5


class Claimer(threading.Thread):
    """Claims what it can until some time after the dismissal."""

    def __init__(self, fleet: Fleet, incarnation: uuid.UUID, dismissed: threading.Event) -> None:
        super().__init__(daemon=True)
        self._fleet, self._incarnation, self._dismissed = fleet, incarnation, dismissed
        self.before = 0
        self.after: list[Attempt] = []
        self.tries_after = 0

    def run(self) -> None:
        while self.tries_after < 50:
            late = self._dismissed.is_set()
            attempt = self._fleet.claim(self._incarnation)
            self.tries_after += late
            if attempt is not None and late:
                self.after.append(attempt)
            self.before += attempt is not None


@pytest.mark.timeout(300)
def test_a_dismissed_job_with_hundreds_of_running_tasks_is_gone_within_a_beat_and_the_grace(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    processes, slots, rows = (2, 10, 180) if full else (1, 4, 16)
    fleet.pace = FAST
    workers = fleet.started([fleet.launch(slots=slots) for _ in range(processes)])
    job = fleet.submit(count=processes * slots + rows + 2000)
    until(lambda: fleet.holding() == processes * slots, "all children are busy", seconds=90)
    children = [child for worker in workers for child in children_of(worker.pid)]
    claimer = fleet.join(suspect_seconds=3600)
    held = [fleet.claim(claimer) for _ in range(rows)]
    running = fleet.number("SELECT count(*) FROM task WHERE status = 'running'")
    assert running == processes * slots + rows
    assert len(list(fleet.out().iterdir())) == len(children)

    dismissed = threading.Event()
    greedy = [Claimer(fleet, claimer, dismissed) for _ in range(2)]
    for thread in greedy:
        thread.start()
    until(lambda: all(thread.before for thread in greedy), "claims are made all the time")
    assert fleet.state.jobs.dismiss(job.id) is JobStatus.DISMISSED
    begun = time.monotonic()
    dismissed.set()
    until(lambda: not living(children), "the children are gone")
    seconds = time.monotonic() - begun
    for thread in greedy:
        thread.join()
    late = sum(len(thread.after) for thread in greedy)
    tried = sum(thread.tries_after for thread in greedy)
    assert fleet.rows("SELECT DISTINCT status FROM task WHERE kind = 'work'") == [("cancelled",)]

    # This test's worker hears of all that it holds, and nothing is cleaned before it let go.
    owed = "SELECT count(*) FROM cleanup WHERE done_at IS NULL"
    assert fleet.beat(claimer, [each for each in held if each]) == ["cancelled"] * rows
    assert fleet.number(owed) == 1
    assert fleet.beat(claimer) == []
    until(lambda: fleet.number(owed) == 0, "the clean-up is done")
    left = [path.name for path in fleet.out().iterdir()]
    limit = fleet.pace.beat + fleet.pace.grace
    figure.measured(
        f"{running} running tasks: {late} of {tried} later tries claimed, {len(children)} children "
        f"gone after {seconds:.2f} s, {len(left)} files left",
        f"0 claims, {limit:g} s, 0 files",
    )
    assert (late, left) == (0, [])
    assert seconds <= limit + BURIAL_SECONDS
    until(lambda: not _busy(fleet), "every slot is free again")
    assert fleet.workers() == ["live"] * (processes + 1)


def _busy(fleet: Fleet) -> int:
    return fleet.number("SELECT sum(jsonb_array_length(progress)) FROM worker")
