"""Values that mark invalid pixels become a mask, because lossy codecs change values."""

from __future__ import annotations

import numpy as np

from cogmill.raster.arrays import Array, BoolMask
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.plan.raster_plan import Validity


def masked(held: HeldPixels, validity: Validity) -> HeldPixels:
    """Return held pixels with a mask in place of what said which of them are valid.

    Parameters
    ----------
    held : HeldPixels
        As read; where the plan drops an alpha band, that is its last.
    validity : Validity
        The plan's.

    Returns
    -------
    HeldPixels
        A dropped band is left out; the mask is the source's own where validity does not become
        one. Nodata stays where it is; a pixel is valid where any band is neither nodata nor NaN.
    """
    dropped = validity.dropped_band
    pixels = held.pixels if dropped is None else held.pixels[:-1]
    if not validity.becomes_mask:
        return HeldPixels(window=held.window, pixels=pixels, mask=held.mask)
    if validity.kind == "alpha":
        valid = held.pixels[-1] != 0
    else:
        values = enumerate(validity.source_nodata or (), start=1)
        valid = np.zeros(pixels.shape[1:], np.bool_)
        for plane, value in zip(
            pixels, [value for band, value in values if band != dropped], strict=True
        ):
            valid |= _differs(plane, value)
    mask = valid.view(np.uint8)
    mask *= np.uint8(255)
    return HeldPixels(window=held.window, pixels=pixels, mask=mask)


def _differs(plane: Array, nodata: float | None) -> BoolMask:
    valid: BoolMask = np.ones(plane.shape, np.bool_)
    if nodata is not None and not np.isnan(nodata):
        with np.errstate(over="ignore"):
            valid = plane != np.asarray(nodata).astype(plane.dtype)
    if plane.dtype.kind == "f":
        valid &= ~np.isnan(plane)
    return valid
