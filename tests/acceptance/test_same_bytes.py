"""One result for any way of cutting the work: the same SHA-256 of every file of the destination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.acceptance import rasters
from tests.acceptance.conftest import Figure
from tests.acceptance.running import Mill, hashes
from tests.raster.rasters import Case

OPTIONS = (*rasters.SMALL, "--dst-crs", "EPSG:3857", "--resampling", "cubic")
#: Small enough to be cut differently: the largest has room for everything at once.
BUDGETS = ("300MB", "312MB", "2GB")
VARIANTS: dict[str, tuple[str, ...]] = {
    "direct": ("--strategy", "direct", "--memory", "2GB", "--workers", "2"),
    "two-stage": ("--strategy", "two-stage", "--memory", "2GB", "--workers", "2"),
    "1 worker": ("--workers", "1", "--memory", "1GB"),
    "2 workers": ("--workers", "2", "--memory", "1GB"),
    "small work tiles": ("--strategy", "direct", "--work-tile", "192", "--workers", "2"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a source that is large enough for a small budget to cut it."""
    case = Case("float32", 4, rasters.strips(11, compress="deflate", predictor=3), nodata=-9999)
    folder = tmp_path_factory.mktemp("same")
    return rasters.make(folder / "source.tif", rasters.Raster(case, 1411, 1303))


class Runs:
    """Runs of one job, each into a destination of its own with the same name."""

    def __init__(self, mill: Mill, source: Path, folder: Path) -> None:
        self._mill, self._source, self._folder = mill, source, folder
        self._done: dict[tuple[str, ...], tuple[dict[str, str], dict[str, Any]]] = {}

    def of(self, kind: str, hints: tuple[str, ...]) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the hashes of every file, and the plan."""
        key = (kind, *hints)
        if key not in self._done:
            folder = self._folder / str(len(self._done))
            folder.mkdir()
            destination = f"{folder}/out/" if kind == "mosaic" else f"{folder}/out.tif"
            ran = self._mill.run(self._source, destination, *OPTIONS, *hints)
            self._done[key] = hashes(folder), ran.plan
        return self._done[key]


@pytest.fixture(scope="module")
def runs(mill: Mill, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(mill, source, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("kind", ["mosaic", "one COG"])
def test_sha_256_of_every_file_is_the_same_for_both_ways_and_any_number_of_workers(
    kind: str, runs: Runs, full: bool, figure: Figure
) -> None:
    chosen = VARIANTS if full or kind == "mosaic" else dict(list(VARIANTS.items())[:2])
    found = {name: runs.of(kind, hints) for name, hints in chosen.items()}
    plans = {name: plan for name, (_, plan) in found.items()}
    assert plans["direct"]["strategy"] == "direct"
    assert plans["two-stage"]["strategy"] == "two-stage"
    assert all(plan["tiles"]["output"] >= 9 for plan in plans.values())
    figure.command = " ".join(OPTIONS)
    figure.seed = rasters.SEED
    _same(figure, {name: files for name, (files, _) in found.items()})


@pytest.mark.parametrize("kind", ["mosaic", "one COG"])
def test_sha_256_of_every_file_is_the_same_for_three_memory_budgets_with_different_pieces(
    kind: str, runs: Runs, figure: Figure
) -> None:
    hints = {
        budget: ("--memory", budget, "--workers", "1", "--strategy", "two-stage")
        for budget in BUDGETS
    }
    found = {budget: runs.of(kind, hint) for budget, hint in hints.items()}
    pieces = [plan["tiles"]["pieces"] for _, plan in found.values()]
    works = [tuple(plan["tiles"]["work"]) for _, plan in found.values()]
    figure.command = f"--memory {', '.join(BUDGETS)}"
    figure.seed = rasters.SEED
    assert len(set(pieces)) == len(BUDGETS), pieces
    assert len(set(works)) > 1, works
    _same(figure, {name: files for name, (files, _) in found.items()})


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
