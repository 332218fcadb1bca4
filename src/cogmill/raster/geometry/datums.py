"""What it costs to ignore the difference between two datums, where PROJ knows no operation.

A *ballpark* takes latitudes and longitudes over as they are. That is right where a datum is not
known at all (satellite and weather products on a sphere), and nearly right between datums of
today, which lie within metres of each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup

from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.crs import LonLatArea, horizontal, lattice

#: Metres that nobody need be told of.
NO_SHIFT: Final = 1e-3
#: Metres that EPSG itself takes for nothing, between NAD83 and WGS 84.
NEGLIGIBLE_SHIFT: Final = 4.0
#: Metres within which the datums of today lie of each other, where nothing says more.
MODERN_SHIFT: Final = 2.0
#: How a datum is called that a file does not know, and what is put before an ellipsoid's name.
_UNKNOWN_NAMES: Final = ("unknown", "not specified", "not_specified", "unspecified", "unnamed")
#: WGS 84, ETRS89, ITRF2008, ITRF2014 and ITRF2020: systems of today, to which others have
#: operations, and which are one system within what is looked for here.
_HUBS: Final = ("EPSG:4326", "EPSG:4258", "EPSG:8999", "EPSG:9000", "EPSG:9990")
_MODERN_RADIUS: Final = 6378137.0
_MODERN_FLATTENING: Final = 298.2572
_FLATTENING_SLACK: Final = 1e-3
#: Steps of an operation that change no datum.
_SHIFTLESS: Final = ("Conversion", "Other Coordinate Operation")
_SIDE: Final = 5
_METRES_PER_DEGREE: Final = 111_320.0


def datum_is_unknown(crs: str) -> bool:
    """Whether a system says nothing of its datum but an ellipsoid, or is on a bare sphere.

    Parameters
    ----------
    crs : str
        As WKT.
    """
    flat = horizontal(CRS.from_user_input(crs))
    name = "" if flat.datum is None else flat.datum.name.lower()
    if not name or name.startswith(_UNKNOWN_NAMES):
        return True
    return flat.ellipsoid is not None and flat.ellipsoid.inverse_flattening == 0


def alike(one: str, other: str) -> bool:
    """Whether two systems of unknown datums have the same ellipsoid, or are both on a sphere.

    Parameters
    ----------
    one, other : str
        As WKT.
    """
    shapes = [horizontal(CRS.from_user_input(crs)).ellipsoid for crs in (one, other)]
    if shapes[0] is None or shapes[1] is None:
        return shapes[0] is shapes[1]
    if not any(shape.inverse_flattening for shape in shapes if shape is not None):
        return True
    return bool(
        np.isclose(shapes[0].semi_major_metre, shapes[1].semi_major_metre, rtol=0, atol=1e-3)
        and np.isclose(
            shapes[0].inverse_flattening,
            shapes[1].inverse_flattening,
            rtol=0,
            atol=_FLATTENING_SLACK,
        )
    )


@lru_cache(maxsize=256)
def is_modern(crs: str) -> bool:
    """Whether latitudes and longitudes of a system are within 2 m of those of WGS 84.

    Both have the ellipsoid of WGS 84 or GRS 80 and the meridian of Greenwich, and no operation to
    a system of today is registered that moves a place by more.

    Parameters
    ----------
    crs : str
        As WKT.
    """
    flat = horizontal(CRS.from_user_input(crs))
    geographic, ellipsoid, meridian = flat.geodetic_crs, flat.ellipsoid, flat.prime_meridian
    if geographic is None or ellipsoid is None or flat.datum is None:
        return False
    if (
        abs(ellipsoid.semi_major_metre - _MODERN_RADIUS) > _FLATTENING_SLACK
        or abs(ellipsoid.inverse_flattening - _MODERN_FLATTENING) >= _FLATTENING_SLACK
        or (meridian is not None and meridian.longitude != 0)
    ):
        return False
    if _is_hub(geographic):
        return True
    use = geographic.area_of_use or flat.area_of_use
    area = (-180.0, -80.0, 180.0, 80.0) if use is None else use.bounds
    shifts = [_largest_shift(geographic.to_2d(), CRS.from_user_input(hub), area) for hub in _HUBS]
    return all(shift is None or shift <= MODERN_SHIFT for shift in shifts)


def ignored_shift(src_crs: str, dst_crs: str, area: LonLatArea) -> float | None:
    """Return how far places are moved by what a ballpark ignores, at most, in metres.

    Parameters
    ----------
    src_crs, dst_crs : str
        As WKT, of known datums.
    area : (float, float, float, float)
        West, south, east, north of the footprint in degrees.

    Returns
    -------
    float or None
        By the operations that are registered between the two datums, whatever their area, directly
        or by a system of today; `MODERN_SHIFT` where there is none and both are modern; None where
        nothing is known.
    """
    ends = [horizontal(CRS.from_user_input(crs)).geodetic_crs for crs in (src_crs, dst_crs)]
    if ends[0] is None or ends[1] is None:
        return None
    shift = _largest_shift(ends[0].to_2d(), ends[1].to_2d(), area)
    if shift is None:
        shift = _shift_by_hubs(ends[0].to_2d(), ends[1].to_2d(), area)
    if shift is None and is_modern(src_crs) and is_modern(dst_crs):
        return MODERN_SHIFT
    return shift


def without_null_shift(crs: str) -> tuple[str, str | None]:
    """Return a system without a shift of zeros from a sphere, and a warning where it had one.

    ``+towgs84=0,0,0`` beside a sphere is meant to say that nothing is known; taken by its word it
    moves a place by 20 km, because WGS 84 is no sphere.

    Parameters
    ----------
    crs : str
        As WKT.
    """
    bound = CRS.from_user_input(crs)
    if not bound.is_bound or bound.source_crs is None or bound.coordinate_operation is None:
        return crs, None
    ellipsoid = bound.source_crs.ellipsoid
    zeros = not any(bound.coordinate_operation.towgs84)
    if ellipsoid is None or ellipsoid.inverse_flattening != 0 or not zeros:
        return crs, None
    return (
        str(bound.source_crs.to_wkt()),
        f"the datum shift of zeros (TOWGS84) of {bound.source_crs.name}, which is on a sphere, "
        "is ignored: it would move the raster by up to 20 km",
    )


def _shift_by_hubs(source: CRS, target: CRS, area: LonLatArea) -> float | None:
    shifts = []
    for hub in map(CRS.from_user_input, _HUBS):
        there, back = _steps(source, hub), _steps(hub, target)
        shifts += [
            _shift([*first, *second], source, target, area)
            for first, second in product(there, back)
            if first or second
        ]
    return max((shift for shift in shifts if shift is not None), default=None)


def _steps(source: CRS, target: CRS) -> list[list[Transformer]]:
    """Return the operations from one system to another; between two of today, also none."""
    found = [[each] for each in _registered(source, target)]
    if _is_hub(source) and _is_hub(target):
        found.append([])
    return found


def _is_hub(crs: CRS) -> bool:
    return crs.name in _hub_names()


@lru_cache(maxsize=1)
def _hub_names() -> frozenset[str]:
    return frozenset(CRS.from_user_input(hub).name for hub in _HUBS)


def _largest_shift(source: CRS, target: CRS, area: LonLatArea) -> float | None:
    """Return the largest distance that any registered operation moves a place, None: no such."""
    shifts = [_shift([each], source, target, area) for each in _registered(source, target)]
    return max((shift for shift in shifts if shift is not None), default=None)


def _registered(source: CRS, target: CRS) -> Iterator[Transformer]:
    """Yield the operations that are registered between two geographic systems."""
    try:
        with warnings.catch_warnings():
            # It warns of grids that are not there; operations without them remain.
            warnings.simplefilter("ignore", UserWarning)
            group = TransformerGroup(source, target, always_xy=True, allow_ballpark=False)
    except (ProjError, IndexError):  # pyproj takes the first of an empty list
        return
    for found in group.transformers:
        kinds = [step.type_name for step in found.operations or ()]
        # PROJ also strings operations together by systems that lie between: those say nothing.
        if sum(kind not in _SHIFTLESS for kind in kinds) == 1:
            yield found


def _shift(steps: list[Transformer], source: CRS, target: CRS, area: LonLatArea) -> float | None:
    """Return how far operations move places from where a ballpark puts them, in metres."""
    lons, lats = _places(area)
    try:
        rough = Transformer.from_pipeline(_meridian_alone(source, target))
        expected = rough.transform(lons, lats)
        found = lons, lats
        for step in steps:
            found = step.transform(*found)
    except ProjError:
        return None
    with np.errstate(invalid="ignore"):  # what an operation cannot take anywhere is infinite
        east = (np.asarray(found[0]) - expected[0] + 180) % 360 - 180
        north = np.asarray(found[1]) - expected[1]
        apart = np.hypot(east * np.cos(np.radians(lats)), north) * _METRES_PER_DEGREE
    apart = apart[np.isfinite(apart)]
    return float(apart.max()) if len(apart) else None


def _meridian_alone(source: CRS, target: CRS) -> str:
    """Return the pipeline that changes the meridian from which longitudes count, and no more."""
    offset = (_meridian(source) - _meridian(target)) * 3600
    return f"+proj=pipeline +step +proj=geogoffset +dlon={offset:.10f}"


def _meridian(crs: CRS) -> float:
    """Return the meridian from which longitudes count, in degrees east of Greenwich."""
    meridian = crs.prime_meridian
    if meridian is None:
        return 0.0
    return float(np.degrees(meridian.longitude * float(meridian.unit_conversion_factor)))


def _places(area: LonLatArea) -> tuple[Floats, Floats]:
    west, south, east, north = area
    width = (east - west) % 360 or (360.0 if east > west else 0.0)
    lons, lats = lattice((west, south, west + width, north), _SIDE)
    return (lons + 180) % 360 - 180, np.clip(lats, -89.9, 89.9)
