"""The heights of the ground, by which rational polynomials place a raster: a DEM, and its demands.

GDAL reads the DEM itself, while it warps. By whole lines it heeds a hole in another way than point
by point, and which of both it does depends on how the work is cut: so a DEM with a hole where the
raster lies, or that ends there, is refused, and so is one in another system, into which PROJ would
choose its way anew for every point.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from cogmill.errors import Refused
from cogmill.raster.geometry.control import Elevation, Rational
from cogmill.raster.geometry.crs import same_crs
from cogmill.raster.geometry.grid import Window

_WGS_84: Final = "EPSG:4326"
#: Points along each side of the raster whose longitudes and latitudes are looked for.
_SIDE: Final = 65
#: Cells beyond the raster that interpolation, and rounding, may touch.
_CELLS_BEYOND: Final = 3
#: Rows of the DEM that are read at a time.
_ROWS: Final = 256
_METRES: Final = ("", "m", "metre", "metres", "meter", "meters")


def elevation_of(
    gdal_path: str, name: str, rational: Rational, size: tuple[int, int]
) -> tuple[Elevation, tuple[str, ...]]:
    """Return the heights of a DEM under a raster, and the files that they come from.

    Parameters
    ----------
    gdal_path : str
        The DEM for GDAL.
    name : str
        What messages call it.
    rational : Rational
        What places the raster.
    size : (int, int)
        Width and height of the raster in pixels.

    Raises
    ------
    Refused
        It is no GeoTIFF of heights in metres in EPSG:4326, or does not cover the raster wholly.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(gdal_path, driver="GTiff") as dataset:
                _refuse_other_heights(dataset, name)
                low, high = _heights(dataset, name, rational, size)
                files = tuple(dataset.files)
    except RasterioError as error:
        raise Refused(
            f"the DEM {name} cannot be read as a GeoTIFF: {error}",
            f"make one of it first: gdal_translate {name} DEM.tif",
        ) from error
    return Elevation(path=gdal_path, low=low, high=high), files


def _refuse_other_heights(dataset: Any, name: str) -> None:
    crs = dataset.crs.to_wkt(version="WKT2_2019") if dataset.crs else ""
    if not crs or not same_crs(crs, _WGS_84):
        raise Refused(
            f"the DEM {name} is not in {_WGS_84}, in which rational polynomials take heights",
            f"bring it there first: cogmill run {name} DEM.tif --dst-crs {_WGS_84}",
        )
    if dataset.transform.b or dataset.transform.d or dataset.transform.e >= 0:
        raise Refused(
            f"the DEM {name} is not north up",
            f"turn it first: gdalwarp -t_srs {_WGS_84} {name} DEM.tif",
        )
    packed = (dataset.scales[0], dataset.offsets[0]) != (1.0, 0.0)
    unit = (dataset.units[0] or "").lower()
    if packed or unit not in _METRES:
        raise Refused(
            f"the values of the DEM {name} are no heights in metres"
            f"{'' if unit in _METRES else f' but in {unit}'}{', but packed' if packed else ''}",
            "unpack it first: gdal_translate -unscale, or gdal_calc.py",
        )


def _heights(
    dataset: Any, name: str, rational: Rational, size: tuple[int, int]
) -> tuple[float, float]:
    """Return the lowest and the highest ground that the raster may see."""
    low, high = (rational.height_off + sign * rational.height_scale for sign in (-1, 1))
    # Ground beyond the polynomials' own heights widens what the raster may see, and that once.
    for _ in range(2):
        window = _under(dataset, name, rational, (low, high), size)
        found = _range(dataset, name, window)
        if low <= found[0] and found[1] <= high:
            return found
        low, high = min(low, found[0]), max(high, found[1])
    return low, high


def _under(
    dataset: Any,
    name: str,
    rational: Rational,
    heights: tuple[float, float],
    size: tuple[int, int],
) -> Window:
    """Return the cells under a raster, wherever between these heights its ground lies."""
    cols, rows = np.meshgrid(np.linspace(0, size[0], _SIDE), np.linspace(0, size[1], _SIDE))
    places = [
        rational.model_copy(update={"height": height}).positions(cols, rows) for height in heights
    ]
    xs, ys = (np.concatenate([each[axis].ravel() for each in places]) for axis in (0, 1))
    known = np.isfinite(xs) & np.isfinite(ys)
    if not known.any():
        raise Refused(
            "the rational polynomials lead nowhere at the heights that they are made for",
            "correct them, or place the raster by --gcps",
        )
    t = dataset.transform
    at_cols, at_rows = (xs[known] - t.c) / t.a, (ys[known] - t.f) / t.e
    window = Window.spanning(
        math.floor(at_cols.min()) - _CELLS_BEYOND,
        math.floor(at_rows.min()) - _CELLS_BEYOND,
        math.ceil(at_cols.max()) + _CELLS_BEYOND,
        math.ceil(at_rows.max()) + _CELLS_BEYOND,
    )
    whole = Window(col_off=0, row_off=0, width=dataset.width, height=dataset.height)
    if window is None or not whole.contains(window):
        west, east = float(xs[known].min()), float(xs[known].max())
        south, north = float(ys[known].min()), float(ys[known].max())
        raise Refused(
            f"the DEM {name} does not cover the raster, which reaches from {west:.4f} to "
            f"{east:.4f} degrees east and from {south:.4f} to {north:.4f} degrees north",
            f"name a DEM with --rpc-dem that goes {_CELLS_BEYOND} cells beyond",
        )
    return window


def _range(dataset: Any, name: str, window: Window) -> tuple[float, float]:
    """Return the lowest and the highest of these cells, none of which may be a hole."""
    low, high = math.inf, -math.inf
    for part in _bands(window):
        at = RasterioWindow(*part.rectangle)
        heights = dataset.read(1, window=at)
        # Nodata, or a mask or alpha band, which GDAL's transformer takes for ground.
        holes = ~np.isfinite(heights) | (dataset.read_masks(1, window=at) == 0)
        if holes.any():
            raise Refused(
                f"the DEM {name} has {int(holes.sum())} cells without a height under the raster",
                f"fill them first: gdal_fillnodata.py {name} DEM.tif",
            )
        low, high = min(low, float(heights.min())), max(high, float(heights.max()))
    return low, high


def _bands(window: Window) -> Iterator[Window]:
    for row in range(window.row_off, window.row_stop, _ROWS):
        part = Window.spanning(
            window.col_off, row, window.col_stop, min(row + _ROWS, window.row_stop)
        )
        if part is not None:
            yield part
