"""A job that lies on another raster's grid: who it is, from a real preflight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from cogmill.core_machine.contracts import Preflight
from cogmill.errors import Refused
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.prepared import Prepared
from cogmill.job_types.raster_to_cog.request import raster_inputs
from cogmill.runtime import tools
from cogmill.settings import Settings


def write(path: Path, corner: float, value: int, compress: str = "none") -> Path:
    """Write 97 x 83 pixels of 10 m in UTM."""
    affine = rasterio.Affine(10, 0, corner, 0, -10, 5e6)
    kind: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": compress}
    with rasterio.open(
        path, "w", crs="EPSG:32633", transform=affine, width=97, height=83, **kind
    ) as file:
        file.write(np.full((1, 83, 97), value, np.uint8))
    return path


def asked(source: Path, like: str) -> tuple[Inputs, Preflight]:
    with tools(Settings.load(), lambda done: None, memory=512 << 20) as parts:
        inputs = raster_inputs(str(source), None, {"like": like}, parts.storage)
        return inputs, RasterToCog().preflight(inputs, None, parts)


def test_a_reference_counts_by_its_grid_and_not_by_what_else_is_in_it(tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif", 3e5, 1)
    like = write(tmp_path / "ref.tif", 3e5 + 35, 2)
    _, first = asked(source, str(like))
    grid = Prepared.model_validate(first.prepared).plan.target_grid
    assert (grid.transform[0], grid.width, grid.height) == (3e5 + 35, 97, 83)
    write(like, 3e5 + 35, 3, "deflate")
    _, again = asked(source, str(like))
    assert (again.source_identity, again.plan_identity) == (
        first.source_identity,
        first.plan_identity,
    )
    copied = write(tmp_path / "other.tif", 3e5 + 35, 9)
    assert asked(source, str(copied))[1].source_identity == first.source_identity
    write(like, 3e5 + 45, 2)
    _, moved = asked(source, str(like))
    assert moved.source_identity != first.source_identity
    assert moved.plan_identity != first.plan_identity


def test_a_reference_is_named_by_an_absolute_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.tif", 3e5, 1)
    write(tmp_path / "ref.tif", 3e5 + 35, 2)
    monkeypatch.chdir(tmp_path)
    inputs, _ = asked(source, "ref.tif")
    assert inputs.like is not None
    assert inputs.like.endswith(str(tmp_path / "ref.tif"))


def test_a_reference_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif", 3e5, 1)
    with pytest.raises(Refused, match=r"gone\.tif does not exist"):
        asked(source, str(tmp_path / "gone.tif"))
