"""Where a coordinate system comes round or has no end: the antimeridian and the poles.

PROJ brings every longitude back to within half a turn of the system's own centre. A raster across
that seam is torn in two by it, and gdalwarp then suggests a grid around the whole world; a pole
lies infinitely far away in Mercator's projection and in the polar one of the other side. Here both
are found before a grid is chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from pyproj import CRS, Transformer

from cogmill.errors import Refused
from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.crs import (
    horizontal,
    northing_first,
    transform_points,
    transform_points_back,
)
from cogmill.raster.geometry.grid import Grid

#: Projections in which x is longitude times a constant: they come round as longitudes do.
_CYLINDERS: Final = ("mercator", "cylindrical", "plate", "equirectangular")
_NOT_CYLINDERS: Final = ("transverse", "oblique", "hotine")
#: Web maps end where the Mercator projection of the sphere is a square (OGC TMS 2.0, annex D).
MERCATOR_LATITUDE: Final = 85.0511287798066
_TURN: Final = 360.0
_DEGREE: Final = math.pi / 180
#: Points along each side of a raster that is looked at.
_SIDE: Final = 65
#: A stretch of longitudes without the raster is one from this part of a turn on.
_LEAST_GAP: Final = 1 / 36
#: In radii of the body: no place of a map is that far from its origin, but for a pole at infinity.
_NOWHERE: Final = 16.0
#: In degrees, and in pixels: what rounding errors come to at most.
_ROUNDING: Final = 1e-6
#: How much of a raster may come back to another place than its own.
_SLACK_PIXELS: Final = 1.5


@dataclass(frozen=True, slots=True)
class Cylinder:
    """A system that comes round along x.

    Attributes
    ----------
    period : float
        Length of a turn, in its units.
    centre, meridian : float
        The x of its central meridian, and its longitude in degrees.
    south, north : float
        The y beyond which nothing is put: infinite but for Mercator's projection.
    """

    period: float
    centre: float
    meridian: float
    south: float
    north: float


@lru_cache(maxsize=64)
def cylinder(crs: str) -> Cylinder | None:
    """Return how a system comes round, None where it does not.

    Parameters
    ----------
    crs : str
        WKT.
    """
    flat = horizontal(CRS.from_user_input(crs))
    if flat.is_geographic:
        turn = 2 * math.pi / float(flat.axis_info[0].unit_conversion_factor)
        return Cylinder(turn, 0.0, 0.0, -math.inf, math.inf)
    method = str(getattr(flat.coordinate_operation, "method_name", "")).lower()
    if any(name in method for name in _NOT_CYLINDERS) or flat.geodetic_crs is None:
        return None
    if not any(name in method for name in _CYLINDERS):
        return None
    there: Any = Transformer.from_crs(_degrees(flat), flat, always_xy=True)
    lons = np.arange(-180.0, 180.0)
    xs = np.asarray(there.transform(lons, np.zeros_like(lons))[0])
    ends = [-math.inf, math.inf]
    if "mercator" in method:
        lats = [-MERCATOR_LATITUDE, MERCATOR_LATITUDE]
        ends = [float(each) for each in there.transform([0.0, 0.0], lats)[1]]
    period = float(np.median(np.diff(xs))) * _TURN
    unit = float(flat.axis_info[0].unit_conversion_factor)
    return Cylinder(
        period,
        _parameter(flat, "False easting") / unit,
        _parameter(flat, "Longitude of natural origin") / _DEGREE,
        ends[0],
        ends[1],
    )


def _parameter(crs: CRS, name: str) -> float:
    """Return a projection's parameter in metres or radians, 0 where it has none."""
    params = [] if crs.coordinate_operation is None else crs.coordinate_operation.params
    return sum(float(p.value) * float(p.unit_conversion_factor) for p in params if p.name == name)


@lru_cache(maxsize=64)
def comes_round(source: Grid) -> bool:
    """Whether a source in degrees goes all around the world, but for a pixel at most."""
    flat = horizontal(CRS.from_user_input(source.crs)) if source.crs else None
    # Polynomials do not come round: what places a raster by points has two ends.
    if flat is None or not flat.is_geographic or source.control is not None:
        return False
    left, _, right, _ = source.bounds
    turn = 2 * math.pi / float(flat.axis_info[0].unit_conversion_factor)
    return right - left > turn - 1.5 * (abs(source.transform[1]) + abs(source.transform[2]))


def turned_to_seam(source: Grid, dst_crs: str) -> Grid:
    """Return a source around the world so that it begins at the target's seam.

    For a grid to be chosen: it covers the same, and its corners lie a turn apart in the target.
    """
    round_ = cylinder(dst_crs)
    _, dx, rx, y0, ry, dy = source.transform
    if round_ is None or not comes_round(source) or rx or ry or dx < 0:
        return source
    factor = float(horizontal(CRS.from_user_input(source.crs)).axis_info[0].unit_conversion_factor)
    turn = 2 * math.pi / factor
    west = (round_.meridian * _DEGREE / factor + turn) % turn - turn / 2
    width = min(source.width, math.floor(turn / dx + _ROUNDING))
    return source.model_copy(update={"transform": (west, dx, rx, y0, ry, dy), "width": width})


