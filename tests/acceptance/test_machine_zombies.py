"""Whoever was declared dead and lives on settles in vain, at any moment and with any outcome."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from tests.harness.clock import Clock
from tests.harness.figure import Figure
from tests.harness.fleet import Fleet
from tests.harness.processes import children_of, signal_all, until
from tests.harness.steps import BROKEN, claim, join, plan, planned, submit

from cogmill.core_machine.state.tasks import Attempt, Settled, Tasks

Settle = Callable[[Tasks, Attempt], Settled]
OUTCOMES: dict[str, Settle] = {
    "succeed": lambda tasks, attempt: tasks.succeed(attempt, {"by": "zombie"}, None),
    "fail": lambda tasks, attempt: tasks.fail(attempt, BROKEN),
    "retry": lambda tasks, attempt: tasks.retry(attempt, BROKEN, 0),
    "release": lambda tasks, attempt: tasks.release(attempt),
    "succeed_plan": lambda tasks, attempt: tasks.succeed_plan(attempt, None, planned(5), None),
}
MOMENTS = ("before it is claimed again", "while its successor runs", "after its successor ended")
TABLES = (
    "job", "stage", "task", "task_result", "payload", "worker", "wakeup", "cleanup", "event",
)  # fmt: skip
EVERYTHING = " UNION ALL ".join(
    f"SELECT '{table}', md5(string_agg(one::text, ';' ORDER BY one::text)) FROM {table} AS one"
    for table in TABLES
)
#: Suspected after 4 s, dead at the second look a beat later: what `join` registers.
LOOKS = (5.0, 1.5)


def test_no_settle_of_a_worker_that_was_declared_dead_is_accepted(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    cases = list(itertools.product(OUTCOMES, MOMENTS))
    trials = len(cases) * (10 if full else 1)
    clock = fleet.stopped_clock()
    found = [
        _late(fleet, clock, f"z{number}", *cases[number % len(cases)]) for number in range(trials)
    ]
    accepted = sum(settled is not Settled.LOST for settled, _ in found)
    doubled = sum(ends != 1 for _, ends in found)
    figure.measured(
        f"{trials} late settles: {accepted} accepted, {doubled} doubled", "0 accepted, 0 doubled"
    )
    assert (accepted, doubled) == (0, 0)


def _late(fleet: Fleet, clock: Clock, name: str, outcome: str, moment: str) -> tuple[Settled, int]:
    """Settle after death; return what that did, and how often the task's end is on record."""
    state = fleet.state
    job = submit(state, name)
    zombie, heir = join(state), join(state)
    if outcome != "succeed_plan":
        plan(state, heir, 1)
    old = claim(state, zombie)
    for seconds in LOOKS:
        clock.advance(seconds)
        state.workers.beat(heir, [])
        fleet.reconciler.step()
    assert fleet.rows("SELECT status FROM worker WHERE incarnation = %s", zombie) == [("dead",)]
    settled = Settled.LOST
    for at in MOMENTS:
        if at == MOMENTS[1]:
            new = claim(state, heir)
            assert (new.task.id, new.task.attempt) == (old.task.id, old.task.attempt + 1)
        if at == MOMENTS[2]:
            _end(fleet, new)
        if at == moment:
            before = fleet.rows(EVERYTHING)
            settled = OUTCOMES[outcome](state.tasks, old)
            assert fleet.rows(EVERYTHING) == before
    ends = fleet.number(
        "SELECT count(*) FROM event WHERE job_id = %s AND task = %s AND kind LIKE '%% succeeded'",
        job.id, old.task.key,
    )  # fmt: skip
    assert _results(fleet, job.id, old) == [{"tasks": 2} if _plans(old) else {"by": "heir"}]
    assert fleet.number("SELECT planned FROM stage WHERE job_id = %s AND position = 0", job.id) == (
        fleet.number("SELECT count(*) FROM task WHERE job_id = %s AND kind = 'work'", job.id)
    )
    state.jobs.dismiss(job.id)
    state.workers.retire(heir)
    return settled, ends


