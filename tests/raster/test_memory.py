"""Memory: how it is divided, and that the sum which a plan predicts is what a process needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.places import ROOT

from cogmill.raster.memory import (
    MIB,
    MemoryEstimate,
    TileDemand,
    budget_text,
    tile_memory,
    total_of,
    worker_budget,
)
from cogmill.settings import child_budget

#: Reads, warps and encodes the largest output tile as a task does, and says what that took.
_TASK = r"""
import json, re, sys
from pathlib import Path
from tests.harness.rasters import FileBytes
from cogmill.raster.cog.tile_encoding import encode_tile
from cogmill.raster.gdal import environment
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan, tile_reads
from cogmill.raster.plan.reads import block_row_windows
from cogmill.raster.read.source_blocks import SourceReader
from cogmill.raster.inspect.structure import inspect_tiff
from cogmill.raster.warp.exact_warp import warp

path, options = sys.argv[1], json.loads(sys.argv[2])
data = FileBytes(Path(path))
with environment(32 << 20):
    made = make_plan(inspect_tiff(data, path), PlanOptions.parse(options), "x")
    reader = SourceReader(made.structure, data)

    def largest(tile):
        return max((s.size for _, s in tile_reads(made, tile) if s), default=0)

    def rows(tile):
        for work, source in tile_reads(made, tile):
            held = None if source is None else reader.read(source)
            for band in block_row_windows(work, made.options.block):
                warped = warp(made.warp, held, band)
                yield warped.pixels, warped.mask

    tile = max(made.tiles, key=largest)
    Path("/proc/self/clear_refs").write_text("5")
    encode_tile(made.tile_image(tile), rows(tile), made.overview_resampling)
status = Path("/proc/self/status").read_text()
peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024
print(json.dumps({"peak": peak, "predicted": made.memory.total, "strategy": made.strategy}))
"""


@given(st.integers(1, 1 << 45), st.integers(1, 64))
def test_a_worker_budget_gives_each_child_what_it_was_made_for(child: int, workers: int) -> None:
    assert child_budget(worker_budget(child, workers), workers) == child


@given(st.integers(1, 1 << 45), st.integers(1, 64))
def test_the_budget_that_is_named_is_enough_and_not_ten_megabytes_more(
    child: int, workers: int
) -> None:
    named = int(budget_text(child, workers).removesuffix("MB")) * MIB
    assert 0 <= named - worker_budget(child, workers) < 10 * MIB


def test_an_estimate_is_the_sum_of_its_parts_and_leaves_out_what_needs_nothing() -> None:
    estimate = total_of({"process": 5, "warp": 0, "held source": 7})
    assert estimate.parts == {"process": 5, "held source": 7}
    assert estimate.total == 12
    assert MemoryEstimate.model_validate_json(estimate.model_dump_json()) == estimate


def test_the_larger_of_decoding_and_encoding_counts() -> None:
    same = {"held": 10, "buffered": 0, "rows": 2, "encoded": 3, "encoded_before": 0}
    decoding = tile_memory(TileDemand(decoding=100, warping=1, **same))
    encoding = tile_memory(TileDemand(decoding=1, warping=100, **same))
    assert "warp" not in decoding.parts
    assert "decoding" not in encoding.parts
    assert encoding.total - decoding.total == 2 + 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "bands", "creation", "options"),
    [
        (
            "float32",
            4,
            {"blockysize": 256, "compress": "zstd", "zstd_level": 1},
            {"profile": "zstd"},
        ),
        ("uint16", 4, {"blockysize": 64}, {"resampling": "nearest"}),
    ],
    ids=["compressed float32", "raw noise"],
)
def test_the_predicted_peak_is_within_forty_percent_above_the_measured_one(
    dtype: str, bands: int, creation: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "source.tif"
    _write(path, dtype, bands, creation)
    given_options = json.dumps({"dst_crs": "EPSG:3857", "strategy": "direct", **options})
    done = subprocess.run(
        [sys.executable, "-c", _TASK, str(path), given_options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(re.findall(r"\{.*\}", done.stdout)[-1])
    assert found["peak"] > 300 * MIB
    assert found["peak"] <= found["predicted"] <= 1.4 * found["peak"]


def _write(path: Path, dtype: str, bands: int, creation: dict[str, Any]) -> None:
    rng = np.random.default_rng(7)
    shape = (bands, 3300, 3100)
    if dtype == "float32":
        pixels = rng.random(shape, np.float32)
    else:
        pixels = rng.integers(0, 60000, shape, dtype)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=shape[2],
        height=shape[1],
        count=bands,
        dtype=dtype,
        crs="EPSG:32633",
        transform=rasterio.Affine(10, 0, 200000, 0, -10, 6000000),
        tiled=False,
        interleave="pixel",
        **creation,
    ) as dataset:
        dataset.write(pixels)