def pipeline_around_seam(source: Grid, pipeline: str) -> str:
    """Return a pipeline that comes back to a source of longitudes beyond half a turn.

    Parameters
    ----------
    source : Grid
        The source.
    pipeline : str
        From it to the target, in the authorities' axis order.

    Returns
    -------
    str
        The same, but for sources in degrees such as 0 to 360: backwards it ends within half a turn
        of the source's middle.
    """
    flat = horizontal(CRS.from_user_input(source.crs))
    factor = float(flat.axis_info[0].unit_conversion_factor)
    left, _, right, _ = source.bounds
    beyond = max(-left, right) > _TURN / 2 + _ROUNDING
    if not flat.is_geographic or not math.isclose(factor, _DEGREE) or not beyond:
        return pipeline
    return _ended_around(source, pipeline)


def pipeline_of_whole_turns(source: Grid, target: Grid) -> str | None:
    """Return a pipeline that turns longitudes to the source's, where a target needs that.

    Parameters
    ----------
    source, target : Grid
        In the same system.

    Returns
    -------
    str or None
        Backwards it ends within half a turn of the source's middle. None where nothing of the
        source lies a whole turn away from the target, or the system is not in degrees.
    """
    flat = horizontal(CRS.from_user_input(source.crs))
    if not flat.is_geographic or source.control is not None:
        return None
    if not math.isclose(float(flat.axis_info[0].unit_conversion_factor), _DEGREE):
        return None
    (left, _, right, _), (west, _, east, _) = source.bounds, target.bounds
    slack = _ROUNDING + 1.5 * abs(target.transform[1])
    turned = any(
        min(right + turn, east) - max(left + turn, west) > slack for turn in (-_TURN, _TURN)
    )
    return _ended_around(source, "proj=noop") if turned else None


def _ended_around(source: Grid, pipeline: str) -> str:
    """Return a pipeline of a source in degrees that comes back to within half a turn of it."""
    left, _, right, _ = source.bounds
    swap = " step proj=axisswap order=2,1" if northing_first(source.crs) else ""
    bare = " ".join(word.removeprefix("+") for word in pipeline.split())
    rest = bare.removeprefix("proj=pipeline").strip()
    rest = rest if rest.startswith("step") else f"step {rest}"
    return (
        f"proj=pipeline{swap} step proj=unitconvert xy_in=deg xy_out=rad "
        f"step inv proj=longlat ellps=WGS84 lon_wrap={(left + right) / 2!r} "
        f"step proj=unitconvert xy_in=rad xy_out=deg{swap} {rest}"
    )


def refuse_doubled(source: Grid, dst_crs: str, pipeline: str) -> None:
    """Refuse a source of which a part has no way back: those pixels would be lost in silence.

    Raises
    ------
    Refused
        Some of its places come back to others, outside it.
    """
    cols, rows = _places(source)
    ends = source.crs, dst_crs
    there = transform_points(ends, pipeline, *source.position_arrays(cols, rows))
    back = source.place_arrays(*transform_points_back(ends, pipeline, *there))
    with np.errstate(invalid="ignore"):
        off = np.hypot(back[0] - cols, back[1] - rows) > _SLACK_PIXELS
        outside = (back[0] < -_SLACK_PIXELS) | (back[0] > source.width + _SLACK_PIXELS)
        outside |= (back[1] < -_SLACK_PIXELS) | (back[1] > source.height + _SLACK_PIXELS)
        lost = np.isfinite(back[0]) & np.isfinite(back[1]) & off & outside
    if lost.any():
        raise Refused(
            f"about {max(lost.mean() * 100, 1):.0f} % of the raster lies beyond the place where "
            "its coordinate system comes round, and has no way back from the target",
            "cut it there first: gdal_translate -projwin LEFT TOP RIGHT BOTTOM INPUT OUTPUT.tif",
        )


