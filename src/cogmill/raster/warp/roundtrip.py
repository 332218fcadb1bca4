"""Whether a raster placed by control points comes back to its own pixels, and how nearly.

The way there and the way back are fitted each for itself. Where they disagree by a little, GDAL
reads more of the source than the way back says; where they fold, pixels of one place would come out
at several.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from cogmill.errors import Refused
from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.control import Control, Rational, Spline
from cogmill.raster.geometry.crs import transform_points, transform_points_back
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.geometry.seams import cylinder
from cogmill.raster.warp.warp_spec import WarpSpec

#: GDAL samples the source at so many places along each side, and half a pixel from its edges.
_GDAL_STEPS: Final = 21
#: GDAL's own iteration ends within a tenth of a pixel; the rest is for two fits in floats.
_ROUNDING_PIXELS: Final = 1.0
#: Points along each side of the target, and of the source, at which a fold is looked for.
_SIDE: Final = 129
#: The same of the target where a way back is a formula: an echo of the raster is small on a grid of
#: the world. (A spline has none: it is found by iteration from the points on.)
_FINE_SIDE: Final = 513
#: What may lie between a place and where it comes back to, as a part of the raster's diagonal: more
#: is no residual of the points but another sheet of the polynomial.
_SAME_SHEET: Final = 0.1
#: Places along each side of a target that are taken back and there again.
_IMAGE_SIDE: Final = 257
#: Part of a pixel within which a place has come back to itself.
_SAME_PLACE: Final = 0.5


@lru_cache(maxsize=64)
def roundtrip_error(spec: WarpSpec) -> tuple[float, float]:
    """Return how far places of the source may come back from themselves, in its pixels.

    Parameters
    ----------
    spec : WarpSpec
        The warp.

    Returns
    -------
    (float, float)
        Along columns and rows, over the places at which GDAL looks; 0 where a transform places the
        source, for its way back is exact.
    """
    source = spec.source
    if source.control is None:
        return 0.0, 0.0
    cols, rows = np.meshgrid(*(_samples(length) for length in (source.width, source.height)))
    xs, ys = source.position_arrays(cols, rows)
    targets = spec.target.place_arrays(
        *transform_points(spec.ends, spec.coordinate_operation, xs, ys)
    )
    with np.errstate(invalid="ignore"):
        there = (targets[0] >= -1) & (targets[0] <= spec.target.width + 1)
        there &= (targets[1] >= -1) & (targets[1] <= spec.target.height + 1)
    if not there.any():
        return _ROUNDING_PIXELS, _ROUNDING_PIXELS
    back = source.place_arrays(xs, ys)
    off = [
        float(np.nanmax(np.abs(one - other)[there], initial=0.0))
        for one, other in ((back[0], cols), (back[1], rows))
    ]
    return off[0] + _ROUNDING_PIXELS, off[1] + _ROUNDING_PIXELS


def leaves_projection(spec: WarpSpec) -> bool:
    """Return whether the target grid holds places outside the image of its projection.

    PROJ gives such a place a longitude and latitude where the formula has one, of a place that the
    map shows already; taken there again, it comes out elsewhere.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    """
    target = spec.target
    if spec.coordinate_operation is None or cylinder(target.crs) is not None:
        return False  # a cylinder goes on beyond its seam, and shows each place where it lies
    cols = np.linspace(0.5, target.width - 0.5, min(target.width, _IMAGE_SIDE))
    rows = np.linspace(0.5, target.height - 0.5, min(target.height, _IMAGE_SIDE))
    places = target.position_arrays(*(each.ravel() for each in np.meshgrid(cols, rows)))
    back = transform_points_back(spec.ends, spec.coordinate_operation, *places)
    again = transform_points(spec.ends, spec.coordinate_operation, *back)
    with np.errstate(invalid="ignore"):
        apart = np.hypot(again[0] - places[0], again[1] - places[1])
    pixel = min(abs(target.transform[1]), abs(target.transform[5]))
    # A place that cannot be taken anywhere is no copy, and one that cannot be taken back is.
    found = np.isfinite(back[0]) & np.isfinite(back[1])
    return bool((found & ~(apart <= _SAME_PLACE * pixel)).any())


@lru_cache(maxsize=64)
def ground_spread(spec: WarpSpec) -> tuple[float, float]:
    """Return how far the ground moves places, in pixels of the source, from lowest to highest.

    Parameters
    ----------
    spec : WarpSpec
        The warp.

    Returns
    -------
    (float, float)
        Along columns and rows, at most over the source; 0 but for rational polynomials on a DEM.
    """
    source = spec.source
    if not isinstance(source.control, Rational) or source.control.elevation is None:
        return 0.0, 0.0
    ground = source.control.elevation
    xs, ys = source.position_arrays(*_lattice(source))
    low, high = (
        source.control.model_copy(update={"height": height}).places(xs, ys)
        for height in (ground.low, ground.high)
    )
    moved = [float(np.nanmax(np.abs(a - b), initial=0.0)) for a, b in zip(low, high, strict=True)]
    return moved[0], moved[1]


def _samples(length: int) -> Floats:
    return np.array([0.5, *np.linspace(0, length, _GDAL_STEPS), length - 0.5])


def refuse_folded(source: Grid, target: Grid, pipeline: str | None, name: str) -> None:
    """Refuse control points by which a place of the target has no one place in the source.

    Parameters
    ----------
    source, target : Grid
        Both in full.
    pipeline : str or None
        The coordinate operation; None where both are in one system.
    name : str
        What messages call the source.

    Raises
    ------
    Refused
        The way there or the way back turns over within the raster, or they lead elsewhere.
    """
    if source.control is None:
        return
    limit = _SAME_SHEET * float(np.hypot(source.width, source.height))
    cols, rows = _lattice(source)
    there = source.position_arrays(cols, rows)
    back = source.place_arrays(*there)
    part = max(_turned_over(*there), _turned_over(*back), _beyond((cols, rows), back, limit))
    if part:
        raise _folded(name, source.control, "raster", part)
    ends = source.crs, target.crs
    fine = _SIDE if isinstance(source.control, Spline) else _FINE_SIDE
    xs, ys = transform_points_back(ends, pipeline, *target.position_arrays(*_lattice(target, fine)))
    cols, rows = source.place_arrays(xs, ys)
    lost = np.isfinite(xs) & np.isfinite(ys) & ~np.isfinite(cols)
    with np.errstate(invalid="ignore"):
        on = (cols >= 0) & (cols <= source.width) & (rows >= 0) & (rows <= source.height)
    turned = _turned_over(np.where(on, cols, np.nan), np.where(on, rows, np.nan))
    left, bottom, right, top = source.bounds
    diagonal = float(np.hypot(right - left, top - bottom))
    found = source.position_arrays(cols[on], rows[on])
    elsewhere = _beyond((xs[on], ys[on]), found, _SAME_SHEET * diagonal)
    part = max(turned, elsewhere, float(lost.mean()))
    if part:
        raise _folded(name, source.control, "target grid", part)


def _beyond(asked: tuple[Floats, Floats], found: tuple[Floats, Floats], limit: float) -> float:
    """Return which part of places lies further than that from where it should."""
    with np.errstate(invalid="ignore"):
        off = np.hypot(asked[0] - found[0], asked[1] - found[1]) > limit
    return float(off.mean()) if off.size else 0.0


def _lattice(grid: Grid, side: int = _SIDE) -> tuple[Floats, Floats]:
    cols, rows = np.meshgrid(np.linspace(0, grid.width, side), np.linspace(0, grid.height, side))
    return cols, rows


def _turned_over(firsts: Floats, seconds: Floats) -> float:
    """Return which part of a lattice has the smaller of both orientations; 0: all has one."""
    (first_down, first_across), (second_down, second_across) = (
        np.gradient(each) for each in (firsts, seconds)
    )
    with np.errstate(invalid="ignore"):
        area = np.asarray(first_across * second_down - first_down * second_across)
    known = area[np.isfinite(area)]
    if not len(known):
        return 0.0
    return float(min((known > 0).mean(), (known < 0).mean()))


def _folded(name: str, control: Control, where: str, part: float) -> Refused:
    what, remedy = "points", "use --gcps with a lower order, correct the points"
    if isinstance(control, Rational):
        what, remedy = "rational polynomials", "correct them"
    return Refused(
        f"the {what} that place {name} fold over {max(part * 100, 1):.0f} % of the {where}: places "
        "there have no one pixel",
        f"{remedy}, or give --bounds without that part",
    )
