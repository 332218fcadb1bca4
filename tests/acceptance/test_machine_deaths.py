"""kill -9 of workers: how soon their tasks run again, and who is not hurt by a pid or a fork."""

from __future__ import annotations

import json
import os
import signal
import statistics
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from tests.harness.figure import Figure
from tests.harness.fleet import FAST, QUICK, Fleet
from tests.harness.processes import children_of, living, until
from tests.harness.steps import claim, join, plan, submit

from cogmill.core_machine.contracts import Task
from cogmill.settings import Pace


@dataclass(frozen=True)
class Kills:
    """How many workers are killed at once and how often; `idle` others stand by from the start.

    Without others it is the workers that are started in place of the dead who take over.
    """

    pace: Pace
    batch: int
    rounds: int
    idle: int
    limit: float


FULL = {
    "fast": Kills(FAST, batch=10, rounds=10, idle=10, limit=10.0),
    "normal": Kills(Pace(), batch=20, rounds=5, idle=0, limit=Pace().lease + 5),
}
SELECTION = {"quick": Kills(QUICK, batch=3, rounds=1, idle=3, limit=QUICK.lease + 5)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kills" in metafunc.fixturenames:
        cases = FULL if metafunc.config.getoption("--full") else SELECTION
        metafunc.parametrize("kills", cases.values(), ids=cases.keys())


@pytest.mark.timeout(900)
def test_the_task_of_a_worker_that_was_killed_runs_again_within_the_lease_and_five_seconds(
    fleet: Fleet, figure: Figure, kills: Kills
) -> None:
    fleet.pace = kills.pace
    if not kills.idle:
        fleet.work(only_jobs=["none"])
    fleet.started([fleet.launch() for _ in range(kills.batch + kills.idle)])
    seconds: list[float] = []
    for number in range(kills.rounds):
        seconds += _kill(fleet, f"round{number}", kills, last=number == kills.rounds - 1)
    seconds.sort()
    median, most = statistics.median(seconds), seconds[-1]
    p99 = seconds[max(0, round(0.99 * len(seconds)) - 1)]
    figure.measured(
        f"{len(seconds)} kills: median {median:.1f} s, p99 {p99:.1f} s, max {most:.1f} s",
        f"p99 {kills.limit:g} s",
    )
    assert len(seconds) == kills.batch * kills.rounds
    assert p99 <= kills.limit
    assert fleet.events("task rescued") == len(seconds)


def _kill(fleet: Fleet, name: str, kills: Kills, *, last: bool) -> list[float]:
    """Kill a batch of workers that hold a task each; return the seconds until each runs again."""
    job = fleet.submit(name, count=kills.batch)
    until(lambda: fleet.holding(name) == kills.batch, "every task is begun", seconds=60)
    held = fleet.rows("SELECT task.id, pid FROM task JOIN worker ON worker = incarnation")
    assert len({pid for _, pid in held}) == kills.batch
    killed: dict[int, datetime] = {}
    for task, pid in held:
        killed[task] = fleet.now()
        os.kill(pid, signal.SIGKILL)
    if not last or not kills.idle:
        for _ in range(kills.batch):
            fleet.launch()

    def again() -> bool:
        return fleet.tasks(job) == [("running", 2, 1)] * kills.batch

    until(again, "every task runs again", seconds=10 * kills.limit)
    started = fleet.rows("SELECT id, started_at FROM task WHERE status = 'running'")
    fleet.go(name)
    fleet.ended(job)
    return [(at - killed[task]).total_seconds() for task, at in started]


def test_a_worker_that_has_the_pid_of_a_dead_one_is_not_taken_for_it(fleet: Fleet) -> None:
    # `join` registers every worker with one host and one pid.
    state, clock = fleet.state, fleet.stopped_clock()
    submit(state)
    first, second = join(state), join(state)
    plan(state, first, 2)
    lost, kept = claim(state, first), claim(state, second)
    for seconds in (5, 1.5):
        clock.advance(seconds)
        fleet.beat(second, [kept])
        fleet.reconciler.step()
    held = "SELECT attempt, failures, worker FROM task WHERE id = %s"
    assert fleet.rows(held, kept.task.id) == [(1, 0, second)]
    assert fleet.rows(held, lost.task.id) == [(1, 1, None)]
    found = dict(fleet.rows("SELECT incarnation, status FROM worker"))
    assert found == {first: "dead", second: "live"}


def test_a_worker_that_is_declared_dead_twice_dies_once(fleet: Fleet) -> None:
    state, clock = fleet.state, fleet.stopped_clock()
    submit(state)
    dead, heir = join(state), join(state)
    claim(state, dead)
    clock.advance(5)
    state.workers.beat(heir, [])
    fleet.reconciler.step()
    clock.advance(1.5)
    state.workers.beat(heir, [])
    assert state.workers.declare_dead(dead) == []
    again = claim(state, heir)
    assert state.workers.declare_dead(dead) is None
    assert state.workers.rescue(dead) == []
    assert fleet.rows("SELECT attempt, failures, worker FROM task") == [(2, 1, heir)]
    assert again.task.attempt == 2
    assert fleet.events("task rescued") == 1


FORKING = """
import json, os, sys, threading
from cogmill import runtime
from cogmill.core_machine.contracts import Task
from cogmill.core_machine.state.tasks import Attempt
from cogmill.settings import Settings

def refused(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "done"

with runtime.machine(Settings.load()) as machine:
    worker = machine.worker()
    worker.start()
    print("ready", flush=True)
    task = Task.model_validate_json(sys.stdin.readline())
    attempt = Attempt(task=task, incarnation=worker.incarnation)
    claiming, forked = threading.Event(), threading.Event()

    def claim():  # as a slot may be doing when the process forks: nobody ends it in the fork
        with worker.row._lock:
            claiming.set()
            forked.wait()

    threading.Thread(target=claim).start()
    claiming.wait()
    if os.fork() == 0:
        said = {
            "beat": refused(worker.heartbeat.step),
            "settle": refused(lambda: machine.state.tasks.succeed(attempt, {"by": "fork"}, None)),
            "retire": refused(lambda: machine.state.workers.retire(worker.incarnation)),
            "stop": refused(worker.stop),
        }
        print(json.dumps(said), flush=True)
        del worker
        sys.exit()  # through every `with`, `finally` and `atexit`
    forked.set()
    os.wait()
    print("the fork has ended", flush=True)
    sys.stdin.read()
    worker.stop()
"""


def test_a_fork_of_a_worker_neither_beats_nor_settles_for_it_and_its_end_stops_nothing(
    fleet: Fleet, tmp_path: Path
) -> None:
    job = fleet.submit()
    (parent,) = fleet.started([fleet.launch(code=FORKING)])
    until(lambda: fleet.holding() == 1, "the task is begun")
    (child,) = children_of(parent.pid)
    before = fleet.rows("SELECT status, attempt, worker FROM task WHERE kind = 'work'")
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(f"{_held(fleet).model_dump_json()}\n")
    parent.stdin.flush()
    said = json.loads(parent.stdout.readline())
    assert parent.stdout.readline() == "the fork has ended\n"
    assert said == {
        "beat": "CogmillError",
        "settle": "CogmillError",
        "retire": "CogmillError",
        "stop": "done",
    }
    assert fleet.rows("SELECT status, attempt, worker FROM task WHERE kind = 'work'") == before
    assert living([child]) == [child]
    beaten = fleet.now()
    until(
        lambda: fleet.number("SELECT count(*) FROM worker WHERE beat_at > %s", beaten),
        "the parent beats on",
    )
    fleet.go()
    fleet.ended(job)
    assert {result["parent"] for result in fleet.results(job)} == {parent.pid}
    assert fleet.rows("SELECT DISTINCT attempt, failures FROM task") == [(1, 0)]
    assert fleet.workers() == ["live"]


def _held(fleet: Fleet) -> Task:
    """Return the one task that is worked on, as its worker has it."""
    names = ", ".join(Task.model_fields)
    (row,) = fleet.rows(f"SELECT {names} FROM task WHERE status = 'running'")
    return Task.model_validate(dict(zip(Task.model_fields, row, strict=True)))
