"""Rasters placed by control points or rational polynomials, and their warps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from tests.harness.reference import HEIGHT, KINDS, WIDTH, suggested

from cogmill.raster.geometry.control import (
    NOT_COEFFICIENTS,
    Control,
    ControlPoint,
    Rational,
    control_by_points,
)
from cogmill.raster.geometry.crs import crs_text
from cogmill.raster.geometry.elevation import elevation_of
from cogmill.raster.geometry.grid import PIXELS, Grid
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp import footprint as footprints
from cogmill.raster.warp.warp_spec import WarpSpec

#: As on real satellites: a skew, a curve, and terms of the denominators.
_LINE_NUM = (
    2.0e-3, -0.186, -1.128, -4.6e-3, 1.0e-3, 5.7e-6, -8.7e-6, -3.2e-3, -1.3e-3, 0.0,
    1.2e-6, -7.1e-5, 2.0e-5, 8.3e-6, -1.2e-4, -1.1e-5, 5.0e-6, 0.0, 1.7e-6, 0.0,
)  # fmt: skip
_LINE_DEN = (1.0, 9.2e-4, 9.4e-4, 0.0, 3.2e-5, 0.0, -1.2e-6, 1.8e-4, *[0.0] * 12)
_SAMP_NUM = (
    2.2e-2, 1.186, -0.215, 3.0e-2, 2.4e-3, -4.4e-5, 5.9e-4, -2.2e-2, -4.2e-4, -2.8e-5,
    -7.1e-6, -1.1e-4, -1.1e-4, -1.1e-4, 1.2e-4, 1.4e-5, 2.0e-5, 2.7e-5, -1.2e-6, -3.0e-6,
)  # fmt: skip
_SAMP_DEN = (1.0, 9.3e-5, 1.8e-3, -6.5e-4, -2.2e-4, *[0.0] * 15)


def rational(width: int = WIDTH, height: int = HEIGHT, *, at: float = 350.0) -> Rational:
    """Return the polynomials of a raster of this size, about 40 km wide, seen aslant."""
    return Rational(
        line_off=height / 2 - 0.5, samp_off=width / 2 - 0.5, lat_off=49.2, long_off=-123.2,
        height_off=89.0, line_scale=height / 2, samp_scale=width / 2, lat_scale=0.31,
        long_scale=0.45, height_scale=701.0, line_num_coeff=_LINE_NUM, line_den_coeff=_LINE_DEN,
        samp_num_coeff=_SAMP_NUM, samp_den_coeff=_SAMP_DEN, height=at,
    )  # fmt: skip


def points(
    width: int = WIDTH, height: int = HEIGHT, *, side: int = 5, noise: float = 2e-5, seed: int = 0
) -> tuple[ControlPoint, ...]:
    """Return control points in degrees: rotated, bent, and a little wrong (`noise` in degrees)."""
    rng = np.random.default_rng(seed)
    found = []
    for row in np.linspace(0, height, side):
        for col in np.linspace(0, width, side):
            u, v = col / 1e3, row / 1e3
            x = 12.0 + 0.95 * u + 0.3 * v + 0.12 * u * v - 0.05 * v * v + 0.04 * u**3
            y = 47.0 - 0.9 * v + 0.25 * u + 0.1 * u * u - 0.03 * u * v * v
            x, y = (float(each + rng.normal(0, noise)) for each in (x, y))
            found.append((float(col), float(row), x, y, 0.0))
    return tuple(found)


def control(how: str) -> Control:
    """Return what places a raster: ``1``, ``2``, ``3``, ``tps`` or ``rpc``."""
    return rational() if how == "rpc" else control_by_points(points(), how, "a raster")


def write_dem(
    path: Path, *, relief: float = 300.0, hole: bool = False, crs: str = "EPSG:4326", **more: Any
) -> Path:
    """Write ground that is rough, around `rational`'s raster; perhaps with a hole within it."""
    rng = np.random.default_rng(5)
    rows, cols = np.mgrid[:700, :1000]
    heights = 400 + relief * np.sin(cols / 40) * np.cos(rows / 55) + rng.normal(0, 9, cols.shape)
    if hole:
        heights[350, 500] = -9999
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": 1000, "height": 700, "count": 1, "dtype": "float32",
        "nodata": -9999, "crs": crs, "transform": Affine(0.00131, 0, -123.85, 0, -0.00131, 49.66),
    }  # fmt: skip
    with rasterio.open(path, "w", **{**profile, **more}) as file:
        file.write(heights.astype(file.dtypes[0]), 1)
    return path


def on_the_ground(spec: WarpSpec, dem: Path) -> WarpSpec:
    """Return the warp by the same rational polynomials on a DEM, to the same grid."""
    assert isinstance(spec.source.control, Rational)
    size = spec.source.width, spec.source.height
    ground, _ = elevation_of(str(dem), "the DEM", spec.source.control, size)
    placed = spec.source.control.model_copy(update={"elevation": ground, "height": ground.middle})
    return spec.model_copy(update={"source": spec.source.model_copy(update={"control": placed})})


def source_grid(how: str, crs: str = "EPSG:4326") -> Grid:
    return Grid(
        crs=crs_text(crs), transform=PIXELS, width=WIDTH, height=HEIGHT, control=control(how)
    )


def make_spec(
    how: str, resampling: str, kind: str = "uint8x3", dst: str = "EPSG:3857", scale: float = 1.0
) -> WarpSpec:
    """Return the warp of a raster placed by points to the grid that a job would choose."""
    return suggested(source_grid(how), dst, KINDS[kind], resampling, scale)


def forget() -> None:
    footprints.footprint.cache_clear()
    footprints._needs.cache_clear()


def write(path: Path, spec: WarpSpec, held: HeldPixels) -> None:
    """Write the source with what places it, and a transform of elsewhere where it has points."""
    control = spec.source.control
    assert control is not None
    placed: dict[str, object] = {}
    if isinstance(control, Rational):
        placed["rpcs"] = RPC(**control.model_dump(exclude=NOT_COEFFICIENTS))
    else:
        placed["gcps"] = [
            GroundControlPoint(row, col, x, y, z) for col, row, x, y, z in control.points
        ]
        placed["crs"] = spec.source.crs
    size = {"width": spec.source.width, "height": spec.source.height}
    with rasterio.open(
        path, "w", driver="GTiff", count=len(held.pixels), dtype=spec.dtype, **size, **placed
    ) as file:
        file.write(held.pixels)
