"""Decoded pixels of a window of the source: what a reader gives and a warp takes."""

from __future__ import annotations

from dataclasses import dataclass

from cogmill.raster.arrays import Array, ByteMask
from cogmill.raster.geometry.grid import Window


@dataclass(frozen=True, slots=True)
class HeldPixels:
    """Pixels of a window of the source, decoded.

    Attributes
    ----------
    window : Window
        On the source grid.
    pixels : ndarray
        Shape ``(band, row, col)``, C order, of the source's dtype; as stored, nodata included.
    mask : ndarray of uint8 or None
        Shape ``(row, col)``, 255 valid and 0 not; None where the source has no mask.
    """

    window: Window
    pixels: Array
    mask: ByteMask | None
