"""Inputs of 1 GB with unlike structures, made here, run whole, and compared with gdalwarp."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window
from tests.harness.command import Mill
from tests.harness.figure import Figure

from cogmill.raster.warp.commands import RESULT

#: Rows written and compared at a time.
BAND = 512
GIGABYTE = 10**9
#: For a loaded machine.
#: Of float32 kernels: what the two versions of GDAL were seen to differ by, relative.
FLOAT_TOLERANCE = 1.2e-7


@dataclass(frozen=True)
class Large:
    """One input: its structure, where it goes, and how it is run."""

    dtype: str
    count: int
    profile: dict[str, Any]
    options: tuple[str, ...]
    nodata: float | None = None

    def side(self, size: int) -> int:
        """Return the side of a square raster of so many decoded bytes."""
        return int((size / self.count / np.dtype(self.dtype).itemsize) ** 0.5) + 13


LARGE = {
    "tiled uint16 x4, deflate, UTM": Large(
        "uint16", 4,
        {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1,
         "predictor": 2, "crs": "EPSG:32633", "transform": Affine(10, 0, 3e5, 0, -10, 5.4e6)},
        ("--dst-crs", "EPSG:3857", "--strategy", "direct"),
    ),
    "float32 by band in strips, LZW, big-endian BigTIFF, degrees": Large(
        "float32", 2,
        {"tiled": False, "blockysize": 7, "compress": "lzw", "interleave": "band",
         "ENDIANNESS": "BIG", "BIGTIFF": "YES", "crs": "EPSG:4326",
         "transform": Affine(1e-4, 0, 10.0, 0, -1e-4, 48.0)},
        ("--dst-crs", "EPSG:3857", "--resampling", "cubic"),
        nodata=-9999,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=LARGE)
def large(
    request: pytest.FixtureRequest, full: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Write one input a band of rows at a time; in full 1 GB, else a fortieth."""
    made = LARGE[request.param]
    side = made.side(GIGABYTE if full else GIGABYTE // 40)
    path = tmp_path_factory.mktemp("large") / "source.tif"
    random = np.random.default_rng(23)
    form = {"driver": "GTiff", "dtype": made.dtype, "count": made.count, "nodata": made.nodata}
    with rasterio.open(path, "w", **form, **made.profile, width=side, height=side) as file:
        for top in range(0, side, BAND):
            rows, cols = np.mgrid[top : min(top + BAND, side), :side]
            wave = 4000 + 3000 * np.sin(cols / 91) * np.cos(rows / 71)
            for band in range(1, made.count + 1):
                pixels = wave + 100 * band + random.integers(0, 64, wave.shape)
                if made.nodata is not None:
                    pixels[(cols + 3 * rows) % 997 < 20] = made.nodata
                window = Window(0, top, side, len(rows))
                file.write(pixels.astype(made.dtype), band, window=window)
    yield request.param, path
    path.unlink()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.external("gdalwarp", "gdal_translate")
def test_a_large_raster_gives_the_pixels_that_gdalwarp_gives(
    large: tuple[str, Path], mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    name, source = large
    options = (*LARGE[name].options, "--co", "LEVEL=1", "--memory", "2GB", "--workers", 2)
    ran = mill.run(source, tmp_path / "out.tif", *options)
    for command in ran.plan["gdalwarp"]:
        subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path, capture_output=True)
    values, differing, worst = compared(tmp_path / "out.tif", tmp_path / RESULT)
    seconds = ran.document["seconds"]
    figure.command = ran.text
    figure.measured(
        f"{source.stat().st_size / 1e9:.2f} GB on disk in {seconds:.0f} s: {differing} of "
        f"{values:,} values differ, by {worst:.2g} at most (relative)",
        f"integers 0, floats {FLOAT_TOLERANCE}",
    )
    assert worst <= (FLOAT_TOLERANCE if LARGE[name].dtype == "float32" else 0)
    assert values > 10**6


def compared(ours: Path, theirs: Path) -> tuple[int, int, float]:
    """Return how many values there are, how many differ, and the largest relative difference.

    Bands that only one has are alpha: where it is 0, and where ours is masked, must be the same.
    """
    values = differing = 0
    worst = 0.0
    with rasterio.open(ours) as mine, rasterio.open(theirs) as other:
        assert mine.shape == other.shape
        bands = list(mine.indexes)
        for top in range(0, mine.height, BAND):
            window = Window(0, top, mine.width, min(BAND, mine.height - top))
            left, right = mine.read(window=window), other.read(bands, window=window)
            if other.count > mine.count:
                alpha = other.read(other.count, window=window) != 0
                np.testing.assert_array_equal(mine.dataset_mask(window=window) != 0, alpha)
            values += left.size
            unlike = left != right
            if unlike.any():
                differing += int(unlike.sum())
                a, b = left[unlike].astype(float), right[unlike].astype(float)
                worst = max(worst, float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-30))))
    return values, differing, worst
