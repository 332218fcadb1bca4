"""Whether GDAL's PROJ, which moves the pixels, agrees with pyproj's, which plans for it.

GDAL has no call that takes points through a given operation. So a small raster whose values are
its own columns and rows is warped with it: bilinear interpolation of a ramp is the place itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError

from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.crs import (
    lattice,
    metres_per_unit,
    transform_points,
    transform_points_back,
)
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.warp_document import frame_xml, warped_xml
from cogmill.raster.warp.warp_spec import WarpSpec

_SIDE: Final = 32
_ROOM: Final = 0.05
_EVERYTHING: Final = 1000


def proj_disagreement(ends: tuple[str, str], pipeline: str, places: tuple[Floats, Floats]) -> float:
    """Return how far apart GDAL and pyproj put the same points, at most, in metres.

    Parameters
    ----------
    ends : (str, str)
        From which system and to which, as WKT.
    pipeline : str
        The operation, in the authorities' axis order.
    places : (ndarray, ndarray)
        x and y in the system from which, around which is probed.

    Returns
    -------
    float
        In metres of the system from which; infinite where GDAL finds no way.
    """
    target_places = transform_points(ends, pipeline, *places)
    source = _grid_over(ends[0], places)
    target = _grid_over(ends[1], target_places)
    if source is None or target is None:
        return float("inf")
    spec = WarpSpec(
        source=source,
        target=target,
        resampling="bilinear",
        coordinate_operation=pipeline,
        dtype="float64",
        bands=2,
    )
    ramp = np.stack(np.meshgrid(np.arange(_SIDE) + 0.5, np.arange(_SIDE) + 0.5))
    held = HeldPixels(window=source.window, pixels=np.ascontiguousarray(ramp), mask=None)
    document = warped_xml(spec, frame_xml(spec, held), _EVERYTHING, 1)
    try:
        with rasterio.open(document) as dataset:
            # GDAL writes nothing where no place leads to the source.
            cols, rows = dataset.read(out=np.full((2, dataset.height, dataset.width), np.nan))
    except RasterioIOError:
        return float("inf")
    centres = lattice((0.5, _SIDE - 0.5, _SIDE - 0.5, 0.5), _SIDE)
    xs, ys = transform_points_back(ends, pipeline, *target.position_arrays(*centres))
    expected = source.place_arrays(xs, ys)
    # The kernel is a ramp's value only where it lies within the ramp.
    inner = np.logical_and.reduce(
        [(each >= 1) & (each <= _SIDE - 1) for each in expected]  # NaN compares as False
    )
    if not inner.any():
        return float("inf")
    found = cols.ravel()[inner], rows.ravel()[inner]
    if not (np.isfinite(found[0]).all() and np.isfinite(found[1]).all()):
        return float("inf")
    _, dx, _, _, _, dy = source.transform
    apart = np.hypot((found[0] - expected[0][inner]) * dx, (found[1] - expected[1][inner]) * dy)
    return float(apart.max()) * metres_per_unit(ends[0])


def _grid_over(crs: str, places: tuple[Floats, Floats]) -> Grid | None:
    xs, ys = (each[np.isfinite(places[0]) & np.isfinite(places[1])] for each in places)
    if not len(xs):
        return None
    left, right = _stretched(float(xs.min()), float(xs.max()))
    bottom, top = _stretched(float(ys.min()), float(ys.max()))
    return Grid(
        crs=crs,
        transform=(left, (right - left) / _SIDE, 0.0, top, 0.0, (bottom - top) / _SIDE),
        width=_SIDE,
        height=_SIDE,
    )


def _stretched(low: float, high: float) -> tuple[float, float]:
    """Return a stretch with some room on both sides, never empty."""
    room = max((high - low) * _ROOM, abs(high) * 1e-9, 1e-6)
    return low - room, high + room
