"""A setting has one home, and reaches parent, child and GDAL from there.

That nothing else reads the environment or makes a live part is proved, with examples that fail, in
``tests/test_architecture.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness import killing
from tests.harness.figure import Figure
from tests.harness.house import Module, constructions, environment_reads, modules
from tests.harness.killing import QUICK_PACE, Home
from tests.harness.measuring import MIB

from cogmill.settings import PARENT_MEMORY, child_budget, idle_reserve

PACKAGES = Path(__file__).parent / "packages"
WORKERS = 2
#: What is told, and the bytes that it is.
MEMORIES = {"660MB": 660 * MIB, "1.5GB": 1536 * MIB}
TILES = ("--tile-size", "2048", "--blocksize", "256")
OPTIONS = ("--dst-crs", "EPSG:3857", "--strategy", "direct", *TILES)
CACHES = {"24MB": 24 * MIB, "48MB": 48 * MIB}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reach")


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made() as made:
        yield made


def told(home: Home, **variables: str) -> Home:
    """Return the same home with variables of the environment set."""
    named = {f"COGMILL_{name.upper()}": value for name, value in variables.items()}
    workers = {"COGMILL_WORKERS": str(WORKERS)}
    return Home(home.path, {**QUICK_PACE, **workers, **named}, (PACKAGES,))


def reflected(home: Home, number: int) -> tuple[dict[str, Any], int]:
    """Run a job that tells what its child was given; also what its worker offered."""
    code = (
        "import sys; from cogmill import runtime; from cogmill.settings import Settings\n"
        "with runtime.machine(Settings.load()) as machine:\n"
        "    inputs = machine.types.get('mirror').inputs(number=int(sys.argv[1]))\n"
        "    print(machine.job_processor().submit('mirror', inputs).job.id)\n"
    )
    job = home.python(code, number).stdout.strip()
    with home.server.lease(), home.observer() as observer:
        worked = home.call("worker", "--until-idle", "--json")
        assert worked.code == 0, worked.stderr
        offered = observer.number(
            "SELECT memory FROM cogmill.worker ORDER BY started_at DESC LIMIT 1"
        )
        ((outputs,),) = observer.rows("SELECT outputs FROM cogmill.job WHERE id = %s", job)
    return outputs, offered


def test_changing_COGMILL_MEMORY_reaches_parent_child_and_GDAL(home: Home, figure: Figure) -> None:
    for number, (memory, cache) in enumerate(zip(MEMORIES, CACHES, strict=True)):
        size = MEMORIES[memory]
        there = told(home, memory=memory, gdal_cache=cache)
        in_force = there.call("doctor", "--json").document["settings"]
        outputs, offered = reflected(there, number)
        assert in_force["memory"] == size
        waiting = (WORKERS - 1) * idle_reserve(size, WORKERS)
        assert offered == size - PARENT_MEMORY - waiting
        assert outputs["child_memory"] == child_budget(size, WORKERS)
        assert outputs["workers"] == WORKERS
        # GDAL's own cache has a setting of its own, since GDAL never decodes a source.
        assert outputs["gdal_cache"] == outputs["gdal_cache_in_force"] == CACHES[cache]
        # It came on the pipe: a child has no environment to read.
        assert outputs["variables"] == []
    figure.measured(f"{len(MEMORIES)} budgets in parent, offer and child; caches in GDAL itself")


def test_changing_COGMILL_MEMORY_reaches_the_plan_and_with_it_what_GDAL_warps(
    home: Home, folder: Path, figure: Figure
) -> None:
    source = killing.empty_raster(folder / "large.tif")
    plans = {}
    for memory, size in MEMORIES.items():
        ended = told(home, memory=memory).call("inspect", source, *OPTIONS, "--json")
        assert ended.code == 0, ended.stderr
        plan = plans[memory] = ended.document["plan"]
        assert plan["memory"]["total"] <= child_budget(size, WORKERS)
    small, large = plans.values()
    figure.measured(f"work tiles {small['tiles']['work']} and {large['tiles']['work']}")
    assert small["tiles"]["work"] < large["tiles"]["work"]
    assert small["memory"]["total"] < large["memory"]["total"]
    # What the command line says goes over what the environment says.
    told_twice = told(home, memory="1.5GB").call(
        "inspect", source, *OPTIONS, "--memory", "660MB", "--workers", WORKERS, "--json"
    )
    assert told_twice.document["plan"] == small


def test_a_wrong_value_is_refused_with_the_name_of_its_variable(home: Home) -> None:
    ended = told(home, memory="lots").call("jobs")
    assert ended.code == 2
    assert "COGMILL_MEMORY" in ended.stderr


def test_environment_reads_outside_their_home_fail_the_check() -> None:
    bad = Module("raster/warp.py", "import os\nlimit = os.environ['COGMILL_MEMORY']")
    assert environment_reads(bad)
    assert not [found for module in modules() for found in environment_reads(module)]


def test_component_construction_outside_its_home_fails_the_check() -> None:
    bad = Module("cli/run.py", "storage = Storage({'file': LocalStore()})")
    assert constructions(bad)
    assert not [found for module in modules() for found in constructions(module)]
