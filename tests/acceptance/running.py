"""Runs the command as a user does, in a process of its own, and reads what it left."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.windows import Window

from cogmill.core_machine.state.embedded.server import EmbeddedServer

Array = npt.NDArray[Any]
SECONDS = 100


@dataclass(frozen=True)
class Ran:
    """What a command said and did."""

    command: tuple[str, ...]
    exit_code: int
    document: dict[str, Any]
    said: str

    @property
    def plan(self) -> dict[str, Any]:
        return dict(self.document["plan"])

    @property
    def outputs(self) -> dict[str, Any]:
        return dict(self.document["outputs"])

    @property
    def text(self) -> str:
        """What a person would type."""
        return " ".join(("cogmill", *self.command))


class Mill:
    """The command, with one home for the session, so that one embedded server serves all."""

    def __init__(self) -> None:
        self._server = EmbeddedServer(Path(os.environ["COGMILL_HOME"]))

    def __call__(
        self, *arguments: object, plant: Path | None = None, seconds: float = SECONDS
    ) -> Ran:
        """Run ``cogmill ARGUMENTS --json`` and return what came of it.

        `plant` is a folder with a ``sitecustomize.py`` that breaks the program on purpose.
        """
        command = tuple(str(argument) for argument in arguments)
        environment = dict(os.environ)
        if plant is not None:
            paths = [str(plant), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        done = subprocess.run(
            [sys.executable, "-m", "cogmill.cli.main", *command, "--json"],
            capture_output=True,
            text=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        document = json.loads(lines[-1]) if lines else {}
        return Ran(command, done.returncode, document, done.stderr)

    def run(self, *arguments: object, plant: Path | None = None, seconds: float = SECONDS) -> Ran:
        """Run a job that has to be successful."""
        ran = self("run", *arguments, plant=plant, seconds=seconds)
        assert ran.exit_code == 0, f"{ran.text}\n{ran.said}\n{ran.document}"
        assert ran.document["status"] == "successful"
        return ran

    def inspect(self, *arguments: object) -> Ran:
        """Inspect a raster that has to be readable."""
        ran = self("inspect", *arguments)
        assert ran.exit_code == 0, f"{ran.text}\n{ran.said}\n{ran.document}"
        return ran

    def remove(self) -> None:
        """Stop the session's server and delete its data."""
        self._server.remove()


@pytest.fixture(scope="session")
def mill() -> Iterator[Mill]:
    """Give the command, and remove the server that it started at the end."""
    found = Mill()
    yield found
    found.remove()


@dataclass(frozen=True)
class Picture:
    """Pixels of a whole raster, (band, row, col), and its mask, where it has one."""

    pixels: Array
    mask: Array | None
    colors: tuple[str, ...] = field(default=(), compare=False)


def result(destination: str, grid: dict[str, Any]) -> Picture:
    """Read a result that covers the whole target grid: one COG, or all tiles of a mosaic.

    A tile that was not written has no valid pixel, so it is filled as the others are.
    """
    if not destination.endswith("/"):
        with rasterio.open(destination) as dataset:
            assert (dataset.width, dataset.height) == (grid["width"], grid["height"])
            assert dataset.transform.to_gdal() == tuple(grid["transform"])
            return _picture(dataset)
    pixels: Array | None = None
    mask: Array | None = None
    for path in sorted(Path(destination).glob("*.tif")):
        with rasterio.open(path) as dataset:
            part = _picture(dataset)
            left, top = place(dataset.transform, grid)
        if pixels is None:
            shape = (grid["height"], grid["width"])
            pixels = np.full((len(part.pixels), *shape), _fill(path), part.pixels.dtype)
            mask = None if part.mask is None else np.zeros(shape, np.uint8)
        area = slice(top, top + part.pixels.shape[1]), slice(left, left + part.pixels.shape[2])
        pixels[:, *area] = part.pixels
        if mask is not None and part.mask is not None:
            mask[area] = part.mask
    assert pixels is not None, f"{destination} holds no tile"
    return Picture(pixels, mask)


def place(transform: Any, grid: dict[str, Any]) -> tuple[int, int]:
    """Return the column and row of a tile's corner on the grid."""
    x0, dx, _, y0, _, dy = grid["transform"]
    return round((transform.c - x0) / dx), round((transform.f - y0) / dy)


def _picture(dataset: Any) -> Picture:
    flags = dataset.mask_flag_enums[0]
    per_dataset = rasterio.enums.MaskFlags.per_dataset in flags
    alpha = rasterio.enums.MaskFlags.alpha in flags
    mask = dataset.read_masks(1) if per_dataset and not alpha else None
    return Picture(dataset.read(), mask, tuple(each.name for each in dataset.colorinterp))


def _fill(path: Path) -> float:
    with rasterio.open(path) as dataset:
        return 0.0 if dataset.nodata is None else float(dataset.nodata)


def differing(found: Picture, expected: Picture) -> int:
    """Return how many pixels, and places of the mask, are not the same to the last bit."""
    assert found.pixels.shape == expected.pixels.shape
    assert found.pixels.dtype == expected.pixels.dtype
    assert (found.mask is None) == (expected.mask is None)
    same = (found.pixels == expected.pixels) | both_nan(found.pixels, expected.pixels)
    count = int((~same).sum())
    if found.mask is not None and expected.mask is not None:
        count += int((found.mask != expected.mask).sum())
    return count


def both_nan(one: Array, other: Array) -> npt.NDArray[np.bool_]:
    if one.dtype.kind not in "fc":
        return np.zeros(one.shape, bool)
    return np.asarray(np.isnan(one) & np.isnan(other))


def hashes(destination: Path) -> dict[str, str]:
    """Return SHA-256 by name of every file of a destination, hidden ones too."""
    files = [destination] if destination.is_file() else sorted(destination.rglob("*"))
    root = destination.parent if destination.is_file() else destination
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }


def windows(width: int, height: int, side: int) -> Iterator[Window]:
    for row in range(0, height, side):
        for col in range(0, width, side):
            yield Window(col, row, min(side, width - col), min(side, height - row))


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
