"""Work tiles to rows of pixels: each tile's source is read, warped or copied, and given on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import numpy as np

from cogmill.errors import SourceWindowTooSmall
from cogmill.raster.cog.block_rows import PixelRows
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.make.masking import masked
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.plan.reads import WorkRead, block_row_windows
from cogmill.raster.read.source_blocks import PixelSource
from cogmill.raster.warp.exact_warp import warp

WIDEN_PIXELS = 64
"""How much wider a source window is read when GDAL asked beyond it; counted, never silent."""


WIDEN_TIMES = 4
"""For one row of blocks: a tile of many may meet such places often."""


class TileMaker:
    """Turns the work tiles of an output tile, or one of them, into rows of pixels from the top.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    window : Window
        What is made, on the target grid.
    reader : PixelSource
        Gives source pixels.
    progress : callable
        Told the pixels done so far.

    Attributes
    ----------
    widened : int
        How often a source window had to be read again, wider.
    """

    def __init__(
        self,
        plan: RasterPlan,
        window: Window,
        reader: PixelSource,
        progress: Callable[[int], None],
    ) -> None:
        self._plan = plan
        self._window = window
        self._reader = reader
        self._progress = progress
        self._done = 0
        self.widened = 0

    def rows(self, reads: Iterable[WorkRead]) -> Iterator[PixelRows]:
        """Yield whole rows of blocks at the window's full width."""
        for _, group in groupby(reads, key=lambda read: read[0].row_off):
            row = list(group)
            if len(row) == 1:
                yield from self._block_rows(*row[0])
            else:
                yield self._joined(row)

    def _joined(self, row: list[WorkRead]) -> PixelRows:
        """Put work tiles that lie side by side into one array, each with its own source window."""
        image, first = self._plan.image, row[0][0]
        width = self._window.width
        pixels = np.empty((image.bands, first.height, width), image.dtype)
        mask = np.empty((first.height, width), np.uint8) if image.has_mask else None
        for work, source in row:
            left, top = work.col_off - self._window.col_off, 0
            for part, part_mask in self._block_rows(work, source):
                area = (slice(top, top + part.shape[1]), slice(left, left + work.width))
                pixels[:, *area] = part
                if mask is not None and part_mask is not None:
                    mask[area] = part_mask
                top += part.shape[1]
        return pixels, mask

    def _block_rows(self, work: Window, source: Window | None) -> Iterator[PixelRows]:
        """Yield a work tile one row of blocks at a time, so that GDAL's buffers stay small."""
        held = None if source is None else self._read(source)
        for row in block_row_windows(work, self._plan.image.block):
            times = 0
            while True:
                try:
                    rows = self._computed(held, row)
                    break
                except SourceWindowTooSmall:
                    times += 1
                    held = self._widened(held, row, times)
            self._done += row.size
            self._progress(self._done)
            yield rows

    def _computed(self, held: HeldPixels | None, row: Window) -> PixelRows:
        spec = self._plan.warp
        if spec is not None:
            warped = warp(spec, held, row)
            order = list(self._plan.output_order)
            in_order = order == sorted(order)
            return warped.pixels if in_order else warped.pixels[order], warped.mask
        if held is None:
            raise SourceWindowTooSmall(f"nothing is held for {row}")
        rows, cols = row.shift(-held.window.col_off, -held.window.row_off).slices
        # A mask that --nodata or an alpha band overrules is read and not written.
        mask = held.mask if self._plan.image.has_mask else None
        return held.pixels[:, rows, cols], None if mask is None else mask[rows, cols]

    def _widened(self, held: HeldPixels | None, row: Window, times: int) -> HeldPixels:
        self.widened += 1
        if times > WIDEN_TIMES:
            raise SourceWindowTooSmall(
                f"GDAL asks for source pixels far from where {row} lies",
                "report this raster; --strategy two-stage may pass",
            )
        whole = self._plan.source_grid.window
        wider = whole if held is None else held.window.widen(WIDEN_PIXELS << times)
        return self._read(wider.intersect(whole) or whole)

    def _read(self, source: Window) -> HeldPixels:
        return masked(self._reader.read(source, self._plan.held_bands), self._plan.validity)
