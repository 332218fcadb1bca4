"""One strip that exceeds the memory: decoded once as a stream, or cut in X, with the same bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from tests.harness import matrix, sources
from tests.harness.figure import Figure
from tests.harness.measuring import MIB
from tests.harness.picture import hashes
from tests.harness.rasters import Case
from tests.harness.whole_job import SMALL, WholeJob

from cogmill.errors import Refused

OPTIONS: dict[str, Any] = {
    "dst_crs": "EPSG:3857", "resampling": "nearest", "creation_options": {"LEVEL": "1"},
}  # fmt: skip
WIDTH, HEIGHT = 1811, 1777
#: Of the codecs, those that are decoded as a stream.
STREAMED = {"deflate": True, "lzw": True, "jpeg": False}
#: Budgets of the one child that are tried, from too small on, and one in which all fits.
TRIED = range(150 * MIB, 300 * MIB, 3 * MIB)
ROOMY = 2944 * MIB


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "compress" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        metafunc.parametrize("compress", STREAMED if full else ["deflate", "jpeg"])


def giant(path: Path, compress: str) -> Path:
    dtype = "uint8" if compress == "jpeg" else "uint16"
    options = {"compress": compress, **({} if compress == "jpeg" else {"predictor": 2})}
    case = Case(dtype, 3, sources.strips(HEIGHT, **options), smooth=True)
    return sources.make(path, sources.Raster(case, WIDTH, HEIGHT))


def test_a_strip_that_exceeds_the_memory_gives_the_bytes_that_it_gives_when_it_fits(
    tmp_path: Path, figure: Figure, compress: str
) -> None:
    source = giant(tmp_path / "source.tif", compress)
    plans, files = {}, {}
    for memory in (_tight(source, streamed=STREAMED[compress]), ROOMY):
        place = tmp_path / f"{memory}"
        place.mkdir()
        made = matrix.make(source, f"{place}/out/", memory=memory, **OPTIONS)
        plans[memory], files[memory] = made.plan, hashes(place)
        decodes = made.outputs.pieces_counted.decodes
    tight, roomy = plans.values()
    assert tight["structure"]["blocks"] == 1
    assert tight["tiles"]["streamed"] is STREAMED[compress]
    assert roomy["tiles"]["streamed"] is False
    assert roomy["tiles"]["output"] >= 9
    first, second = files.values()
    assert first == second
    figure.measured(f"{len(first)} files the same, {decodes}", 0)


def _tight(source: Path, *, streamed: bool) -> int:
    """Return the smallest budget in which a child streams the strip, or cuts it in X."""
    for memory in TRIED:
        job = WholeJob(source, "/nowhere/out/", options={**SMALL, **OPTIONS}, memory=memory)
        with contextlib.suppress(Refused):
            job.preflight()
            tiles = job.plan["tiles"]
            if tiles["streamed"] is streamed and (streamed or tiles["pieces"] > 1):
                return memory
    raise AssertionError("no budget makes the strip exceed the memory")
