"""``--memory`` is for parent and children together, and a plan knows what a task will need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.harness import killing
from tests.harness.figure import Figure
from tests.harness.killing import Home
from tests.harness.measuring import MIB, Meter, stage_peaks, told

#: Below this a prediction is mostly the process itself.
JUDGED_FROM = 300 * MIB
SECONDS = 540
UNDER, OVER = 1.0, 1.4
#: About 4 degrees west of the zone's central meridian: a row crosses many rows of EPSG:3857.
TRANSFORM = (180000.0, 10.0, 5650000.0)


def float_strips(path: Path, side: int, strip_rows: int = 8) -> Path:
    """Write four bands of float32 in strips, never holding more than one."""
    cols = np.arange(side, dtype="float32")
    random = np.random.default_rng(killing.SEED)
    noise = random.random(side, "float32")

    def strips() -> Iterator[np.ndarray[Any, Any]]:
        for top in range(0, side, strip_rows):
            rows = np.arange(top, min(top + strip_rows, side), dtype="float32")[:, None]
            plane = 500 + 300 * np.sin(cols / 411) * np.cos(rows / 733) + noise
            plane[(cols + rows) % 3001 < 97] = -9999
            yield np.stack([plane, plane * 2, plane / 3, plane - 7], axis=-1).astype("float32")

    west, pixel, north = TRANSFORM
    tifffile.imwrite(
        path,
        strips(),
        shape=(side, side, 4),
        dtype="float32",
        rowsperstrip=strip_rows,
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


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made() as made:
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
    peaks = stage_peaks(home, document["job_id"])
    budget = int(memory.removesuffix("GB")) * 1024 * MIB
    figure.command = f"cogmill run floats.tif out/ {' '.join(options)} --memory {memory}"
    figure.measured(f"{meter.sum / MIB:.0f} MiB; {told(peaks)}", f"{budget / MIB:.0f} MiB")
    assert meter.sum <= budget
    for stage, (predicted, measured) in peaks.items():
        if measured > JUDGED_FROM:
            assert measured * UNDER <= predicted <= measured * OVER, (stage, told(peaks))


@pytest.mark.slow
@pytest.mark.timeout(1860)
def test_two_gigabytes_in_one_row_strips_complete_inside_512_MB(
    home: Home, full: bool, tmp_path: Path, figure: Figure
) -> None:
    # In strips of one row, as GDAL cuts a raster of this width when nobody says otherwise.
    source = float_strips(tmp_path / "floats.tif", 11600 if full else 2741, strip_rows=1)
    options = ("--dst-crs", "EPSG:3857", "--memory", "512MB", "--workers", "2", "--json", "--quiet")
    command = home.start("run", source, f"{tmp_path}/out/", *options)
    meter = Meter(command)
    with meter.watching():
        ended = command.end(1800)
    assert ended.code == 0, ended.stderr
    peaks = stage_peaks(home, ended.document["job_id"])
    figure.command = f"cogmill run floats.tif out/ {' '.join(options)}"
    figure.measured(
        f"{source.stat().st_size / 1e9:.2f} GB in {ended.document['seconds']:.0f} s: "
        f"{meter.sum / MIB:.0f} MiB; {told(peaks)}",
        "512 MiB",
    )
    plan = ended.document["plan"]
    assert plan["strategy"] == "two-stage"
    # Half of it is too little for the smallest task, so that one child gets all.
    assert any("1 of 2 children at a time" in warning for warning in plan["warnings"])
    assert meter.sum <= 512 * MIB
    assert all(measured <= predicted for predicted, measured in peaks.values()), told(peaks)
