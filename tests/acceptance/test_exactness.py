"""Kernels, coordinate systems, work tiles and layouts: the pixels of one whole-image exact warp.

Jobs run in this process, for what is compared is what their tasks compute and lay out.
"""

from __future__ import annotations

from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from tests.harness import oracle, sources
from tests.harness.figure import Figure
from tests.harness.picture import Array, Picture, both_nan, differing, hashes, result
from tests.harness.rasters import Case
from tests.harness.sources import Raster
from tests.harness.whole_job import SMALL, WholeJob

from cogmill.errors import Refused
from cogmill.raster.memory import GIB, MIB

KERNELS = ("nearest", "bilinear", "cubic", "lanczos", "average")
#: Source, target, the source's place and its size: three by three output tiles come of each.
PAIRS: dict[str, tuple[str, str, Affine, tuple[int, int]]] = {
    "UTM to 3857": (
        "EPSG:32633", "EPSG:3857", Affine(10, 0, 180000, 0, -10, 5650000), (1103, 1051)
    ),
    "4326 to 3857": (
        "EPSG:4326", "EPSG:3857", Affine(0.0123, 0, 10.05, 0, -0.0101, 61.3), (1303, 1003)
    ),
    "3857 to 4326": ("EPSG:3857", "EPSG:4326", Affine(97, 0, 1e6, 0, -101, 7e6), (1003, 1503)),
    "3413 to 4326": (
        "EPSG:3413", "EPSG:4326", Affine(500, 0, -300000, 0, -500, -2400000), (803, 1603)
    ),
}  # fmt: skip
CASES = {
    "striped": Case(
        "uint16", 2, sources.strips(13, compress="deflate", predictor=2), mask="internal"
    ),
    "tiled": Case("float32", 1, sources.tiles(128, compress="deflate"), nodata=-9999),
}
#: None: the whole output tile of 512 pixels. The others do not divide it, and give fragments.
WORK_TILES = (None, 320, 192)
STRATEGIES = ("direct", "two-stage")
ODD = (1117, 1051)

# GDAL's warp of a whole image at once takes its time where others work too.
pytestmark = pytest.mark.timeout(600)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("--full")
    if "work_tile" in metafunc.fixturenames:
        rows = list(product(PAIRS, CASES, WORK_TILES, STRATEGIES, KERNELS))
        if not full:
            # Every pair in both layouts; the others in turn.
            ways = [STRATEGIES[number] for number in (0, 1, 1, 0, 1, 0, 1)]
            turns = zip(cycle(WORK_TILES), cycle(ways), cycle(KERNELS), strict=True)
            rows = [(*row, *next(turns)) for row in product(PAIRS, CASES)]
        names = ("pair", "layout", "work_tile", "strategy", "kernel")
        metafunc.parametrize(names, rows, ids=[", ".join(map(str, row)) for row in rows])
    elif "kernel" in metafunc.fixturenames:
        cut = list(product(PAIRS, CASES, KERNELS))
        if not full:
            cut = [("3413 to 4326", "striped", "bilinear")]
        metafunc.parametrize(("pair", "layout", "kernel"), cut, ids=map(", ".join, cut))


