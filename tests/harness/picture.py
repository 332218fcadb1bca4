"""A result as a picture: pixels of a whole grid, their mask, and how two of them differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """Pixels of a whole raster, (band, row, col), and its mask, where it has one."""

    pixels: Array
    mask: Array | None
    colors: tuple[str, ...] = field(default=(), compare=False)

    def save(self, folder: Path) -> None:
        """Keep pixels and mask in a folder."""
        np.save(folder / "pixels.npy", self.pixels)
        if self.mask is not None:
            np.save(folder / "mask.npy", self.mask)

    @classmethod
    def load(cls, folder: Path) -> Picture:
        """Return what was kept there."""
        mask = folder / "mask.npy"
        return cls(np.load(folder / "pixels.npy"), np.load(mask) if mask.exists() else None)


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
