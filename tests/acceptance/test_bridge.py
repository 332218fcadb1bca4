"""The bridge: what tests run in one process gives the bytes that the command gives.

Most rows of the matrices are whole jobs in the test's own process. Here every kind of job is run
both ways: by the command, with its database, its worker and its child, and in this process.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.harness import matrix, sources
from tests.harness.command import Typed
from tests.harness.figure import Figure
from tests.harness.matrix import Shelf
from tests.harness.picture import hashes

from cogmill.job_types.raster_to_cog.outputs import Outputs

COPIES = (False, True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("--full")
    axes = (matrix.KINDS, matrix.WAYS, COPIES)
    rows = [
        (kind, way, copied)
        for kind, way, copied in (product(*axes) if full else matrix.pairwise(*axes))
    ]
    names = [f"{kind}, {way}, {'copy' if copied else 'warp'}" for kind, way, copied in rows]
    metafunc.parametrize(("kind", "way", "copied"), rows, ids=names)


def test_the_command_and_the_job_in_this_process_make_the_same_bytes_by_the_same_plan(
    kind: str,
    way: str,
    copied: bool,
    shelf: Shelf,
    typed: Typed,
    tmp_path: Path,
    figure: Figure,
) -> None:
    options: dict[str, Any] = {"strategy": way}
    if not copied:
        options |= {"dst_crs": "EPSG:3857", "resampling": "bilinear"}
    source = shelf.source("striped uint8 x3")
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here = matrix.make(source, matrix.destination(tmp_path / "here", kind), **options)
    there = matrix.destination(tmp_path / "there", kind)
    ran = typed.run(*matrix.words(source, there, **options))
    figure.command, figure.seed = ran.text, sources.SEED
    assert ran.plan["strategy"] == way
    assert ran.plan["tiles"]["output"] >= 9
    assert hashes(tmp_path / "there") == hashes(tmp_path / "here")
    assert _told(ran.plan) == _told(here.plan)
    assert _counted(ran.document["counted"]) == _counted_here(here.outputs)
    figure.measured(f"{len(hashes(tmp_path / 'here'))} files the same")


def _told(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan without what the command sets beside what was predicted."""
    cost = {name: value for name, value in plan["cost"].items() if name != "counted"}
    return {**plan, "cost": cost}


def _counted(told: dict[str, Any]) -> list[Any]:
    return [told["tiles"], told["pieces"]]


def _counted_here(outputs: Outputs) -> list[Any]:
    return [outputs.counted.model_dump(), outputs.pieces_counted.model_dump()]
