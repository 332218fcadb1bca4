"""One strip that exceeds the memory: decoded once as a stream, or cut in X, with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness import sources
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.picture import hashes
from tests.harness.rasters import Case

OPTIONS = (
    *sources.SMALL, "--dst-crs", "EPSG:3857", "--resampling", "nearest", "--co", "LEVEL=1",
    "--workers", "1",
)  # fmt: skip
WIDTH, HEIGHT = 3011, 2777
TIGHT = {"deflate": "400MB", "lzw": "400MB", "jpeg": "350MB"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "compress" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        metafunc.parametrize("compress", TIGHT if full else ["deflate", "jpeg"])


def giant(path: Path, compress: str) -> Path:
    dtype = "uint8" if compress == "jpeg" else "uint16"
    options = {"compress": compress, **({} if compress == "jpeg" else {"predictor": 2})}
    case = Case(dtype, 3, sources.strips(HEIGHT, **options), smooth=True)
    return sources.make(path, sources.Raster(case, WIDTH, HEIGHT))


def test_a_strip_that_exceeds_the_memory_gives_the_bytes_that_it_gives_when_it_fits(
    mill: Mill, tmp_path: Path, figure: Figure, compress: str
) -> None:
    source = giant(tmp_path / "source.tif", compress)
    plans, files = {}, {}
    for memory in (TIGHT[compress], "3GB"):
        place = tmp_path / memory
        place.mkdir()
        ran = mill.run(source, f"{place}/out/", *OPTIONS, "--memory", memory)
        plans[memory], files[memory] = ran.plan, hashes(place)
        decodes = ran.document["counted"]["pieces"]["decodes"]
    tight, roomy = plans.values()
    assert tight["structure"]["blocks"] == 1
    assert tight["tiles"]["streamed"] is (compress != "jpeg")
    assert roomy["tiles"]["streamed"] is False
    first, second = files.values()
    assert first == second
    figure.measured(f"{len(first)} files the same, {decodes}", 0)
