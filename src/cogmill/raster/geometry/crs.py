"""Coordinate systems: their one spelling, their axes, and points taken through a pipeline."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from pyproj.enums import TransformDirection
from pyproj.exceptions import CRSError, ProjError

from cogmill.errors import Refused
from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.grid import Grid

#: West, south, east, north in degrees; west is greater than east across the antimeridian.
LonLatArea = tuple[float, float, float, float]

_LONG_TEXT: Final = 60
_HALF_TURN: Final = 180.0
#: Points along each side of a raster whose footprint is looked for.
_FOOTPRINT_SIDE: Final = 33
_EARTH_RADIUS: Final = 6.378e6
#: Radii of all ellipsoids of one body lie closer together than this part, and those of no two.
_SAME_BODY: Final = 0.01
#: A stretch of longitudes in which no point of a raster lies is one from so many degrees on.
_LEAST_GAP: Final = 15.0


def crs_text(text: str, option: str = "--src-crs") -> str:
    """Return one spelling (WKT2) of a coordinate system, however it was named.

    Parameters
    ----------
    text : str
        An authority's code such as ``EPSG:3857``, WKT, PROJJSON or a PROJ string.
    option : str, optional
        What a remedy tells the user to change.

    Returns
    -------
    str
        WKT2:2019. Where an authority defines the same system, its own definition is returned, so
        that equal systems have equal text.

    Raises
    ------
    Refused
        The text names no system, or one that places nothing on a map: vertical, geocentric, local.
    """
    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        shown = text if len(text) <= _LONG_TEXT else f"{text[:_LONG_TEXT]}..."
        raise Refused(
            f"{shown!r} is no coordinate system that PROJ knows",
            f"give {option} an authority's code such as EPSG:3857, WKT, or a PROJ string",
        ) from error
    if not (horizontal(crs).is_projected or horizontal(crs).is_geographic):
        raise Refused(
            f"{crs.name} ({crs.type_name}) has no place on a map of the Earth",
            f"name a geographic or projected one with {option}",
        )
    return str(_by_code(crs).to_wkt())


def _by_code(crs: CRS) -> CRS:
    """Return the system that an authority defines under the code of this one, else the same.

    A code says more than the words beside it, which change from one version of PROJ's database to
    the next: EPSG:3067 is of the datum ETRS89 in one, and of EUREF-FIN in another.
    """
    if crs.is_bound:
        return crs
    identity = crs.to_json_dict().get("id")
    if identity is not None:
        with suppress(CRSError):
            known = CRS.from_authority(identity["authority"], identity["code"])
            if differ_in_words_alone(known, crs):
                return known
    authority = crs.to_authority(min_confidence=100)
    return CRS.from_authority(*authority) if authority else crs


def differ_in_words_alone(one: CRS, other: CRS) -> bool:
    """Whether two systems of one code have the same numbers: a file may have a code that lies."""

    def numbers(crs: CRS) -> tuple[object, ...]:
        flat = horizontal(crs)
        operation, ellipsoid = flat.coordinate_operation, flat.ellipsoid
        params = () if operation is None else operation.params
        return (
            flat.is_projected,
            None if ellipsoid is None else ellipsoid.semi_major_metre,
            None if ellipsoid is None else round(ellipsoid.inverse_flattening, 6),
            sorted((each.code or each.name, round(float(each.value), 9)) for each in params),
            [axis.unit_conversion_factor for axis in flat.axis_info],
        )

    return numbers(one) == numbers(other)


def authority_code(crs: str) -> tuple[str, str] | None:
    """Return the authority and the code that a system names as its own, None where it names none.

    Parameters
    ----------
    crs : str
        As WKT.
    """
    try:
        identity = CRS.from_user_input(crs).to_json_dict().get("id")
    except CRSError:
        return None
    return None if identity is None else (str(identity["authority"]), str(identity["code"]))


def same_crs(one: str, other: str) -> bool:
    """Whether two texts mean one coordinate system, whatever the order of its axes."""
    if one == other:
        return True
    first, second = CRS.from_user_input(one), CRS.from_user_input(other)
    return bool(first.equals(second, ignore_axis_order=True))


def horizontal(crs: CRS) -> CRS:
    """Return the part of a system that places things on the map, without heights."""
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    return crs.source_crs if crs.is_bound and crs.source_crs is not None else crs


def without_heights(crs: CRS) -> CRS:
    """Return a system without its heights, and otherwise as it is: bound to a datum shift, say."""
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    return crs.to_2d()


def height_warnings(src_crs: str, dst_crs: str) -> tuple[str, ...]:
    """Return warnings of what becomes of the vertical part of a system: pixels are not heights.

    Parameters
    ----------
    src_crs, dst_crs : str
        As WKT.

    Raises
    ------
    Refused
        The target would say of the pixels that they are heights that they are not.
    """
    source, target = (_vertical(CRS.from_user_input(crs)) for crs in (src_crs, dst_crs))
    if target is not None and target != source:
        raise Refused(
            f"the target's coordinate system has heights ({target}), the source's "
            f"{'has ' + source if source else 'none'}, and values of pixels are never shifted",
            "name the horizontal part alone with --dst-crs",
        )
    if source is not None and target is None:
        return (f"values stay as they are ({source}), and the output's system has no heights",)
    return ()


def _vertical(crs: CRS) -> str | None:
    if crs.is_compound:
        return str(crs.sub_crs_list[1].name)
    flat = horizontal(crs)
    return "ellipsoidal height" if len(flat.axis_info) > 2 else None


@lru_cache(maxsize=64)
def northing_first(crs: str) -> bool:
    """Whether an authority's axis order puts north before east, which GIS software turns around.

    Parameters
    ----------
    crs : str
        WKT or an authority's code.
    """
    axes = horizontal(CRS.from_user_input(crs)).axis_info
    first, second = (axis.direction.lower() for axis in axes[:2])
    if (first, second) == ("north", "east"):
        return True
    # Around a pole both axes point the same way; only their names tell them apart.
    polar = first == second and first in {"north", "south"}
    return polar and axes[0].name.lower().startswith("northing")


def metres_per_unit(crs: str) -> float:
    """Return how long one unit of a system is, along a meridian for angles."""
    flat = horizontal(CRS.from_user_input(crs))
    factor = float(flat.axis_info[0].unit_conversion_factor)
    radius = _EARTH_RADIUS if flat.ellipsoid is None else flat.ellipsoid.semi_major_metre
    return factor * float(radius) if flat.is_geographic else factor


@lru_cache(maxsize=64)
def _pipeline(text: str) -> Transformer:
    return Transformer.from_pipeline(text)


def transform_points(
    ends: tuple[str, str], pipeline: str | None, xs: npt.ArrayLike, ys: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Take points from one system to another, x before y at both ends.

    Parameters
    ----------
    ends : (str, str)
        The systems from which and to which, as WKT.
    pipeline : str or None
        What leads there, in the authorities' axis order. None: both systems are the same.
    xs, ys : array
        Of one shape.

    Returns
    -------
    xs, ys : ndarray
        Of that shape; infinite where a point cannot be taken there.
    """
    return _points(ends, pipeline, (xs, ys), TransformDirection.FORWARD)


