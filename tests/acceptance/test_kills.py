"""kill -9 of a child, of the worker, of the whole tree and of the postmaster: the same bytes.

What a kill leaves behind is judged by what lives (children, server) and by what lies in the
destination, hidden names included.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness import killing
from tests.harness.command import Mill, Ran
from tests.harness.figure import Figure
from tests.harness.killing import (
    REPROJECTED,
    TWO_CHILDREN,
    Command,
    Ended,
    Home,
    Moment,
    between,
    contents,
    in_stage,
    publishing,
    undisturbed,
)
from tests.harness.matrix import pairwise
from tests.harness.nursery import Nursery
from tests.harness.places import PACKAGES
from tests.harness.processes import all_gone, gone, until

ORPHAN_SECONDS = 1.0
SERVER_SECONDS = 10.0
KINDS = ("mosaic", "one COG")
STRATEGIES = ("direct", "two-stage")
VICTIMS: dict[str, Callable[[Command], object]] = {
    "child": Command.kill_child,
    "worker": Command.kill,
}
STAGES = ("pieces", "tiles", "overviews", "publish")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    axes = (KINDS, STRATEGIES, tuple(VICTIMS))
    cases = {
        "kind_strategy_victim": list(itertools.product(*axes)),
        "kind_strategy_stage": [
            case
            for case in itertools.product(KINDS, STRATEGIES, STAGES)
            if not (case[1] == "direct" and case[2] == "pieces")
            and not (case[0] == "mosaic" and case[2] == "overviews")
        ],
    }
    if not metafunc.config.getoption("--full"):
        cases["kind_strategy_victim"] = pairwise(*axes)
        cases["kind_strategy_stage"] = [("mosaic", "direct", "publish")]
    for name, found in cases.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, found, ids=", ".join)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made() as made:
        yield made


class Jobs:
    """The job of these tests, in destinations of the same name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def new(self, kind: str) -> str:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return f"{folder}/out/" if kind == "mosaic" else f"{folder}/out.tif"

    def command(self, destination: str, strategy: str) -> tuple[object, ...]:
        return killing.source(), destination, *REPROJECTED, *TWO_CHILDREN, "--strategy", strategy


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


@pytest.fixture
def mill(home: Home, nursery: Nursery) -> Mill:
    return home.mill(nursery)


def demand(ended: Ended) -> dict[str, Any]:
    """Demand success; return what was printed."""
    assert ended.code == 0, ended.stderr
    assert ended.document["status"] == "successful"
    return ended.document


def test_sha256_is_the_same_after_a_kill_of_a_child_and_of_the_worker(
    home: Home, mill: Mill, jobs: Jobs, figure: Figure, kind_strategy_victim: tuple[str, str, str]
) -> None:
    kind, strategy, victim = kind_strategy_victim
    expected = undisturbed(kind)
    destination = jobs.new(kind)
    command = home.start("run", *jobs.command(destination, strategy), "--json")
    below = command.strike(home, between(), VICTIMS[victim])
    if victim == "worker":
        assert all_gone(below, ORPHAN_SECONDS) <= ORPHAN_SECONDS
        assert command.end().code == -signal.SIGKILL
        document = mill.run(*jobs.command(destination, strategy)).document
    else:
        document = demand(command.end())
    with home.observer() as observer, home.server.lease():
        tasks = observer.tasks(document["job_id"])
    assert sum(kind == "work" for _, kind, _ in tasks) >= 6
    assert contents(destination) == expected
    repeated = sum(attempt - 1 for _, attempt in tasks.values())
    assert repeated >= 1 or victim == "child"
    figure.measured(f"{repeated} of {len(tasks)} tasks were done again, 0 files differ", "0 differ")


def _kill_and_resume(
    home: Home, mill: Mill, command: tuple[object, ...], moments: list[Moment]
) -> Ran:
    """Kill the whole tree in one moment after the other, then let the same command end."""
    for moment in moments:
        running = home.start("run", *command, "--json")
        tree = [running.pid, *running.strike(home, moment, Command.kill_tree)]
        assert all_gone(tree, ORPHAN_SECONDS) <= ORPHAN_SECONDS
        running.end()
    return mill.run(*command)


def _leaves_no_server(home: Home) -> float:
    seconds = gone(home.servers, SERVER_SECONDS)
    assert seconds <= SERVER_SECONDS, home.servers()
    return seconds


