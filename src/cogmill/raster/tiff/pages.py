"""Which directories of a TIFF are images, masks and overviews, and which of them are read."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import tifffile
from pydantic import BaseModel, ConfigDict

from cogmill.errors import Refused
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.tiff.block_table import (
    DAMAGE,
    MASK_BIT,
    REDUCED_BIT,
    ImageLayout,
    check_within,
    image_layout,
    tiff_page,
)

#: More images of a file than these are not listed one by one.
_LISTED: Final = 8


class Pages(BaseModel):
    """One image of a file and what belongs to it: indices into its chain of directories.

    Attributes
    ----------
    image : int
        The image.
    number : int or None
        What GDAL and ``--page`` call it, where the file holds several images.
    first : bool
        Whether it is the file's first image.
    masks, small_images, small_masks : tuple of int
        Its masks, its overviews, and their masks.
    overviews : tuple of (int, int)
        Width and height of each overview.
    """

    model_config = ConfigDict(frozen=True)

    image: int
    number: int | None
    first: bool
    masks: tuple[int, ...]
    small_images: tuple[int, ...]
    small_masks: tuple[int, ...]
    overviews: tuple[tuple[int, int], ...]


def chosen_pages(tiff: tifffile.TiffFile, number: int | None, name: str) -> Pages:
    """Return the image that is read, with its masks and overviews.

    Of a file with several images, those of one are the directories behind it, up to the next
    image; of a file with one image, all directories are its own.

    Parameters
    ----------
    tiff : TiffFile
        The file.
    number : int or None
        Which image, as GDAL counts: the number of its directory, from 1. None: the only one.
    name : str
        What messages call the file.

    Raises
    ------
    Refused
        There is no image, none of that number, or none was chosen of several.
    """
    kinds = [int(tiff_page(tiff, index).subfiletype) for index in range(len(tiff.pages))]
    images = [index for index, kind in enumerate(kinds) if not kind & (REDUCED_BIT | MASK_BIT)]
    if not images:
        raise Refused(f"{name} holds no image of full size", "name a GeoTIFF")
    _check_choice(tiff, images, number, name)
    several = len(images) > 1
    image = images[0] if number is None else number - 1
    own = range(len(kinds))
    if several:
        own = range(image, next((other for other in images if other > image), len(kinds)))

    def of_kind(reduced: int, mask: int) -> tuple[int, ...]:
        return tuple(
            index for index in own if kinds[index] & (REDUCED_BIT | MASK_BIT) == reduced | mask
        )

    small = of_kind(REDUCED_BIT, 0)
    return Pages(
        image=image,
        number=image + 1 if several else None,
        first=image == images[0],
        masks=of_kind(0, MASK_BIT),
        small_images=small,
        small_masks=of_kind(REDUCED_BIT, MASK_BIT),
        overviews=tuple(
            (tiff_page(tiff, i).imagewidth, tiff_page(tiff, i).imagelength) for i in small
        ),
    )


def _check_choice(
    tiff: tifffile.TiffFile, images: list[int], number: int | None, name: str
) -> None:
    if number is None and len(images) == 1:
        return
    if number is not None and number - 1 in images:
        return
    listed = [
        f"{ifd + 1}: {found.imagewidth} x {found.imagelength}"
        for ifd, found in ((ifd, tiff_page(tiff, ifd)) for ifd in images[:_LISTED])
    ]
    listed += ["..."] * (len(images) > _LISTED)
    if number is not None:
        held = "one image" if len(images) == 1 else f"{len(images)} images"
        raise Refused(
            f"{name} holds {held} ({', '.join(listed)}), and none is page {number}",
            f"name one of these, such as --page {images[0] + 1}",
        )
    raise Refused(
        f"{name} holds {len(images)} images ({', '.join(listed)}), and one must be chosen",
        f"name it, such as --page {images[0] + 1}",
    )


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
            layout = image_layout(tiff_page(tiff, ifd), ifd, "overview")
            check_within(layout, "overview", size)
            found.append(layout)
    return found


def _factor(image: ImageLayout, small: ImageLayout) -> int:
    """Return by what an overview is smaller along both sides, 0 where they are not alike."""
    factor = round(image.width / small.width)
    for whole, part in ((image.width, small.width), (image.height, small.height)):
        if factor < 2 or part not in (whole // factor, ceil_div(whole, factor)):
            return 0
    return factor