def transform_points_back(
    ends: tuple[str, str], pipeline: str | None, xs: npt.ArrayLike, ys: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Take points the other way: from ``ends[1]`` to ``ends[0]``; see `transform_points`."""
    return _points(ends[::-1], pipeline, (xs, ys), TransformDirection.INVERSE)


def _points(
    ends: tuple[str, str],
    pipeline: str | None,
    points: tuple[npt.ArrayLike, npt.ArrayLike],
    direction: TransformDirection,
) -> tuple[Floats, Floats]:
    xs, ys = (np.array(values, np.float64) for values in points)
    if pipeline is None:
        return xs, ys
    if northing_first(ends[0]):
        xs, ys = ys, xs
    first, second = _pipeline(pipeline).transform(xs, ys, direction=direction)
    if northing_first(ends[1]):
        first, second = second, first
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def lattice(bounds: tuple[float, float, float, float], side: int) -> tuple[Floats, Floats]:
    """Return `side` x `side` points over a rectangle, its edges included, as flat arrays."""
    left, bottom, right, top = bounds
    xs, ys = np.meshgrid(np.linspace(left, right, side), np.linspace(top, bottom, side))
    return xs.ravel(), ys.ravel()


def degrees_of(crs: CRS) -> CRS:
    """Return longitude and latitude in degrees on the body that a system is of.

    Parameters
    ----------
    crs : CRS
        Geographic or projected.

    Returns
    -------
    CRS
        WGS 84 on the Earth, else what the system itself is made of.
    """
    geographic = horizontal(crs).geodetic_crs
    if geographic is None or same_body(crs, CRS.from_user_input("OGC:CRS84")):
        return CRS.from_user_input("OGC:CRS84")
    return geographic.to_2d()


def same_body(one: CRS, other: CRS) -> bool:
    """Whether two systems are of one planet or moon, by their radii."""
    radii = [
        None if each.ellipsoid is None else float(each.ellipsoid.semi_major_metre)
        for each in (horizontal(one), horizontal(other))
    ]
    if radii[0] is None or radii[1] is None:
        return False
    return abs(radii[0] / radii[1] - 1) < _SAME_BODY


def lonlat_area(grid: Grid) -> LonLatArea:
    """Return the rectangle of longitudes and latitudes that a raster covers on its planet.

    Parameters
    ----------
    grid : Grid
        The raster.

    Raises
    ------
    Refused
        No point of the raster has a longitude and latitude.
    """
    cols, rows = lattice((0, grid.height, grid.width, 0), _FOOTPRINT_SIDE)
    xs, ys = grid.position_arrays(cols, rows)
    refused = Refused(
        "no part of the raster lies where its coordinate system is defined",
        "check its geotransform, or name the system it is in with --src-crs",
    )
    crs = without_heights(CRS.from_user_input(grid.crs))
    try:
        there: Any = Transformer.from_crs(crs, degrees_of(crs), always_xy=True)
        lons, lats = there.transform(xs, ys)
    except ProjError as error:
        raise refused from error
    found = np.isfinite(lons) & np.isfinite(lats) & (np.abs(lats) <= _HALF_TURN / 2)
    if not found.any():
        raise refused
    west, east = _longitudes(np.asarray(lons)[found])
    lats = np.asarray(lats)[found]
    return west, float(lats.min()), east, float(lats.max())


def _longitudes(lons: Floats) -> tuple[float, float]:
    """Return west and east of points on a circle: what lies beside their largest gap."""
    ordered = np.unique((lons + _HALF_TURN) % (2 * _HALF_TURN) - _HALF_TURN)
    gaps = np.diff(ordered, append=ordered[0] + 2 * _HALF_TURN)
    widest = int(gaps.argmax())
    if gaps[widest] < _LEAST_GAP:
        return -_HALF_TURN, _HALF_TURN
    return float(ordered[(widest + 1) % len(ordered)]), float(ordered[widest])


def area_points(crs: str, area: LonLatArea, side: int = 17) -> tuple[Floats, Floats]:
    """Return points of a system, x before y, over an area of longitudes and latitudes.

    Parameters
    ----------
    crs : str
        WKT.
    area : (float, float, float, float)
        As of `lonlat_area`.
    side : int, optional
        Points along each side; those that the system cannot hold are left out.
    """
    west, south, east, north = area
    width = (east - west) % (2 * _HALF_TURN) or (2 * _HALF_TURN if east > west else 0.0)
    lons, lats = lattice((west, south, west + width, north), side)
    lons = np.where(lons > _HALF_TURN, lons - 2 * _HALF_TURN, lons)
    own = without_heights(CRS.from_user_input(crs))
    back: Any = Transformer.from_crs(degrees_of(own), own, always_xy=True)
    xs, ys = (np.asarray(each, np.float64) for each in back.transform(lons, lats))
    found = np.isfinite(xs) & np.isfinite(ys)
    return xs[found], ys[found]
