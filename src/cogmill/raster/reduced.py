"""The overviews in a source's own file that can be read in its place.

A module of its own beside `structure`: it says which directories are such, and nothing of when
they are used (`coarser`).
"""

from __future__ import annotations

from contextlib import suppress

import tifffile
from pydantic import BaseModel, ConfigDict

from cogmill.errors import Refused
from cogmill.raster.layout import DAMAGE, ImageLayout, check_within, image_layout, page
from cogmill.raster.pages import Pages


class ReducedImage(BaseModel):
    """One overview.

    Attributes
    ----------
    number : int
        Its place among the overviews, as GDAL counts them, from 0.
    factor : int
        How many pixels of the image there are to one of it, along each side.
    image, mask : ImageLayout, ImageLayout or None
        As those of the image itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    factor: int
    image: ImageLayout
    mask: ImageLayout | None = None


def reduced_images(
    tiff: tifffile.TiffFile, pages: Pages, image: ImageLayout, mask: ImageLayout | None, size: int
) -> tuple[ReducedImage, ...]:
    """Return the overviews that hold what the image holds, only smaller; others are left out.

    Parameters
    ----------
    tiff : TiffFile
        The file.
    pages : Pages
        The image's directories.
    image, mask : ImageLayout, ImageLayout or None
        At full resolution, both in this file.
    size : int
        Of the file in bytes.
    """
    masks = {
        (found.width, found.height): found for found in _layouts(tiff, pages.small_masks, size)
    }
    usable: list[ReducedImage] = []
    for number, ifd in enumerate(pages.small_images):
        for found in _layouts(tiff, (ifd,), size):
            factor = _factor(image, found)
            beside = masks.get((found.width, found.height))
            alike = (found.samples, found.dtype) == (image.samples, image.dtype)
            if factor and alike and (mask is None) == (beside is None):
                usable.append(ReducedImage(number=number, factor=factor, image=found, mask=beside))
    return tuple(usable)


def _layouts(tiff: tifffile.TiffFile, directories: tuple[int, ...], size: int) -> list[ImageLayout]:
    """Return the layouts that can be read; a damaged overview is no reason to refuse its image."""
    found = []
    for ifd in directories:
        with suppress(Refused, *DAMAGE):
            layout = image_layout(page(tiff, ifd), ifd, "overview")
            check_within(layout, "overview", size)
            found.append(layout)
    return found


def _factor(image: ImageLayout, small: ImageLayout) -> int:
    """Return by what an overview is smaller along both sides, 0 where they are not alike."""
    factor = round(image.width / small.width)
    for whole, part in ((image.width, small.width), (image.height, small.height)):
        if factor < 2 or part not in (whole // factor, -(-whole // factor)):
            return 0
    return factor
