"""Plans of random structures, without running them: every pixel once, no strip fetched again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.harness import sources
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.synthetic import layout, structure

from cogmill.errors import Refused
from cogmill.raster.cog.fragments import assembly_memory
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.memory import GIB, MIB, PROCESS_BASE, worker_budget
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan, tile_reads
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.plan.reads import source_pixel_bytes
from cogmill.raster.read.streaming import streaming_bytes
from cogmill.raster.tiff.block_table import ImageLayout
from cogmill.settings import child_budget

#: By layout, how many times the source may be fetched, as the issue says.
MOST = {True: 1.10, False: 1.25}
#: Source, target, a corner, and how far at most the source reaches from there, in its own units.
PAIRS = {
    "UTM to 3857": ("EPSG:32633", "EPSG:3857", (180000.0, 6000000.0), 500000.0),
    "4326 to 3857": ("EPSG:4326", "EPSG:3857", (5.0, 62.0), 20.0),
    "3857 to 4326": ("EPSG:3857", "EPSG:4326", (1e6, 8e6), 2e6),
    "3413 to 4326": ("EPSG:3413", "EPSG:4326", (-900000.0, -1200000.0), 1.2e6),
    "copy": ("EPSG:32633", None, (180000.0, 6000000.0), 500000.0),
}
#: Those that a stream decodes; strips of the others that exceed the memory are cut in X.
STREAMED = ("none", "deflate", "lzw", "zstd", "packbits")


@st.composite
def structures(draw: st.DrawFn) -> tuple[Structure, str | None]:
    """Return a structure and the target's coordinate system, None for a copy."""
    size = draw(st.integers(1, 24000)), draw(st.integers(1, 24000))
    striped = draw(st.booleans())
    if striped:
        rows = st.sampled_from([1, 2, 8, 16, 64, 128, 256, 1000, size[1]]) | st.integers(1, 2000)
        block = size[0], min(draw(rows), size[1])
    else:
        side = st.sampled_from([64, 128, 256, 512, 1024, 2048])
        block = draw(side), draw(side)
    changes = {
        "striped": striped,
        "planar": draw(st.sampled_from(["pixel", "band"])),
        "compression": draw(st.sampled_from([*STREAMED, "jpeg"])),
    }
    dtype = draw(st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]))
    if changes["compression"] == "jpeg":
        dtype = "uint8"
    image = layout(size, block, draw(st.integers(1, 8)), dtype, **changes)
    source, target, corner, reach = PAIRS[draw(st.sampled_from(list(PAIRS)))]
    pixel = reach / max(*size, 500) * draw(st.sampled_from([1.0, 0.3, 0.01]))
    transform = (corner[0], pixel, 0.0, corner[1], 0.0, -pixel)
    return structure(image, source, transform=transform), target


budgets = st.sampled_from([512, 600, 768, 1024, 2048, 4096, 16384])


@pytest.fixture(scope="module", autouse=True)
def _gdal() -> Iterator[None]:
    with environment(16 * MIB):
        yield


class Worst:
    """The largest ratios that were seen, for the record."""

    def __init__(self) -> None:
        self.ratios: dict[bool, float] = {True: 0.0, False: 0.0}
        self.counts: Counter[str] = Counter()

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return f"striped {self.ratios[True]:.3f}, tiled {self.ratios[False]:.3f}; {told}"


