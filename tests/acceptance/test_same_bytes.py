"""One result for any way of cutting the work: the same SHA-256 of every file of the destination."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.harness import matrix, sources
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.measuring import MIB
from tests.harness.picture import hashes
from tests.harness.rasters import Case, FileBytes

from cogmill.errors import Refused
from cogmill.raster import gdal
from cogmill.raster.inspect.structure import inspect_tiff
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan
from cogmill.settings import PARENT_MEMORY

OPTIONS = (*sources.SMALL, "--dst-crs", "EPSG:3857", "--resampling", "bilinear")
VARIANTS: dict[str, tuple[str, ...]] = {
    "direct": ("--strategy", "direct", "--memory", "2GB", "--workers", "2"),
    "1 worker": ("--strategy", "two-stage", "--memory", "2GB", "--workers", "1"),
    "2 workers": ("--strategy", "two-stage", "--memory", "2GB", "--workers", "2"),
    "small work tiles": ("--strategy", "direct", "--work-tile", "192", "--workers", "2"),
}
#: Budgets in MB that are tried, from too small to more than any piece wants.
BUDGETS = range(260, 500, 4)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = Case("float32", 4, sources.strips(11, compress="deflate", predictor=3), nodata=-9999)
    folder = tmp_path_factory.mktemp("same")
    return sources.make(folder / "source.tif", sources.Raster(case, 1211, 1103))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a source of 85 MB: no piece is smaller than 32 MB unless the budget is tight."""
    case = Case("float64", 6, sources.strips(11, compress="zstd"), nodata=-9999)
    folder = tmp_path_factory.mktemp("large")
    return sources.make(folder / "source.tif", sources.Raster(case, 1351, 1307))


class Runs:
    """Runs of the same job, each into a destination of its own with the same name."""

    def __init__(self, mill: Mill, folder: Path) -> None:
        self._mill, self._folder = mill, folder

    def of(self, source: Path, kind: str, hints: Sequence[str]) -> tuple[dict[str, str], Any]:
        """Return the hashes of every file, and the plan."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        destination = f"{folder}/out/" if kind == "mosaic" else f"{folder}/out.tif"
        ran = self._mill.run(source, destination, *OPTIONS, *hints)
        return hashes(folder), ran.plan


@pytest.fixture(scope="module")
def runs(mill: Mill, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(mill, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("kind", ["mosaic", "one COG"])
def test_sha_256_of_every_file_is_the_same_for_both_ways_and_any_number_of_workers(
    kind: str, source: Path, runs: Runs, full: bool, figure: Figure
) -> None:
    chosen = VARIANTS if full or kind == "mosaic" else dict(list(VARIANTS.items())[:3])
    found = {name: runs.of(source, kind, hints) for name, hints in chosen.items()}
    plans = {name: plan for name, (_, plan) in found.items()}
    assert plans["direct"]["strategy"] == "direct"
    assert plans["1 worker"]["strategy"] == plans["2 workers"]["strategy"] == "two-stage"
    assert all(plan["tiles"]["output"] >= 9 for plan in plans.values())
    if "small work tiles" in plans:
        works = [plan["tiles"]["work"] for plan in plans.values()]
        assert works[-1] == [192, 192]
        assert works[0] == [512, 512]
    figure.command, figure.seed = " ".join(OPTIONS), sources.SEED
    _same(figure, {name: files for name, (files, _) in found.items()})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "large_kind" in metafunc.fixturenames:
        kinds = matrix.KINDS if metafunc.config.getoption("--full") else matrix.KINDS[:1]
        metafunc.parametrize("large_kind", kinds)


def test_sha_256_of_every_file_is_the_same_for_three_memory_budgets_with_different_pieces(
    large_kind: str, large: Path, runs: Runs, figure: Figure
) -> None:
    budgets = _budgets(large)
    assert len(budgets) == 3, budgets
    hints = ("--strategy", "two-stage", "--workers", "1", "--memory")
    found = {
        budget: runs.of(large, large_kind, (*hints, f"{budget}MB")) for budget in budgets.values()
    }
    pieces = {plan["tiles"]["pieces"] for _, plan in found.values()}
    figure.command = f"--memory {', '.join(f'{budget}MB' for budget in found)}"
    figure.seed = sources.SEED
    assert pieces == set(budgets)
    _same(figure, {f"{budget}MB": files for budget, (files, _) in found.items()})


def _budgets(source: Path) -> dict[int, int]:
    """Return the smallest budget, in MB, for each of the first three numbers of pieces."""
    found: dict[int, int] = {}
    options: dict[str, Any] = {
        "dst_crs": "EPSG:3857",
        "blocksize": 64,
        "tile_size": 512,
        "resampling": "bilinear",
        "strategy": "two-stage",
    }
    with gdal.environment(16 * MIB):
        structure = inspect_tiff(FileBytes(source), str(source))
        for budget in BUDGETS:
            asked = PlanOptions(**options, memory=budget * MIB - PARENT_MEMORY)
            try:
                pieces = len(make_plan(structure, asked, "x").pieces)
            except Refused:
                continue
            found.setdefault(pieces, budget)
            if len(found) == 3:
                break
    return found


def _same(figure: Figure, found: dict[str, dict[str, str]]) -> None:
    first, *others = found.values()
    names = {name for files in found.values() for name in files}
    different = sorted(
        name for name in names if any(files.get(name) != first.get(name) for files in others)
    )
    figure.measured(f"{len(different)} of {len(names)} files differ, {len(found)} runs", 0)
    # Nothing hidden is left beside the result either.
    assert not [name for name in names if Path(name).name.startswith(".")]
    assert different == []