class Bench:
    """Sources, and what must come of them, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._expected: dict[tuple[str, str, str], Picture] = {}

    def source(self, pair: str, layout: str) -> Path:
        crs, _, transform, size = PAIRS[pair]
        path = self._folder / f"{pair} {layout}.tif".replace(" ", "-")
        if not path.exists():
            sources.make(path, Raster(CASES[layout], *size, crs, transform))
        return path

    def expected(self, pair: str, layout: str, kernel: str, plan: dict[str, Any]) -> Picture:
        key = (pair, layout, kernel)
        if key not in self._expected:
            self._expected = {key: oracle.whole(self.source(pair, layout), plan, self._folder)}
        return self._expected[key]

    def job(self, pair: str, layout: str, destination: str, **options: Any) -> WholeJob:
        memory = options.pop("memory", GIB)
        asked = {**SMALL, "dst_crs": PAIRS[pair][1], **options}
        return WholeJob(self.source(pair, layout), destination, options=asked, memory=memory)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("exactness"))


def summary(job: WholeJob) -> dict[str, Any]:
    found: Any = job.found.prepared
    return dict(found["summary"])


def test_no_pixel_and_no_mask_value_differs_from_a_whole_image_exact_warp(
    pair: str,
    layout: str,
    work_tile: int | None,
    strategy: str,
    kernel: str,
    bench: Bench,
    tmp_path: Path,
    figure: Figure,
) -> None:
    hints = {"work_tile": work_tile, "strategy": strategy}
    destination = f"{tmp_path}/out/"
    job = bench.job(pair, layout, destination, resampling=kernel, **hints).run()
    plan = summary(job)
    assert plan["strategy"] == strategy
    assert plan["tiles"]["work"] == [work_tile or 512] * 2
    assert plan["tiles"]["fragments"] is (work_tile is not None)
    assert plan["tiles"]["output"] >= 9
    found = result(destination, plan["target_grid"])
    count = differing(found, bench.expected(pair, layout, kernel, plan))
    figure.command = (
        f"cogmill run SRC out/ --dst-crs {PAIRS[pair][1]} --resampling {kernel} "
        f"--strategy {strategy} --work-tile {work_tile or 512}"
    )
    figure.seed = sources.SEED
    figure.measured(count, 0)
    assert count == 0
    values = found.pixels[0][~both_nan(found.pixels, found.pixels)[0]]
    assert len(np.unique(values)) > 50
    assert found.mask is None or 0.3 < (found.mask > 0).mean() < 1


def test_sha_256_is_the_same_for_all_work_tiles_budgets_and_strategies(
    pair: str, layout: str, kernel: str, bench: Bench, tmp_path: Path, figure: Figure
) -> None:
    variants: dict[str, dict[str, Any]] = {
        f"{strategy}, {work_tile}": {"strategy": strategy, "work_tile": work_tile}
        for strategy, work_tile in zip((*STRATEGIES, "auto"), WORK_TILES, strict=True)
    }
    variants["tight"] = {"memory": _tightest(bench, pair, layout, resampling=kernel)}
    made, works = {}, set()
    for name, hints in variants.items():
        folder = tmp_path / name
        job = bench.job(pair, layout, f"{folder}/out/", resampling=kernel, **hints).run()
        works.add(tuple(summary(job)["tiles"]["work"]))
        made[name] = hashes(folder)
    first, *others = made.values()
    different = {name for files in others for name in files if files[name] != first.get(name)}
    figure.command = f"cogmill run, {pair}, {layout}, {kernel}"
    figure.measured(f"{len(different)} of {len(first)} files, {len(made)} ways", 0)
    assert len(works) == len(variants)
    assert all(files == first for files in others)


def _tightest(bench: Bench, pair: str, layout: str, **options: Any) -> int:
    """Return the smallest budget of a child, to a quarter MiB, for which there is a plan."""
    unit = MIB // 4
    low, high = 128 * MIB // unit, 200 * MIB // unit
    while high - low > 1:
        middle = (low + high) // 2
        job = bench.job(pair, layout, "/nowhere/out/", memory=middle * unit, **options)
        try:
            job.preflight()
            high = middle
        except Refused:
            low = middle
    return high * unit


@pytest.mark.parametrize("layout", CASES)
def test_overviews_of_odd_sizes_equal_a_numpy_reference(
    layout: str, tmp_path: Path, figure: Figure
) -> None:
    source = sources.make(tmp_path / "in.tif", Raster(CASES[layout], *ODD))
    WholeJob(source, f"{tmp_path}/one.tif").run()
    WholeJob(source, f"{tmp_path}/out/").run()
    odd = levels = 0
    for path in [tmp_path / "one.tif", *sorted((tmp_path / "out").glob("*.tif"))]:
        above = _level(path, 0)
        with rasterio.open(path) as dataset:
            count = len(dataset.overviews(1))
        for level in range(count):
            found = _level(path, level + 1)
            _assert_halved(above, found)
            odd += any(size % 2 for size in above[0].shape[1:])
            levels += 1
            above = found
    figure.measured(f"{levels} levels equal, {odd} of odd sizes")
    assert odd >= 8


def _level(path: Path, level: int) -> tuple[Array, Array]:
    options = {} if level == 0 else {"OVERVIEW_LEVEL": level - 1}
    with rasterio.open(path, **options) as dataset:
        return dataset.read(), dataset.read_masks() > 0


def _assert_halved(above: tuple[Array, Array], found: tuple[Array, Array]) -> None:
    """Fail where a level is not the mean of the valid pixels, halves of integers rounded up."""
    pixels, valid = above
    bands, height, width = pixels.shape
    shape = (bands, -(-height // 2), -(-width // 2))
    kind = np.float64 if pixels.dtype.kind == "f" else np.int64
    total, count = np.zeros(shape, kind), np.zeros(shape, np.int64)
    for row, col in product((0, 1), (0, 1)):
        part = (slice(None), slice(row, None, 2), slice(col, None, 2))
        cut = (slice(None), *map(slice, pixels[part].shape[1:]))
        total[cut] += np.where(valid[part], pixels[part], 0).astype(kind)
        count[cut] += valid[part]
    many = np.maximum(count, 1)
    assert found[0].shape == shape
    assert np.array_equal(found[1], count > 0)
    if kind is np.float64:
        # The mean of float32 in float64, rounded once.
        exact = (total / many).astype(pixels.dtype)
        np.testing.assert_allclose(found[0][found[1]], exact[found[1]], rtol=2e-7)
    else:
        exact = (2 * total + many) // (2 * many)
        assert np.array_equal(found[0][found[1]], exact[found[1]])
