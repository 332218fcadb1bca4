"""One result for any way of cutting the work: the same SHA-256 of every file of the destination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.harness import matrix, sources
from tests.harness.command import Typed
from tests.harness.figure import Figure
from tests.harness.measuring import MIB
from tests.harness.picture import hashes
from tests.harness.rasters import Case, FileBytes
from tests.harness.whole_job import SMALL

from cogmill.errors import Refused
from cogmill.raster import gdal
from cogmill.raster.inspect.structure import inspect_tiff
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan
from cogmill.settings import PARENT_MEMORY

OPTIONS: dict[str, Any] = {
    "dst_crs": "EPSG:3857", "resampling": "bilinear", "creation_options": {"LEVEL": "1"},
}  # fmt: skip
#: Of a job in this process; the command adds that two children share the work.
VARIANTS: dict[str, dict[str, Any]] = {
    "direct": {"strategy": "direct"},
    "two-stage": {"strategy": "two-stage"},
    "small work tiles": {"strategy": "direct", "work_tile": 192},
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


@pytest.mark.parametrize("kind", ["mosaic", "one COG"])
def test_sha_256_of_every_file_is_the_same_for_both_ways_and_any_number_of_workers(
    kind: str, source: Path, typed: Typed, full: bool, tmp_path: Path, figure: Figure
) -> None:
    chosen = VARIANTS if full or kind == "mosaic" else dict(list(VARIANTS.items())[:2])
    found, plans = {}, {}
    for name, hints in chosen.items():
        made = matrix.make(source, _destination(tmp_path, name, kind), **OPTIONS, **hints)
        found[name], plans[name] = hashes(tmp_path / name), made.plan
    words = matrix.words(
        source, _destination(tmp_path, "2 workers", kind),
        workers=2, strategy="two-stage", **OPTIONS,
    )  # fmt: skip
    ran = typed.run(*words)
    found["2 workers"], plans["2 workers"] = hashes(tmp_path / "2 workers"), ran.plan
    assert plans["direct"]["strategy"] == "direct"
    assert plans["two-stage"]["strategy"] == plans["2 workers"]["strategy"] == "two-stage"
    assert all(plan["tiles"]["output"] >= 9 for plan in plans.values())
    if "small work tiles" in plans:
        assert plans["small work tiles"]["tiles"]["work"] == [192, 192]
        assert plans["direct"]["tiles"]["work"] == [512, 512]
    figure.command, figure.seed = ran.text, sources.SEED
    _same(figure, found)


def _destination(folder: Path, name: str, kind: str) -> str:
    """Return a destination in a folder of its own, by the same name there."""
    (folder / name).mkdir()
    return matrix.destination(folder / name, kind)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "large_kind" in metafunc.fixturenames:
        kinds = matrix.KINDS if metafunc.config.getoption("--full") else matrix.KINDS[:1]
        metafunc.parametrize("large_kind", kinds)


def test_sha_256_of_every_file_is_the_same_for_three_memory_budgets_with_different_pieces(
    large_kind: str, large: Path, tmp_path: Path, figure: Figure
) -> None:
    budgets = _budgets(large)
    assert len(budgets) == 3, budgets
    found, pieces = {}, set()
    for budget in budgets.values():
        name = f"{budget}MB"
        made = matrix.make(
            large, _destination(tmp_path, name, large_kind),
            memory=budget * MIB - PARENT_MEMORY, strategy="two-stage", **OPTIONS,
        )  # fmt: skip
        found[name] = hashes(tmp_path / name)
        pieces.add(made.plan["tiles"]["pieces"])
    figure.command = f"--memory {', '.join(found)}"
    figure.seed = sources.SEED
    assert pieces == set(budgets)
    _same(figure, found)


def _budgets(source: Path) -> dict[int, int]:
    """Return the smallest budget, in MB, for each of the first three numbers of pieces."""
    found: dict[int, int] = {}
    options: dict[str, Any] = {**SMALL, **OPTIONS, "strategy": "two-stage"}
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