@pytest.mark.timeout(3600)
def test_windows_cover_the_target_once_and_no_source_is_fetched_more_often_than_the_limits(
    figure: Figure, full: bool
) -> None:
    worst = Worst()

    @settings(
        max_examples=2000 if full else 60,
        # To shrink an example takes minutes, and the structure says what is wrong as it is.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(structures(), budgets, st.integers(1, 4), st.sampled_from(["4096", "small"]))
    def check(made: tuple[Structure, str | None], megabytes: int, workers: int, tiles: str) -> None:
        source, target = made
        options: dict[str, Any] = {"dst_crs": target} if target else {}
        if tiles == "small":
            options |= {"tile_size": 1024, "blocksize": 128}
        share = child_budget(megabytes * MIB, workers)
        asked = PlanOptions.parse({**options, "memory": share, "workers": workers})
        try:
            found = make_plan(source, asked, "x")
        except Refused as refusal:
            assert "--memory" in refusal.remedy, refusal
            worst.counts["refused"] += 1
            return
        worst.counts[found.strategy] += 1
        memory, together = found.options.memory, found.options.workers
        assert memory is not None
        assert memory * together <= child_budget(megabytes * MIB, 1)
        fewer = any("children at a time" in warning for warning in found.warnings)
        assert fewer is (together < workers)
        worst.counts["with fewer children"] += fewer
        assert covered_once(found)
        assert max(found.memory.total, pieces_total(found)) <= memory
        assert not found.fragments or assembly_memory(found.image, found.tile_size).total <= memory
        striped = source.image.striped
        ratio = fetched(found)
        if not cut_in_x(found):
            worst.ratios[striped] = max(worst.ratios[striped], ratio)
            assert ratio <= MOST[striped], found.reason

    check()
    figure.command = "plan(structure, options), structures by Hypothesis"
    figure.measured(str(worst), "striped 1.10, tiled 1.25")


def covered_once(found: RasterPlan) -> bool:
    """Return whether work tiles, in whole blocks, cover every block of the target once."""
    grid, block = found.target_grid, found.options.block
    times = np.zeros((-(-grid.height // block), -(-grid.width // block)), np.int64)
    area = 0
    for tile in found.tiles:
        for work, source in tile_reads(found, tile):
            assert tile.window.contains(work)
            assert work.col_off % block == work.row_off % block == 0
            assert work.width % block == 0 or work.col_stop == grid.width
            assert work.height % block == 0 or work.row_stop == grid.height
            assert source is None or found.source_grid.window.contains(source)
            times[blocks(work, block, block)] += 1
            area += work.size
    return bool((times == 1).all()) and area == grid.width * grid.height


def blocks(window: Window, width: int, height: int) -> tuple[slice, slice]:
    """Return the rows and columns of blocks that a window touches."""
    rows = slice(window.row_off // height, -(-window.row_stop // height))
    return rows, slice(window.col_off // width, -(-window.col_stop // width))


def fetched(found: RasterPlan) -> float:
    """Return how many times the source's blocks are fetched on average, counted one by one."""
    image = found.structure.image
    times = np.zeros((image.blocks_down, image.blocks_across), np.int64)
    for window in read_of_the_source(found):
        times[blocks(window, image.block_width, image.block_height)] += 1
    return float(times.mean())


def read_of_the_source(found: RasterPlan) -> Iterable[Window]:
    if found.strategy == "two-stage":
        return found.pieces
    reads = (read for tile in found.tiles for read in tile_reads(found, tile))
    return [source for _, source in reads if source is not None]


def cut_in_x(found: RasterPlan) -> bool:
    """Return whether pieces are parts of a strip that fits neither as it is nor as a stream."""
    image: ImageLayout = found.structure.image
    parts = any(piece.width < image.width for piece in found.pieces)
    if parts and image.striped and image.compression in STREAMED:
        # The stream gathers a row of blocks of the intermediate: three times, at most 512 rows.
        gathered = 3 * min(512, image.height) * image.width * source_pixel_bytes(found.structure)
        assert gathered > (found.options.memory or 0) - PROCESS_BASE - streaming_bytes(
            found.structure
        )
    return parts


def pieces_total(found: RasterPlan) -> int:
    return 0 if found.piece_memory is None else found.piece_memory.total


@pytest.mark.parametrize(
    ("side", "strip_rows"), [(20000, 20000), (20000, 1), (50000, 256)], ids=str
)
def test_huge_sources_are_inspected_without_running(
    side: int, strip_rows: int, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    source = sources.unwritten(tmp_path / "huge.tif", (side, side), strip_rows)
    ran = mill.inspect(source, "--dst-crs", "EPSG:3857", "--memory", "4GB", "--workers", 2)
    found = ran.plan
    figure.command = ran.text
    figure.measured(f"{found['strategy']}, {found['tiles']['pieces']} pieces", "fits")
    assert found["strategy"] == "two-stage"
    assert found["structure"]["blocks"] == -(-side // strip_rows)
    assert found["cost"]["two-stage"]["decodes"] == found["structure"]["blocks"]
    assert found["tiles"]["pieces"] <= 4 * found["structure"]["blocks"]
    assert found["tiles"]["streamed"] is (strip_rows == 20000 and side == 20000)
    budget = child_budget(4096 * MIB, 2)
    assert sum(found["memory"]["pieces"].values()) <= budget
    assert found["memory"]["total"] <= budget


@pytest.mark.parametrize(("bands", "strips"), [(3, 8), (4, 6)])
def test_the_well_known_example_gives_eight_strips_a_piece_and_six_with_four_bands(
    bands: int, strips: int, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    source = sources.unwritten(tmp_path / "example.tif", (50000, 50000), 256, bands, "float32")
    assert source.stat().st_size > 50000 * 50000 * bands * 4
    assert source.stat().st_blocks * 512 < MIB
    options = (source, "--dst-crs", "EPSG:3857", "--workers", "1", "--memory")
    parts = mill.inspect(*options, "64GB").plan["memory"]["pieces"]
    # A piece task is its pixels and what does not depend on how many they are: the process, and the
    # blocks in flight. The child that may use both is all there is beside its parent.
    beside = sum(parts.values()) - parts["held source"]
    memory = worker_budget(round(1.2 * GIB) + beside, workers=1)
    ran = mill.inspect(*options, memory)
    rows, cols = ran.plan["tiles"]["piece"]
    figure.command = ran.text
    figure.measured(
        f"{rows // 256} strips a piece, {source.stat().st_size / 1e9:.0f} GB of holes", strips
    )
    assert (rows, cols) == (strips * 256, 50000)
    assert ran.plan["memory"]["pieces"]["held source"] <= 1.2 * GIB