def _moment(stage: str, kind: str, destination: str) -> Moment:
    """The middle of a stage; for a mosaic's publish: tiles are visible, and nothing names them."""
    if stage == "publish" and kind == "mosaic":
        place = Path(destination)
        return publishing(lambda: any(place.glob("*.tif")) and not any(place.glob("*.json")))
    return in_stage(stage, done=2 if stage == "tiles" else 0)


def test_kill_9_of_the_whole_run_tree_in_each_stage(
    home: Home, mill: Mill, jobs: Jobs, figure: Figure, kind_strategy_stage: tuple[str, str, str]
) -> None:
    kind, strategy, stage = kind_strategy_stage
    expected = undisturbed(kind)
    destination = jobs.new(kind)
    moments = [_moment(stage, kind, destination)]
    _kill_and_resume(home, mill, jobs.command(destination, strategy), moments)
    assert contents(destination) == expected
    figure.measured(f"{_leaves_no_server(home):.1f} s until no server", SERVER_SECONDS)


def test_kill_9_of_the_whole_run_tree_in_one_stage_after_the_other(
    home: Home, mill: Mill, jobs: Jobs, figure: Figure
) -> None:
    expected = undisturbed("one COG")
    destination = jobs.new("one COG")
    command = jobs.command(destination, "two-stage")
    made = Path(destination).exists
    moments = [in_stage("pieces"), in_stage("tiles", done=2), in_stage("overviews")]
    ended = _kill_and_resume(home, mill, command, [*moments, in_stage("publish"), publishing(made)])
    assert contents(destination) == expected
    assert len(ended.document["outputs"]["files"]) == 1
    figure.measured(f"{len(moments) + 2} kills, 0 files differ", "0 differ")


def test_kill_9_of_the_postmaster(home: Home, mill: Mill, jobs: Jobs, figure: Figure) -> None:
    expected = undisturbed("mosaic")
    destination = jobs.new("mosaic")
    command = jobs.command(destination, "two-stage")
    running = home.start("run", *command, "--json")
    running.strike(home, between(), lambda _: os.kill(home.postmaster(), signal.SIGKILL))
    first = running.end()
    ended = mill.run(*command)
    if first.code == 0:
        assert first.document["job_id"] == ended.document["job_id"]
    assert contents(destination) == expected
    seconds = _leaves_no_server(home)
    figure.measured(f"the run ended with {first.code}; no server after {seconds:.1f} s")


def test_kill_9_of_the_postmaster_and_of_the_whole_run_tree_at_once(
    home: Home, mill: Mill, jobs: Jobs
) -> None:
    expected = undisturbed("one COG")
    destination = jobs.new("one COG")
    command = jobs.command(destination, "direct")
    running = home.start("run", *command, "--json")

    def strike(struck: Command) -> None:
        os.kill(home.postmaster(), signal.SIGKILL)
        struck.kill_tree()

    tree = [running.pid, *running.strike(home, between(), strike)]
    assert all_gone(tree, ORPHAN_SECONDS) <= ORPHAN_SECONDS
    running.end()
    # Nobody starts it again, and nothing of it lives on.
    _leaves_no_server(home)
    mill.run(*command)
    assert contents(destination) == expected


SUBMIT_WHAT_HOLDS = """
import sys
from cogmill import runtime
from cogmill.settings import Settings
with runtime.machine(Settings.load()) as machine:
    toy = machine.types.get("toy")
    inputs = toy.inputs(name="held", folder=sys.argv[1], hold=True)
    machine.job_processor().submit("toy", inputs)
"""


def test_no_child_outlives_its_worker_by_a_second_however_busy_it_is(
    home: Home, tmp_path: Path, figure: Figure
) -> None:
    # Tasks that never end, and never look whether anybody still listens.
    there = Home(home.path, python_path=(Path(PACKAGES),))
    submitted = there.python(SUBMIT_WHAT_HOLDS, tmp_path)
    assert submitted.code == 0, submitted.stderr
    worker = there.start("worker", "--workers", "2")
    until(lambda: len(list(tmp_path.iterdir())) == 2, "both children have begun")
    children = worker.children()
    worker.kill()
    seconds = all_gone(children, ORPHAN_SECONDS)
    worker.end()
    figure.measured(f"{seconds:.2f} s for {len(children)} children", ORPHAN_SECONDS)
    assert len(children) == 2
    assert seconds <= ORPHAN_SECONDS
