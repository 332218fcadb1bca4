"""Layout, kernel, way and kind: what is run, each run once, and looked at by many tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from tests.harness import sources
from tests.harness.command import Mill, Ran

KERNELS = ("nearest", "bilinear", "cubic", "average")
WAYS = ("direct", "two-stage")
KINDS = ("mosaic", "one COG")

#: Layout, kernel, way, kind.
Row = tuple[str, str, str, str]


def rows(full: bool) -> list[Row]:
    """Return every combination, or few in which every pair of values occurs."""
    axes = (tuple(sources.LAYOUTS), KERNELS, WAYS, KINDS)
    return list(product(*axes)) if full else pairwise(*axes)


def row(**wanted: str) -> Row:
    """Return the first of the few combinations that is so."""
    names = ("layout", "kernel", "way", "kind")
    return next(
        found
        for found in rows(full=False)
        if all(found[names.index(name)] == value for name, value in wanted.items())
    )


def both_kinds(names: Sequence[str], full: bool) -> list[tuple[str, str]]:
    """Return every name as both kinds, or each name once and the kinds in turn."""
    if full:
        return list(product(names, KINDS))
    return [(name, KINDS[number % 2]) for number, name in enumerate(names)]


class Shelf:
    """Sources, and runs of the matrix, made when they are first asked for and then kept."""

    def __init__(self, mill: Mill, folder: Path) -> None:
        self._mill, self.folder = mill, folder
        self.source = cache(self._source)
        self.made = cache(self._made)
        self.copied = cache(self._copied)

    def _source(self, layout: str) -> Path:
        raster = sources.Raster(sources.LAYOUTS[layout])
        return sources.make(self.folder / f"{layout.replace(' ', '-')}.tif", raster)

    def _made(self, layout: str, kernel: str, way: str, kind: str) -> tuple[Ran, str]:
        """Return a run that reprojects, and its destination."""
        name = f"{layout}-{kernel}-{way}".replace(" ", "-")
        destination = self._destination(name, kind)
        options = ("--dst-crs", "EPSG:3857", "--resampling", kernel, "--strategy", way)
        return self._run(layout, destination, options), destination

    def _copied(self, layout: str, kind: str) -> tuple[Ran, str]:
        """Return a run that copies, and its destination."""
        destination = self._destination(f"{layout}-copy".replace(" ", "-"), kind)
        return self._run(layout, destination, ()), destination

    def _run(self, layout: str, destination: str, options: tuple[str, ...]) -> Ran:
        # One child: most of a small run is the time that children take to start.
        return self._mill.run(
            self.source(layout), destination, *sources.SMALL, *options, "--workers", 1
        )

    def _destination(self, name: str, kind: str) -> str:
        return f"{self.folder}/{name}/" if kind == "mosaic" else f"{self.folder}/{name}.cog.tif"


@pytest.fixture(scope="session")
def shelf(mill: Mill, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Give the session's sources and runs."""
    yield Shelf(mill, tmp_path_factory.mktemp("shelf"))


def pairwise(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return few combinations in which every pair of values of any two axes occurs."""
    open_pairs = {
        (i, a, j, b)
        for (i, one), (j, other) in combinations(enumerate(axes), 2)
        for a, b in product(one, other)
    }

    def covered(row: tuple[Any, ...]) -> set[tuple[int, Any, int, Any]]:
        return {(i, a, j, b) for (i, a), (j, b) in combinations(enumerate(row), 2)}

    chosen: list[tuple[Any, ...]] = []
    rows = list(product(*axes))
    while open_pairs:
        best = max(rows, key=lambda row: len(covered(row) & open_pairs))
        chosen.append(best)
        open_pairs -= covered(best)
    return chosen
