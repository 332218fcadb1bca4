"""What a plan says that a task needs is never less than what its child then uses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from tests.acceptance.test_exactness import PAIRS
from tests.harness.child_job import ChildJob
from tests.harness.figure import Figure

from cogmill import runtime
from cogmill.errors import Refused
from cogmill.raster.memory import MIB
from cogmill.settings import Settings

SEED = 20261127
#: Decoded bytes of a source, about: enough for a wrong estimate to show beside the process.
SIZE = 60 * MIB
BUDGETS = (200 * MIB, 260 * MIB, 384 * MIB)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(40 if metafunc.config.getoption("--full") else 4))


def source(path: Path, choice: random.Random) -> tuple[Path, str, str]:
    """Write noise, which packs worst, in a random structure; return also the target and words."""
    dtype = choice.choice(("uint8", "uint16", "float32", "float64"))
    bands = choice.choice((1, 3, 4, 8))
    pixels = SIZE // (bands * np.dtype(dtype).itemsize)
    width = int((pixels * choice.choice((0.3, 1.0, 4.0))) ** 0.5)
    height = pixels // width
    options: dict[str, Any] = {
        "compress": choice.choice(("deflate", "lzw", "zstd", None)),
        "interleave": choice.choice(("pixel", "band")),
    }
    if choice.random() < 0.6:
        options |= {"tiled": False, "blockysize": choice.choice((1, 16, 100, 256, height))}
    else:
        side = choice.choice((128, 256, 512))
        options |= {"tiled": True, "blockxsize": side, "blockysize": side}
    crs, target, place, (usual, _) = PAIRS[choice.choice(list(PAIRS))]
    finer = usual / max(width, height)
    transform = Affine(place.a * finer, 0, place.c, 0, place.e * finer, place.f)
    noise = np.random.default_rng(choice.randrange(1 << 30))
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=dtype,
        crs=crs, transform=transform, zlevel=1, **options,
    ) as dataset:  # fmt: skip
        for band in range(1, bands + 1):
            values = noise.integers(0, 250, (height, width), np.uint8)
            dataset.write(values.astype(dtype), band)
    return path, target, f"{width} x {height} x {bands} {dtype}, {options}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_task_uses_more_memory_than_was_predicted(
    number: int, tmp_path: Path, figure: Figure
) -> None:
    choice = random.Random(SEED + number)
    path, target, words = source(tmp_path / "in.tif", choice)
    budget, strategy = choice.choice(BUDGETS), choice.choice(("auto", "two-stage"))
    options = {"dst_crs": target, "tile_size": 2048, "blocksize": 256, "strategy": strategy}
    options |= {"resampling": choice.choice(("nearest", "bilinear", "average"))}
    child = runtime.spawn(Settings(memory=budget + 128 * MIB, workers=1))
    try:
        job = ChildJob(path, f"{tmp_path}/out/", options=options, memory=budget, child=child)
        try:
            job.run()
        except Refused as refusal:
            figure.measured(f"{words}: refused")
            assert "--memory" in refusal.remedy
            return
    finally:
        child.close()
    tight = min(job.peaks, key=lambda peak: peak.predicted - peak.measured)
    figure.command, figure.seed = words, SEED + number
    figure.measured(
        f"{tight.stage}: predicted {tight.predicted / MIB:.0f}, "
        f"measured {tight.measured / MIB:.0f} MiB; {len(job.peaks)} tasks",
        f"{budget / MIB:.0f} MiB",
    )
    over = [peak for peak in job.peaks if peak.measured > peak.predicted]
    assert not over, (words, over)
    assert max(peak.measured for peak in job.peaks) <= budget