def within_mercator(source: Grid, dst_crs: str) -> Grid:
    """Return the rows of a source in degrees that a Mercator projection has a place for.

    Parameters
    ----------
    source : Grid
        The source.
    dst_crs : str
        The target's system, as WKT.

    Raises
    ------
    Refused
        There are none.
    """
    round_ = cylinder(dst_crs)
    flat = horizontal(CRS.from_user_input(source.crs))
    _, dx, rx, y0, ry, dy = source.transform
    if round_ is None or math.isinf(round_.north) or not flat.is_geographic:
        return source
    if rx or ry or source.control is not None:  # its rows are no parallels
        return source
    limit = MERCATOR_LATITUDE * _DEGREE / float(flat.axis_info[0].unit_conversion_factor)
    ends = sorted(((limit - y0) / dy, (-limit - y0) / dy))
    first = max(0, math.ceil(ends[0]))
    last = min(source.height, math.floor(ends[1]))
    if (first, last) == (0, source.height):
        return source
    if first >= last:
        raise Refused(
            "all of the raster lies where the target's projection has no place, at a pole",
            "name another --dst-crs, such as EPSG:3413 or EPSG:3031",
        )
    top = (source.transform[0], dx, rx, y0 + first * dy, ry, dy)
    return source.model_copy(update={"transform": top, "height": last - first})


def bounds_across_seam(
    source: Grid, dst_crs: str, pipeline: str | None
) -> tuple[float, ...] | None:
    """Return the bounds of a source that lies across the target's seam, None where none does.

    Parameters
    ----------
    source : Grid
        The source.
    dst_crs : str
        The target's system, as WKT.
    pipeline : str or None
        The coordinate operation.

    Returns
    -------
    (float, float, float, float, float) or None
        Left, bottom, right, top in the target's system, going on beyond its seam, and gdalwarp's
        size of a pixel: the diagonal there over that of the source in pixels.
    """
    round_ = cylinder(dst_crs)
    if round_ is None or pipeline is None or _holds_a_pole(source):
        return None
    cols, rows = _places(source)
    xs, ys = transform_points((source.crs, dst_crs), pipeline, *source.position_arrays(cols, rows))
    found = np.isfinite(xs) & np.isfinite(ys)
    if not found.any():
        return None
    ordered = np.sort(xs[found])
    gaps = np.diff(ordered)
    outer = round_.period - float(ordered[-1] - ordered[0])
    if not len(gaps) or gaps.max() <= max(outer, _LEAST_GAP * round_.period):
        return None
    seam = float(ordered[int(gaps.argmax())])
    xs = np.where(xs <= seam, xs + round_.period, xs)
    ys = np.clip(ys, round_.south, round_.north)
    left, right = float(xs[found].min()), float(xs[found].max())
    if (left + right) / 2 > round_.centre + round_.period / 2:
        left, right = left - round_.period, right - round_.period
    bottom, top = float(ys[found].min()), float(ys[found].max())
    # The corners of a disc's image lie nowhere: infinite places, of which Python's floats make NaN.
    diagonal = math.hypot(*(float(each[-1]) - float(each[0]) for each in (xs, ys)))
    if not math.isfinite(diagonal) or diagonal == 0:
        diagonal = math.hypot(right - left, top - bottom)
    return left, bottom, right, top, diagonal / math.hypot(source.width, source.height)


def crosses_seam(grid: Grid) -> bool:
    """Whether a grid goes on beyond the seam of its system by more than a pixel."""
    round_ = cylinder(grid.crs)
    if round_ is None:
        return False
    left, _, right, _ = grid.bounds
    slack = abs(grid.transform[1]) + abs(grid.transform[2])
    half = round_.period / 2 + slack
    return left < round_.centre - half or right > round_.centre + half


def reaches_infinity(grid: Grid) -> bool:
    """Whether a grid reaches where no map does, because a pole lies at infinity."""
    crs = horizontal(CRS.from_user_input(grid.crs))
    if crs.is_geographic or crs.ellipsoid is None:
        return False
    unit = float(crs.axis_info[0].unit_conversion_factor)
    return max(map(abs, grid.bounds)) * unit > _NOWHERE * crs.ellipsoid.semi_major_metre


def _degrees(crs: CRS) -> CRS:
    """Return longitude and latitude in degrees on the body of a projected system."""
    geographic = crs.geodetic_crs
    if geographic is None:
        raise ValueError(f"{crs.name} is on no body")
    return geographic


def _places(source: Grid) -> tuple[Floats, Floats]:
    """Return columns and rows over all of a raster, its corners first and last."""
    cols, rows = np.meshgrid(
        np.linspace(0, source.width, _SIDE), np.linspace(0, source.height, _SIDE)
    )
    return cols.ravel(), rows.ravel()


def _holds_a_pole(source: Grid) -> bool:
    """Whether a pole lies inside a projected source: all longitudes then meet in it."""
    flat = horizontal(CRS.from_user_input(source.crs))
    if flat.is_geographic:
        return False
    there: Any = Transformer.from_crs(_degrees(flat), flat, always_xy=True)
    xs, ys = (np.asarray(each) for each in there.transform([0.0, 0.0], [90.0, -90.0]))
    cols, rows = source.place_arrays(xs, ys)
    inside = (cols > 0) & (cols < source.width) & (rows > 0) & (rows < source.height)
    return bool(inside.any())
