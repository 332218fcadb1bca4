"""Layout, kernel, way and kind: what is run, each run once, and looked at by many tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from tests.harness import sources
from tests.harness.once import once
from tests.harness.whole_job import SMALL, WholeJob

from cogmill.job_types.raster_to_cog.outputs import Outputs
from cogmill.raster.memory import GIB, MIB
from cogmill.settings import PARENT_MEMORY

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


@dataclass(frozen=True)
class Made:
    """A whole job: what it planned, counted and made.

    Attributes
    ----------
    text : str
        What a person would type.
    destination : str
        Where it went: a folder with a slash, or one file.
    plan : dict
        As ``--json`` shows it.
    outputs : Outputs
        What its publish said.
    """

    text: str
    destination: str
    plan: dict[str, Any]
    outputs: Outputs

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "outputs": self.outputs.model_dump(mode="json")})

    @classmethod
    def of_json(cls, text: str) -> Made:
        given = json.loads(text)
        return cls(**{**given, "outputs": Outputs.model_validate(given["outputs"])})


def make(source: Path, destination: str, *, memory: int = GIB, **options: Any) -> Made:
    """Run a whole job in this process, with blocks and tiles so small that there are many.

    Parameters
    ----------
    memory : int
        Bytes that its one child may use.
    options
        Of the plan.
    """
    given = {**SMALL, **options}
    job = WholeJob(source, destination, options=given, memory=memory).run()
    text = " ".join(map(str, ("cogmill run", *words(source, destination, memory=memory, **given))))
    return Made(text, destination, job.plan, job.outputs)


def words(
    source: Path, destination: str, *, memory: int = GIB, workers: int = 1, **options: Any
) -> tuple[object, ...]:
    """Return what a person types so that every child may use that much."""
    whole = -(-(memory * workers + PARENT_MEMORY) // MIB)
    found: list[object] = [source, destination, "--memory", f"{whole}MB"]
    for name, value in {"workers": workers, **SMALL, **options}.items():
        if name == "creation_options":
            for pair in value.items():
                found += ["--co", "=".join(pair)]
        else:
            found += [f"--{name.replace('_', '-')}", value]
    return tuple(found)


class Shelf:
    """Sources, and runs of the matrix, each made once in a session."""

    def source(self, layout: str) -> Path:
        """Return the source of a layout."""
        name = f"{layout.replace(' ', '-')}.tif"
        raster = sources.Raster(sources.LAYOUTS[layout])
        return once(layout, lambda folder: sources.make(folder / name, raster)) / name

    def made(self, layout: str, kernel: str, way: str, kind: str) -> Made:
        """Return a run that reprojects."""
        options = {"dst_crs": "EPSG:3857", "resampling": kernel, "strategy": way}
        return self._run(f"{layout} {kernel} {way} {kind}", layout, kind, **options)

    def copied(self, layout: str, kind: str) -> Made:
        """Return a run that copies."""
        return self._run(f"{layout} copy {kind}", layout, kind)

    def _run(self, name: str, layout: str, kind: str, **options: Any) -> Made:
        source = self.source(layout)

        def run(folder: Path) -> None:
            made = make(source, destination(folder, kind), **options)
            (folder / "made.json").write_text(made.to_json())

        return Made.of_json((once(name, run) / "made.json").read_text())


def destination(folder: Path, kind: str) -> str:
    """Return a destination of this kind in a folder."""
    return f"{folder}/out/" if kind == "mosaic" else f"{folder}/out.tif"


@pytest.fixture(scope="session")
def shelf() -> Shelf:
    """Give the session's sources and runs."""
    return Shelf()


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
