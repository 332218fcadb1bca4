"""Where a window lies on Earth, for indexes that people and other software read."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import pyproj
from pyproj.exceptions import ProjError

from cogmill.raster.geometry.grid import Grid, Window

#: Points along each edge of a window, its corners among them.
_POINTS: Final = 9
_POLYGON: Final = 3


def window_outline(grid: Grid, window: Window) -> tuple[tuple[float, float], ...]:
    """Return the outline of a window as longitude and latitude in degrees, WGS 84.

    For an index only: no pixel depends on it, so PROJ may choose its operation.

    Parameters
    ----------
    grid : Grid
        With a coordinate system.
    window : Window
        Pixels of the grid.

    Returns
    -------
    tuple of (float, float)
        Counter-clockwise on a north-up grid, open; points that PROJ cannot place are left out.
        Empty where fewer than three remain, as around the whole disc that a satellite sees, and
        where the system is not one of the Earth.
    """
    degrees = _to_degrees(grid.crs)
    if degrees is None:
        return ()
    along = np.linspace(0.0, 1.0, _POINTS)[:-1]
    still, back = np.zeros_like(along), 1.0 - along
    across = np.concatenate([still, along, still + 1.0, back])
    down = np.concatenate([along, still + 1.0, back, still])
    places = [
        grid.position(window.col_off + a * window.width, window.row_off + d * window.height)
        for a, d in zip(across.tolist(), down.tolist(), strict=True)
    ]
    xs, ys = degrees.transform(*np.array(places).T)
    found = tuple(
        (float(x), float(y))
        for x, y in zip(xs, ys, strict=True)
        if np.isfinite(x) and np.isfinite(y)
    )
    return found if len(found) >= _POLYGON else ()


@lru_cache(maxsize=4)
def _to_degrees(crs: str) -> pyproj.Transformer | None:
    try:
        return pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    except ProjError:
        # Another planet, or an engineer's local system: its pixels may be copied all the same.
        return None
