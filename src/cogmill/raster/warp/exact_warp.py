"""The exact warp: any window of the target from held source pixels, the same however it is cut.

GDAL computes, from arrays that `read` decoded; it decodes nothing itself. What it needs beyond
the held window fails to be read, and is never taken for nodata.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RasterioWindow

from cogmill.errors import PermanentError, SourceWindowTooSmall
from cogmill.raster.arrays import Array, ByteMask
from cogmill.raster.gdal import demand_readable, within_projections
from cogmill.raster.geometry.control import Rational
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.footprint import (
    Footprint,
    block_side,
    footprint,
)
from cogmill.raster.warp.warp_document import OUTSIDE, frame_xml, warped_xml
from cogmill.raster.warp.warp_spec import (
    WarpSpec,
)

_VALID: Final = np.uint8(255)
_NOT_VALID: Final = np.uint8(0)
#: Rows of one band that are looked through for NaN at a time.
_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Warped:
    """Pixels of a window of the target.

    Attributes
    ----------
    window : Window
        On the target grid.
    pixels : ndarray
        Shape ``(band, row, col)``, of the warp's dtype; the alpha band, if there is one, is last.
    mask : ndarray of uint8 or None
        Shape ``(row, col)``, 255 valid and 0 not; None where the target has no mask.
    """

    window: Window
    pixels: Array
    mask: ByteMask | None


def warp(spec: WarpSpec, held: HeldPixels | None, window: Window) -> Warped:
    """Warp held source pixels to a window of the target, within `gdal.environment`.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    held : HeldPixels or None
        At least the pixels of ``source_window(spec, window)``; None where that is None. NaN in it
        is written over with the band's nodata where a finite one marks invalid pixels, and clears
        the alpha band or the mask where there is one: a NaN is invalid, and GDAL would spread it.
        Integers that have the target's nodata and are valid are changed by one, as GDAL does.
    window : Window
        On the target grid.

    Returns
    -------
    Warped
        The same values for every window, and every larger held window, that hold the pixel.

    Raises
    ------
    SourceWindowTooSmall
        GDAL asked for a pixel that is not held: hold more, and count it.
    StorageUnavailable
        The DEM under rational polynomials cannot be read.
    """
    result = _invalid(spec, window)
    needs = footprint(spec, window)
    if held is not None and needs.chunks:
        _check(spec, held)
        _keep_apart(spec, held)
        _warp_chunks(spec, mark_nan(spec, held), needs, result)
    return result


def _invalid(spec: WarpSpec, window: Window) -> Warped:
    """Return a result in which no pixel is valid."""
    pixels = np.empty((spec.planes, window.height, window.width), spec.dtype)
    for plane, value in zip(pixels, spec.fill(), strict=True):
        plane[...] = value
    mask = np.zeros((window.height, window.width), np.uint8) if spec.target_mask else None
    return Warped(window, pixels, mask)


def _warp_chunks(spec: WarpSpec, held: HeldPixels, needs: Footprint, result: Warped) -> None:
    window, dem = result.window, _dem(spec)
    document = warped_xml(spec, frame_xml(spec, held), needs.extra, block_side(spec, window))
    for chunk in needs.chunks:
        part = chunk.target.intersect(window)
        if part is None:
            continue
        # A region wider than the window is one of two pixels, of which one is wanted.
        region = part if spec.source_alpha else chunk.target
        rows, cols = part.shift(-window.col_off, -window.row_off).slices
        direct = region == part and result.mask is None
        into = result.pixels[:, rows, cols] if direct else None
        with (
            demand_readable(dem) if dem else nullcontext(),
            within_projections() if spec.within_projection else nullcontext(),
        ):
            # GDAL writes nothing, and says nothing, where no place of a region leads to the source.
            found = _blank(spec, region) if into is None else into
            _read(document, region, found, held)
        inner = part.shift(-region.col_off, -region.row_off).slices
        if into is None:
            result.pixels[:, rows, cols] = found[: spec.planes, inner[0], inner[1]]
        if result.mask is not None:
            # The last band is as large as the region only: it is no part of the result.
            result.mask[rows, cols] = np.where(found[-1][inner] > 0, _VALID, _NOT_VALID)


def _dem(spec: WarpSpec) -> str | None:
    """Return what GDAL reads beside the held pixels, where there is any."""
    control = spec.source.control
    ground = control.elevation if isinstance(control, Rational) else None
    return None if ground is None else ground.path


def _blank(spec: WarpSpec, region: Window) -> Array:
    """Return pixels of a region that are not valid, with the band that tells so where there is one.

    Shape ``(plane, row, col)``.
    """
    fill = [*spec.fill(), *[0.0] * spec.target_mask]
    blank = np.empty((len(fill), region.height, region.width), spec.dtype)
    blank[...] = np.array(fill).reshape(-1, 1, 1)
    return blank


def _read(document: str, region: Window, into: Array, held: HeldPixels) -> None:
    at = RasterioWindow(region.col_off, region.row_off, region.width, region.height)
    try:
        # Opened for each region, so that the cached blocks of an alpha band go with it.
        with rasterio.open(document) as dataset:
            dataset.read(window=at, out=into)
    except RasterioIOError as error:
        raise _explained(error, region, held) from error


def _explained(error: BaseException, window: Window, held: HeldPixels) -> Exception:
    cause: BaseException | None = error
    reasons = []
    while cause is not None:
        reasons.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    if any(OUTSIDE in reason for reason in reasons):
        return SourceWindowTooSmall(
            f"the target's {window} needs source pixels outside {held.window}", "hold more"
        )
    return PermanentError(
        f"GDAL cannot warp the target's {window}: {reasons[-1]}",
        "check the coordinate systems with cogmill inspect",
    )


def _check(spec: WarpSpec, held: HeldPixels) -> None:
    if held.pixels.shape[0] != spec.planes or held.pixels.dtype != np.dtype(spec.dtype):
        raise ValueError(
            f"{held.pixels.shape[0]} planes of {held.pixels.dtype} are held, "
            f"{spec.planes} of {spec.dtype} are to be warped"
        )
    if not spec.source.window.contains(held.window):
        raise ValueError(f"{held.window} is not within the source")


def _keep_apart(spec: WarpSpec, held: HeldPixels) -> None:
    """Change valid integers that would be taken for the target's nodata by one.

    GDAL does so for whatever its kernels compute, but for what the nearest neighbour copies.
    """
    if spec.resampling != "nearest" or spec.is_float or spec.target_nodata is None:
        return
    lowest = np.iinfo(spec.dtype).min
    for plane, own, taken in zip(held.pixels, spec.invalid(), spec.target_nodata, strict=False):
        if taken is not None and taken != own:
            below = taken - 1
            plane[plane == taken] = taken + 1 if below < lowest or below == own else below


def mark_nan(spec: WarpSpec, held: HeldPixels) -> HeldPixels:
    """Return held pixels in which every NaN is marked as invalid in the way that the warp reads.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    held : HeldPixels
        Its pixels are changed where `warp` says so; its mask is copied before it is changed.
    """
    if not spec.is_float:
        return held
    if spec.source_mask and held.mask is not None:
        mask = held.mask
        for rows, missing in _missing(held.pixels):
            if missing.any():
                mask = mask.copy() if mask is held.mask else mask
                mask[rows][missing] = 0
        return HeldPixels(window=held.window, pixels=held.pixels, mask=mask)
    if spec.source_alpha:
        for rows, missing in _missing(held.pixels[:-1]):
            held.pixels[-1, rows][missing] = 0
        return held
    for plane, value in zip(held.pixels, spec.invalid(), strict=True):
        if value is None or np.isnan(value):
            continue
        for rows, missing in _missing(plane[np.newaxis]):
            plane[rows][missing] = value
    return held


def _missing(planes: Array) -> Any:
    """Yield slices of rows, and which of their pixels are NaN in any plane."""
    for start in range(0, planes.shape[1], _ROWS):
        rows = slice(start, start + _ROWS)
        missing = np.isnan(planes[0, rows])
        for plane in planes[1:]:
            missing |= np.isnan(plane[rows])
        yield rows, missing