def _end(fleet: Fleet, new: Attempt) -> None:
    tasks = fleet.state.tasks
    if _plans(new):
        settled = tasks.succeed_plan(new, None, planned(2), None)
    else:
        settled = tasks.succeed(new, {"by": "heir"}, None)
    assert settled is not Settled.LOST


def _plans(attempt: Attempt) -> bool:
    return attempt.task.key == "plan"


def _results(fleet: Fleet, job_id: str, attempt: Attempt) -> list[Any]:
    query = "SELECT result FROM task_result JOIN task ON id = task_id WHERE job_id = %s AND id = %s"
    return [row[0] for row in fleet.rows(query, job_id, attempt.task.id)]


@pytest.mark.timeout(600)
def test_a_worker_process_that_was_frozen_past_its_lease_writes_nothing_when_it_thaws(
    fleet: Fleet, figure: Figure, full: bool
) -> None:
    count, rounds = (10, 5) if full else (1, 1)
    zombies = fleet.started([fleet.launch() for _ in range(count)])
    heir = fleet.join(suspect_seconds=3600)
    settled = [_freeze(fleet, zombies, heir, f"round{number}") for number in range(rounds)]
    # Every slot claims again, so each has settled before what it held when it was frozen.
    last = fleet.submit("last", count=count)
    until(lambda: fleet.holding("last") == count, "every slot that was frozen works again")
    changed = sum(fleet.rows(SETTLED, job) != before for job, before in settled)
    doubled = fleet.rows(
        "SELECT job_id, kind, task, stage FROM event "
        "WHERE kind IN ('work succeeded', 'stage closed') "
        "GROUP BY job_id, kind, task, stage HAVING count(*) > 1"
    )
    published = [len(list(fleet.out(f"round{n}").glob("published.*"))) for n in range(rounds)]
    fleet.go("last")
    fleet.ended(last)
    figure.measured(
        f"{count * rounds} frozen workers: {changed} of {rounds} batches with a late write, "
        f"{len(doubled)} doubled results, {published} publications",
        "0 late writes, 0 doubled, 1 publication a job",
    )
    assert (changed, doubled, published) == (0, [], [1] * rounds)
    assert fleet.workers().count("dead") == count * rounds


SETTLED = """
    SELECT task.id, task.key, status, attempt, failures, worker, finished_at, result
    FROM task LEFT JOIN task_result ON task_id = id
    WHERE job_id = %s AND position = 0 AND kind = 'work' ORDER BY id"""


def _freeze(
    fleet: Fleet, zombies: list[subprocess.Popen[str]], heir: uuid.UUID, name: str
) -> tuple[str, list[tuple[Any, ...]]]:
    """Freeze all in the middle of a task, give their tasks to an heir, and thaw them."""
    job = fleet.submit(name, count=len(zombies))
    until(lambda: fleet.holding(name) == len(zombies), "every worker holds a task")
    # The children of every other one go on, and their answers wait in the pipe for the thaw.
    frozen = [zombie.pid for zombie in zombies]
    for zombie in zombies[1::2]:
        frozen += children_of(zombie.pid)
    signal_all(frozen, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        fleet.go(name)

        def missed() -> bool:
            fleet.reconciler.step()
            past = time.monotonic() - begun > fleet.pace.lease
            return past and fleet.tasks(job) == [("ready", 1, 1)] * len(zombies)

        until(missed, "all frozen workers are declared dead", seconds=150)
        while (attempt := fleet.claim(heir)) is not None:
            fleet.state.tasks.succeed(attempt, {"by": attempt.task.label}, None)
        fleet.state.jobs.advance(job.id)
        before = fleet.rows(SETTLED, job.id)
        assert [row[2:4] for row in before] == [("succeeded", 2)] * len(zombies)
    finally:
        signal_all(frozen, signal.SIGCONT)
    # The heir leaves the rest to those who thaw.
    fleet.ended(job)
    return job.id, before
