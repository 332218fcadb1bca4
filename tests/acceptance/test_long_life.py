"""A child works through many tasks: what fails in it leaves nothing behind either."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.harness import killing
from tests.harness.child_job import ChildJob
from tests.harness.figure import Figure
from tests.harness.measuring import MIB
from tests.harness.processes import status
from tests.harness.whole_job import JOB_TYPE, tools, write_raster

from cogmill import runtime
from cogmill.core_machine.child import frames
from cogmill.core_machine.child.process import Answer, ChildProcess
from cogmill.core_machine.contracts import PlannedTask, Requirements
from cogmill.settings import Settings

PACKAGES = Path(__file__).parent / "packages"
TASKS = 200
#: When a child has met every kind of task, and its allocator has found its size.
SETTLED = 50
#: What the process may be larger by after 150 more tasks.
GROWTH = 8 * MIB
OPTIONS = {"dst_crs": "EPSG:3857", "tile_size": 1024, "blocksize": 64}
SIDE = 601
LOOK = PlannedTask(key="look", params={}, requires=Requirements(memory=MIB))
OVERREACH = PlannedTask(key="x", params={"overreach": True}, requires=Requirements(memory=MIB))


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcess]:
    monkeypatch.syspath_prepend(str(PACKAGES))
    made = runtime.spawn(Settings.load(memory=1024 * MIB, workers=1))
    yield made
    made.close()


def noise(path: Path) -> Path:
    random = np.random.default_rng(killing.SEED)
    pixels = random.integers(0, 4000, (3, SIDE, SIDE), np.uint16)
    return write_raster(path, pixels, compress="deflate", zlevel=1, blockysize=16)


def damaged(path: Path) -> Path:
    """Write the same with a strip in its middle that is no deflate."""
    with tifffile.TiffFile(noise(path)) as tiff:
        place = tiff.pages.first.dataoffsets[30]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 64)
    return path


def first(job: ChildJob, stage: str) -> Callable[..., Answer]:
    """Plan a job, and return what has the child do the first task of one of its stages."""
    job.preflight()
    (found,) = (each for each in JOB_TYPE.stages if each.name == stage)
    job.results = {each.name: [] for each in JOB_TYPE.stages}
    plan = found.plan(job.job, job, tools(job.memory))
    task = next(iter(plan.tasks))
    return lambda attempt: job.ask(stage, task, plan.shared, attempt=attempt)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_after_200_tasks_and_their_failures_vsimem_is_empty_and_the_process_no_larger(
    child: ChildProcess, tmp_path: Path, figure: Figure
) -> None:
    sound, broken = noise(tmp_path / "sound.tif"), damaged(tmp_path / "broken.tif")

    def job(source: Path, name: str, strategy: str = "direct") -> ChildJob:
        options: dict[str, Any] = {**OPTIONS, "strategy": strategy}
        return ChildJob(source, f"{tmp_path}/{name}/out/", options=options, child=child)

    tiles, blocked = job(sound, "tiles"), job(sound, "blocked")
    kinds: dict[str, Callable[..., Answer]] = {
        "": first(tiles, "tiles"),
        "piece": first(job(sound, "pieces", "two-stage"), "pieces"),
        "block-undecodable": first(job(broken, "broken"), "tiles"),
        "source-window-too-small": lambda attempt: tiles.ask(
            "looking", OVERREACH, None, type="mirror", inputs={"number": 1}, attempt=attempt
        ),
        "refused": first(blocked, "tiles"),
    }
    # Where a folder is to be made lies a file.
    (tmp_path / "blocked").write_bytes(b"")
    sizes = []
    for number, (kind, run) in zip(range(TASKS), itertools.cycle(kinds.items())):
        answer = run(f"t{number}-a1")
        if isinstance(answer, frames.Raised):
            assert answer.failure.code == kind, answer
        else:
            assert kind in ("", "piece")
        if number + 1 in (SETTLED, TASKS):
            seen = tiles.ask("looking", LOOK, None, type="mirror", inputs={"number": 1})
            assert isinstance(seen, frames.Returned), seen
            assert isinstance(seen.value, dict)
            assert seen.value["virtual_files"] == []
            sizes.append(resident(child))
    early, late = sizes
    figure.command, figure.seed = f"{TASKS} tasks in one child, of {len(kinds)} kinds", killing.SEED
    figure.measured(
        f"RSS {early / MIB:.1f} MiB after {SETTLED}, {late / MIB:.1f} after {TASKS}; "
        "0 files in /vsimem",
        f"{GROWTH / MIB:.0f} MiB more",
    )
    assert late - early <= GROWTH


def resident(child: ChildProcess) -> int:
    return int(status(child.pid)["VmRSS"].split()[0]) * 1024
