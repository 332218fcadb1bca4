"""The one target grid of a raster: the one that gdalwarp would choose, unless the user names it."""

from __future__ import annotations

import math
import warnings
from typing import Final

import numpy as np
import rasterio
from pydantic import ValidationError
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.rpc import RPC
from rasterio.warp import calculate_default_transform

from cogmill.errors import Refused
from cogmill.raster.geometry import seams
from cogmill.raster.geometry.control import (
    NOT_COEFFICIENTS,
    Polynomial,
    Rational,
    Spline,
)
from cogmill.raster.geometry.crs import crs_text, transform_points_back
from cogmill.raster.geometry.grid import GeoTransform, Grid

#: TIFF counts the pixels of a side in 32 bits, GDAL with a sign.
MOST_PIXELS_A_SIDE: Final = 2**31 - 1
#: More than any disk holds, and than any plan could list: a slip of the hand.
MOST_PIXELS: Final = 10**14

Bounds = tuple[float, float, float, float]

#: A corner this part of a pixel off a multiple of the resolution is on it.
_ON_THE_EDGE: Final = 1e-8
#: Points along each side of bounds whose pixels are looked for in the source.
_SIDE: Final = 33


def target_grid(
    source: Grid,
    dst_crs: str,
    coordinate_operation: str | None,
    resolution: tuple[float, float] | None = None,
    bounds: Bounds | None = None,
    align: bool = False,
) -> Grid:
    """Return the grid that gdalwarp would choose, with what is named as ``-tr, -te`` and ``-tap``.

    Two grids are not gdalwarp's. Across the target's seam (the antimeridian) it goes on beyond it,
    where gdalwarp's goes around the world; and Mercator's projection ends at 85.05 degrees.

    Parameters
    ----------
    source : Grid
        The source in full.
    dst_crs : str
        The target's coordinate system, as WKT.
    coordinate_operation : str or None
        The coordinate operation; None where source and target share a system.
    resolution : (float, float), optional
        Width and height of a pixel in units of the target system, both positive.
    bounds : (float, float, float, float), optional
        Left, bottom, right, top in the target system.
    align : bool, optional
        True: the corners are moved outwards to multiples of the resolution.

    Returns
    -------
    Grid
        North up.

    Raises
    ------
    Refused
        The source has no place in the target system, or resolution or bounds make no sense.
    """
    _check_resolution(resolution)
    _check_bounds(bounds)
    suggested, size = _suggested(source, dst_crs, coordinate_operation, bounds)
    if resolution is None and bounds is None:
        return _grid(dst_crs, suggested, size)
    x0, dx, _, y0, _, dy = suggested
    width, height = resolution or (dx, -dy)
    left, bottom, right, top = bounds or (x0, y0 + size[1] * dy, x0 + size[0] * dx, y0)
    if align:
        left, right = _multiples(left, right, width)
        bottom, top = _multiples(bottom, top, height)
    cols, rows = _whole((right - left) / width), _whole((top - bottom) / height)
    if bounds is not None and resolution is None:
        # The suggested size of a pixel is adjusted so that the bounds hold exactly. (Gdalwarp
        # estimates that size anew inside the bounds: 0.1 % apart where it was compared.)
        cols, rows = max(cols, 1), max(rows, 1)
        width, height = (right - left) / cols, (top - bottom) / rows
    return _grid(dst_crs, (left, width, 0.0, top, 0.0, -height), (cols, rows))


def _multiples(low: float, high: float, size: float) -> tuple[float, float]:
    """Return a stretch moved outwards to multiples of a size, by rounding errors excepted."""
    first = math.floor(low / size + _ON_THE_EDGE)
    return first * size, max(math.ceil(high / size - _ON_THE_EDGE), first + 1) * size


def _suggested(
    source: Grid, dst_crs: str, operation: str | None, bounds: Bounds | None
) -> tuple[GeoTransform, tuple[int, int]]:
    """Return geotransform and size of the grid without what the user names."""
    if operation is not None:
        source = seams.turned_to_seam(seams.within_mercator(source, dst_crs), dst_crs)
    found = seams.bounds_across_seam(source, dst_crs, operation)
    if found is not None:
        left, bottom, right, top, pixel = found
        cols, rows = _whole((right - left) / pixel), _whole((top - bottom) / pixel)
        return (left, pixel, 0.0, top, 0.0, -pixel), (max(cols, 1), max(rows, 1))
    suggested, size = _by_gdal(source, dst_crs, operation)
    whole = Grid(crs=dst_crs, transform=suggested, width=size[0], height=size[1])
    if operation is None or not seams.reaches_infinity(whole):
        return suggested, size
    if bounds is None:
        raise Refused(
            "the raster reaches a place that lies infinitely far away in the target's projection, "
            "such as the pole of the other side",
            "give --bounds within the target's area of use, or name another --dst-crs",
        )
    pixel = _pixel_within(source, dst_crs, operation, bounds)
    return (bounds[0], pixel, 0.0, bounds[3], 0.0, -pixel), (1, 1)


def _pixel_within(source: Grid, dst_crs: str, operation: str, bounds: Bounds) -> float:
    """Return the median size of the source's pixels within bounds of the target."""
    left, bottom, right, top = bounds
    xs, ys = np.meshgrid(np.linspace(left, right, _SIDE), np.linspace(top, bottom, _SIDE))
    places = source.place_arrays(*transform_points_back((source.crs, dst_crs), operation, xs, ys))
    (down_x, across_x), (down_y, across_y) = (np.gradient(each) for each in places)
    with np.errstate(invalid="ignore"):
        pixels = np.abs(across_x * down_y - down_x * across_y)
    pixels = pixels[np.isfinite(pixels) & (pixels > 0)]
    if not len(pixels):
        raise Refused(
            "--bounds hold no place of the source", "give bounds in the target coordinate system"
        )
    cell = (right - left) * (top - bottom) / (_SIDE - 1) ** 2
    return math.sqrt(cell / float(np.median(pixels)))


