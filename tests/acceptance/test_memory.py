"""``--memory`` is for parent and children together, and a plan knows what a task will need."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.acceptance import killing
from tests.acceptance.conftest import Figure
from tests.acceptance.killing import Command, Home

MIB = 1 << 20
#: Below this a prediction is mostly the process itself.
JUDGED_FROM = 300 * MIB
SECONDS = 540
UNDER, OVER = 1.0, 1.4
ROWS = 8
#: About 4 degrees west of the zone's central meridian: a row crosses many rows of EPSG:3857.
TRANSFORM = (180000.0, 10.0, 5650000.0)


def float_strips(path: Path, side: int) -> Path:
    """Write four bands of float32 in strips, never holding more than one."""
    cols = np.arange(side, dtype="float32")
    random = np.random.default_rng(killing.SEED)
    noise = random.random(side, "float32")

    def strips() -> Iterator[np.ndarray[Any, Any]]:
        for top in range(0, side, ROWS):
            rows = np.arange(top, min(top + ROWS, side), dtype="float32")[:, None]
            plane = 500 + 300 * np.sin(cols / 411) * np.cos(rows / 733) + noise
            plane[(cols + rows) % 3001 < 97] = -9999
            yield np.stack([plane, plane * 2, plane / 3, plane - 7], axis=-1).astype("float32")

    west, pixel, north = TRANSFORM
    tifffile.imwrite(
        path,
        strips(),
        shape=(side, side, 4),
        dtype="float32",
        rowsperstrip=ROWS,
        photometric="minisblack",
        planarconfig="contig",
        bigtiff=True,
        metadata=None,
        extratags=[
            (33550, "d", 3, (pixel, pixel, 0.0), False),
            (33922, "d", 6, (0.0, 0.0, 0.0, west, north, 0.0), False),
            (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), False),
            (42113, "s", 6, "-9999", False),
        ],
    )
    return path


class Meter:
    """Adds up, all the time, the VmHWM of every process of a tree that lives at that time.

    A child's VmHWM is set back before every task, so what each one reached at most is kept.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._highest: dict[int, int] = {}
        self._over = threading.Event()
        self.sum = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.04):
            living = {pid: _peak(pid) for pid in self._command.tree()}
            for pid, peak in living.items():
                self._highest[pid] = max(peak, self._highest.get(pid, 0))
            self.sum = max(self.sum, sum(self._highest[pid] for pid in living))


def _peak(pid: int) -> int:
    found = killing.status(pid).get("VmHWM", "0 kB")
    return int(found.split()[0]) * 1024


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with Home.made(tmp_path_factory.mktemp("memory")) as made:
        yield made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In full 1 GB with ``--memory 1GB``; else an eighth of it, with what that needs."""
    sizes = [("1 GB", 8193, "1GB")]
    if not metafunc.config.getoption("--full"):
        sizes = [("120 MB", 2741, "1GB")]
    if "size" in metafunc.fixturenames:
        metafunc.parametrize("size", sizes, ids=[name for name, _, _ in sizes], scope="module")


@pytest.fixture(scope="module")
def source(size: tuple[str, int, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return float_strips(tmp_path_factory.mktemp("floats") / "floats.tif", size[1])


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("strategy", ["direct", "two-stage"])
def test_the_sum_of_VmHWM_of_parent_and_children_stays_inside_memory(
    home: Home,
    source: Path,
    size: tuple[str, int, str],
    strategy: str,
    tmp_path: Path,
    figure: Figure,
) -> None:
    _, _, memory = size
    options = ("--dst-crs", "EPSG:3857", "--tile-size", "2048", "--blocksize", "256")
    command = home.start(
        "run", source, f"{tmp_path}/out/", *options, "--co", "LEVEL=1", "--strategy", strategy,
        "--memory", memory, "--workers", "2", "--json", "--quiet",
    )  # fmt: skip
    meter = Meter(command)
    with meter.watching():
        ended = command.end(SECONDS)
    assert ended.code == 0, ended.stderr
    document = ended.document
    assert document["plan"]["strategy"] == strategy
    peaks = _peaks(home, document["job_id"])
    budget = int(memory.removesuffix("GB")) * 1024 * MIB
    figure.command = f"cogmill run floats.tif out/ {' '.join(options)} --memory {memory}"
    figure.measured(f"{meter.sum / MIB:.0f} MiB; {_told(peaks)}", f"{budget / MIB:.0f} MiB")
    assert meter.sum <= budget
    for stage, (predicted, measured) in peaks.items():
        if measured > JUDGED_FROM:
            assert measured * UNDER <= predicted <= measured * OVER, (stage, _told(peaks))


def _peaks(home: Home, job_id: str) -> dict[str, tuple[int, int]]:
    """Return the predicted and the highest measured peak of the tasks of every stage."""
    with home.server.lease(), home.observer() as observer:
        rows = observer.rows(
            "SELECT name, max(memory), max(peak_memory) FROM cogmill.task "
            "JOIN cogmill.stage USING (job_id, position) "
            "JOIN cogmill.task_result ON task_id = task.id "
            "WHERE job_id = %s AND kind = 'work' GROUP BY name",
            job_id,
        )
    return {name: (predicted, measured) for name, predicted, measured in rows}


def _told(peaks: dict[str, tuple[int, int]]) -> str:
    return "; ".join(
        f"{stage}: predicted {predicted / MIB:.0f}, measured {measured / MIB:.0f} MiB "
        f"({100 * predicted / measured - 100:+.0f} %)"
        for stage, (predicted, measured) in sorted(peaks.items())
    )
