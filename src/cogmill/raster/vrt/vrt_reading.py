"""Reading a VRT: GDAL puts windows of its members together, before the warp and never within it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from cogmill.errors import BlockUndecodable
from cogmill.raster.arrays import Array, ByteMask
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.inspect.source_file import VrtSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.read.fetching import (
    ReadCounts,
    block_requests,
    most_fetched,
    touched_blocks,
)
from cogmill.raster.read.source_blocks import window_canvas
from cogmill.raster.tiff.block_table import ImageLayout
from cogmill.raster.vrt.vrt_document import renamed_text

#: So many pixels are read at a time, or one block: a member's block is decoded once for them, and
#: what GDAL computes in is as large.
PORTION_PIXELS: Final = 1 << 20


class VrtReader:
    """Reads windows of a VRT that was inspected, within `gdal.environment`.

    Parameters
    ----------
    structure : Structure
        What `inspect_vrt` found.
    dataset : rasterio.DatasetReader
        The VRT's document, opened by `opened_vrt`.

    Attributes
    ----------
    counts : ReadCounts
        What the plan estimates of what is read: GDAL does not say what it fetches and decodes.
    """

    def __init__(self, structure: Structure, dataset: Any) -> None:
        self.structure = structure
        self.counts = ReadCounts(np.zeros(structure.image.blocks.length, np.uint32))
        self._dataset = dataset
        self._failed = False

    def read(self, window: Window, bands: Sequence[int] | None = None) -> HeldPixels:
        """Return the pixels of a window.

        Parameters
        ----------
        window : Window
            Within the raster.
        bands : sequence of int, optional
            Counted from 1, in the order that is wanted; all by default.

        Returns
        -------
        HeldPixels
            As GDAL reads it: the VRT's nodata, or 0, where no member lies.

        Raises
        ------
        BlockUndecodable
            A member cannot be read.
        ValueError
            When the window is not within the raster.
        """
        layout = self.structure.image
        wanted, pixels = window_canvas(layout, window, bands)
        mask = None
        if self.structure.mask is not None:
            mask = np.empty((window.height, window.width), np.uint8)
        for portion in window_portions(layout, window):
            rows, cols = portion.shift(-window.col_off, -window.row_off).slices
            part = pixels[:, rows, cols]
            self._read(portion, wanted, part, None if mask is None else mask[rows, cols])
        self._count(window, wanted)
        return HeldPixels(window=window, pixels=pixels, mask=mask)

    def _read(
        self,
        portion: Window,
        bands: list[int],
        pixels: Array,
        mask: ByteMask | None,
    ) -> None:
        if self._failed:
            # A member that could not be read once, GDAL leaves out from then on.
            raise ValueError(f"{self.structure.name} was left open after it could not be read")
        at = RasterioWindow(portion.col_off, portion.row_off, portion.width, portion.height)
        try:
            self._dataset.read(bands, window=at, out=pixels)
            if mask is not None:
                valid = self._dataset.read_masks(1, window=at)
                mask[:] = np.where(valid != 0, np.uint8(255), np.uint8(0))
        except RasterioError as error:
            self._failed = True
            # GDAL calls a VRT by all of its text.
            said = str(error.__cause__ or error).rpartition("</VRTDataset>")[2].lstrip(" ,:'`")
            raise BlockUndecodable(
                f"{portion} of {self.structure.name} cannot be read: {said.splitlines()[0]}",
                "a member is damaged or gone; write it again, or fetch it again",
            ) from error

    def _count(self, window: Window, bands: Sequence[int]) -> None:
        layout = self.structure.image
        indices = touched_blocks(layout, window, bands)
        for index in indices.tolist():
            self.counts.block(index)
        todo = block_requests(layout.blocks, indices, most_fetched(layout))
        self.counts.requests += len(todo.ranges)
        self.counts.bytes_fetched += todo.nbytes


@contextmanager
def opened_vrt(structure: Structure, file: VrtSource) -> Iterator[VrtReader]:
    """Open a VRT that was inspected; no VRT is read again, only its members.

    Parameters
    ----------
    structure : Structure
        What `inspect_vrt` found.
    file : VrtSource
        Its ``file``.
    """
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
        dataset = rasterio.open(renamed_text(file.text), driver="VRT")
    with dataset:
        yield VrtReader(structure, dataset)


def window_portions(layout: ImageLayout, window: Window) -> Iterator[Window]:
    """Yield the parts of a window that are read one by one: whole blocks, row by row.

    Parameters
    ----------
    layout : ImageLayout
        The VRT's.
    window : Window
        Within it.
    """
    height, width = layout.block_height, _portion_width(layout)
    for top in range(window.row_off // height * height, window.row_stop, height):
        for left in range(window.col_off // width * width, window.col_stop, width):
            part = Window(col_off=left, row_off=top, width=width, height=height)
            within = part.intersect(window)
            if within is not None:
                yield within


def _portion_width(layout: ImageLayout) -> int:
    blocks = PORTION_PIXELS // (layout.block_width * layout.block_height)
    return layout.block_width * max(blocks, 1)


def vrt_decoding(layout: ImageLayout, file: VrtSource) -> int:
    """Return what reading a VRT needs beside the pixels that it fills, in bytes."""
    portion = min(_portion_width(layout), layout.width) * min(layout.block_height, layout.height)
    # A mask is read into an array of its own.
    return file.decoding_bytes + portion * (file.pixel_scratch + 1)
