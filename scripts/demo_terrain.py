"""Draws a fractal landscape as a striped, pixel-interleaved RGB GeoTIFF in UTM: the demo's raster.

    python scripts/demo_terrain.py FILE.tif [--size 10000] [--seed 7]

Same seed, same bytes. Rows are made in bands, so memory does not grow with the size.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

Floats = npt.NDArray[np.float32]

BAND_ROWS = 256
STRIP_ROWS = 16
PIXEL = 10.0
# In the Alps, two and a half degrees off the central meridian of zone 33: rows of EPSG:3857 run
# across many rows of this grid there.
CENTRE_EAST, CENTRE_NORTH = 311_000.0, 5_230_000.0
NODATA = 0
# Height above the lowest point (0 to 1) and the colour there.
RAMP = (
    (0.00, (54, 92, 112)),
    (0.16, (88, 118, 84)),
    (0.34, (126, 138, 92)),
    (0.52, (146, 124, 96)),
    (0.70, (134, 124, 120)),
    (0.84, (214, 214, 216)),
    (1.00, (250, 250, 252)),
)
LEVELS = 1024


def lattice(rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], salt: int) -> Floats:
    """Return a random height in [0, 1) for each lattice point; the same one whoever asks.

    Splitmix64's finaliser over the point's address (Steele, Lea, Flood 2014).
    """
    word = (rows[:, None].astype(np.uint64) << np.uint64(32)) ^ cols[None, :].astype(np.uint64)
    word = word + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word = word ^ (word >> np.uint64(31))
    return ((word >> np.uint64(40)).astype(np.float32) / np.float32(2**24)).astype(np.float32)


def fade(position: Floats) -> Floats:
    """Ease between two lattice points without a crease."""
    eased = position**3 * (position * (position * 6 - 15) + 10)
    return eased.astype(np.float32, copy=False)


def octave(first: int, rows: int, width: int, cell: int, salt: int) -> Floats:
    """Return one octave of gradient noise over some rows of pixels, about -0.7 to 0.7."""
    points, columns = np.arange(first, first + rows), np.arange(width)
    low, left = points // cell, columns // cell
    turn = lattice(np.arange(low[0], low[-1] + 2), np.arange(left[-1] + 2), salt)
    turn *= np.float32(2 * math.pi)
    x = ((columns % cell) / cell).astype(np.float32)
    y = ((points % cell) / cell).astype(np.float32)[:, None]
    # Along x once a line of the lattice: what is left for each pixel is one blend along y.
    east, south = np.cos(turn), np.sin(turn)
    across = fade(x)
    slant = east[:, left] * x * (1 - across) + east[:, left + 1] * (x - 1) * across
    steep = south[:, left] * (1 - across) + south[:, left + 1] * across
    above, below = low - low[0], low - low[0] + 1
    upper = slant[above] + steep[above] * y
    lower: Floats = slant[below] + steep[below] * (y - 1)
    lower -= upper
    lower *= fade(y)
    lower += upper
    return lower


def heights(first: int, rows: int, size: int, seed: int) -> Floats:
    """Return heights of some rows: ridges where octaves are folded, valleys between."""
    total = np.zeros((rows, size), np.float32)
    cell, weight = 2 ** max(3, round(math.log2(size / 4))), np.float32(0.5)
    number = 0
    while cell >= 4:
        noise = octave(first, rows, size, cell, seed * 64 + number)
        if number < 5:
            # Folded at the middle, so that crests are sharp.
            noise = np.float32(0.5) - np.abs(noise)
        noise *= weight
        total += noise
        weight *= np.float32(0.5)
        cell //= 2
        number += 1
    return total


def colours() -> npt.NDArray[np.float32]:
    """Return the colour of each level, shape (level, 3)."""
    at = np.linspace(0, 1, LEVELS)
    stops = [stop for stop, _ in RAMP]
    bands = [np.interp(at, stops, [colour[band] for _, colour in RAMP]) for band in range(3)]
    return np.stack(bands, axis=1).astype(np.float32)


def collar(first: int, rows: int, size: int) -> npt.NDArray[np.bool_]:
    """Return where the scene is: a swath turned against the grid, with a ragged edge."""
    y = (np.arange(first, first + rows, dtype=np.float32)[:, None] / size) - 0.5
    x = (np.arange(size, dtype=np.float32)[None, :] / size) - 0.5
    angle = math.radians(11)
    along = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
    across = y * np.float32(math.cos(angle)) - x * np.float32(math.sin(angle))
    ragged = np.float32(0.004) * np.sin(y * np.float32(160)).astype(np.float32)
    inside: npt.NDArray[np.bool_] = (np.abs(along + ragged) < 0.43) & (np.abs(across) < 0.44)
    return inside


def bands_of_rows(size: int, seed: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield the first row and the pixels, shape (3, rows, size), band after band."""
    table = colours()
    for first in range(0, size, BAND_ROWS):
        rows = min(BAND_ROWS, size - first)
        # One row and one column more than drawn: the light needs the slope.
        height = heights(first, rows + 1, size + 1, seed)
        slope_x = (height[:-1, 1:] - height[:-1, :-1]) * np.float32(size * 0.16)
        slope_y = (height[1:, :-1] - height[:-1, :-1]) * np.float32(size * 0.16)
        # Light from the north-west, half above the horizon.
        light = (np.float32(0.75) - slope_x * np.float32(0.45) - slope_y * np.float32(0.45)) / (
            np.sqrt(np.float32(1) + slope_x * slope_x + slope_y * slope_y)
        )
        light = np.clip(light, np.float32(0.18), np.float32(1.25))
        level = np.clip((height[:-1, :-1] - 0.12) * (LEVELS / 0.36), 0, LEVELS - 1).astype(np.int16)
        inside = collar(first, rows, size)
        pixels = np.empty((3, rows, size), np.uint8)
        for band in range(3):
            shaded = np.clip(table[:, band][level] * light, 1, 255)
            pixels[band] = np.where(inside, shaded, NODATA).astype(np.uint8)
        yield first, pixels


def write(path: Path, size: int, seed: int) -> None:
    """Write the raster; a file of that name is whole, whenever it is seen."""
    half = size * PIXEL / 2
    unfinished = path.with_suffix(".part")
    with rasterio.open(
        unfinished,
        "w",
        driver="GTiff",
        width=size,
        height=size,
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=from_origin(CENTRE_EAST - half, CENTRE_NORTH + half, PIXEL, PIXEL),
        nodata=NODATA,
        photometric="RGB",
        interleave="pixel",
        tiled=False,
        blockysize=STRIP_ROWS,
    ) as raster:
        for first, pixels in bands_of_rows(size, seed):
            raster.write(pixels, window=Window(0, first, size, pixels.shape[1]))
    unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    write(asked.path, asked.size, asked.seed)


if __name__ == "__main__":
    main()