def _by_gdal(
    source: Grid, dst_crs: str, operation: str | None
) -> tuple[GeoTransform, tuple[int, int]]:
    options = {} if operation is None else {"COORDINATE_OPERATION": operation}
    _, _, rx, _, ry, _ = source.transform
    place: dict[str, object]
    if source.control is not None:
        place = _by_points(source.control)
    elif rx == 0 and ry == 0:
        left, top = source.position(0, 0)
        right, bottom = source.position(source.width, source.height)
        place = {"left": left, "bottom": bottom, "right": right, "top": top}
    else:
        corners = [(0, 0), (source.width, 0), (source.width, source.height), (0, source.height)]
        place = {
            "gcps": [
                GroundControlPoint(row=row, col=col, x=x, y=y, z=0.0)
                for col, row in corners
                for x, y in [source.position(col, row)]
            ]
        }
    try:
        with warnings.catch_warnings():
            # Rasterio multiplies affine transforms in a way that affine will give up.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            transform, width, height = calculate_default_transform(
                source.crs, dst_crs, source.width, source.height, **place, **options
            )
    except (CPLE_BaseError, CRSError, RasterioError, ValueError) as error:
        raise Refused(
            f"the raster has no place in the target coordinate system: {error}",
            "check --dst-crs and --src-crs, or give --bounds inside the target system",
        ) from error
    if not all(map(math.isfinite, transform)):
        raise Refused(
            "the raster has no place in the target coordinate system",
            "check its control points, --dst-crs and --src-crs",
        )
    # A source far longer than wide may come out less than half a pixel wide, which GDAL makes 0.
    return transform.to_gdal(), (max(int(width), 1), max(int(height), 1))


def _by_points(control: Polynomial | Spline | Rational) -> dict[str, object]:
    """Return what places a raster, as rasterio takes it for GDAL."""
    match control:
        case Rational(height=height, elevation=elevation):
            rpcs = RPC(**control.model_dump(exclude=NOT_COEFFICIENTS))
            placed: dict[str, object] = {"rpcs": rpcs, "SRC_METHOD": "RPC"}
            if elevation is not None:
                return {**placed, "RPC_DEM": elevation.path}
            return {**placed, "RPC_HEIGHT": repr(height)}
        case Polynomial(order=order):
            method: dict[str, object] = {"SRC_METHOD": "GCP_POLYNOMIAL", "MAX_GCP_ORDER": order}
        case Spline():
            method = {"SRC_METHOD": "GCP_TPS"}
    points = [GroundControlPoint(row, col, x, y, z) for col, row, x, y, z in control.points]
    return {"gcps": points, **method}


def _grid(crs: str, transform: GeoTransform, size: tuple[int, int]) -> Grid:
    cols, rows = size
    if cols < 1 or rows < 1:
        raise Refused(
            f"the target grid would have {cols} x {rows} pixels",
            "give a finer --resolution or larger --bounds",
        )
    if max(size) > MOST_PIXELS_A_SIDE or cols * rows > MOST_PIXELS:
        raise Refused(
            f"the target grid would have {cols} x {rows} pixels; "
            f"{MOST_PIXELS_A_SIDE} a side and {MOST_PIXELS:.0e} in all are the limit",
            "give a coarser --resolution or smaller --bounds",
        )
    return Grid(crs=crs, transform=transform, width=cols, height=rows)


def _whole(pixels: float) -> int:
    """Round a number of pixels as gdalwarp does."""
    return math.floor(min(pixels, 1e18) + 0.5)


def _check_resolution(resolution: tuple[float, float] | None) -> None:
    if resolution is not None and not all(math.isfinite(r) and r > 0 for r in resolution):
        raise Refused(
            f"{resolution[0]:g} x {resolution[1]:g} is no size of a pixel",
            "give --resolution positive numbers, in units of the target coordinate system",
        )


def _check_bounds(bounds: Bounds | None) -> None:
    if bounds is None:
        return
    left, bottom, right, top = bounds
    if not all(map(math.isfinite, bounds)) or left >= right or bottom >= top:
        raise Refused(
            f"the bounds {left:g} {bottom:g} {right:g} {top:g} hold nothing",
            "give --bounds as left, bottom, right, top, in units of the target coordinate system",
        )


def reference_grid(gdal_path: str, name: str) -> Grid:
    """Return the grid of a GeoTIFF, of which nothing but the header is read.

    Parameters
    ----------
    gdal_path : str
        The raster for GDAL.
    name : str
        What messages call it.

    Returns
    -------
    Grid
        System (as WKT), geotransform and size. North up or not.

    Raises
    ------
    Refused
        It is no GeoTIFF, or lies nowhere.
    """
    remedy = "name a georeferenced GeoTIFF with --like"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(gdal_path, driver="GTiff") as dataset:
                crs = dataset.crs.to_wkt(version="WKT2_2019") if dataset.crs else ""
                transform, size = dataset.transform, (dataset.width, dataset.height)
    except RasterioError as error:
        raise Refused(f"{name} cannot be read as a GeoTIFF: {error}", remedy) from error
    if not crs or transform.is_identity:
        raise Refused(f"{name} has no {'geotransform' if crs else 'coordinate system'}", remedy)
    try:
        return Grid(
            crs=crs_text(crs, "--like"),
            transform=transform.to_gdal(),
            width=size[0],
            height=size[1],
        )
    except ValidationError:
        raise Refused(f"the geotransform of {name} places no pixels", remedy) from None
