"""Pixel rectangles and grids: whole numbers, and one place where they become coordinates.

Pure arithmetic: nothing here opens a raster or loads GDAL.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Final, Self

import numpy as np
from affine import Affine
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.control import Control
from cogmill.raster.tile_names import tile_label

#: ``(x0, dx, rx, y0, ry, dy)`` in GDAL's order: x = x0 + col dx + row rx, y = y0 + col ry + row dy.
GeoTransform = tuple[float, float, float, float, float, float]

#: Of a raster without one: its pixels are its coordinates.
PIXELS: Final[GeoTransform] = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
#: Points along each side of a raster placed by control points whose bounds are looked for.
_SIDE: Final = 65
Length = Annotated[int, Field(ge=1)]


class Window(BaseModel):
    """A pixel rectangle that holds at least one pixel.

    Attributes
    ----------
    col_off, row_off : int
        Its first column and row, counted from the corner of the raster; may be negative.
    width, height : int
        In pixels, at least 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    col_off: int
    row_off: int
    width: Length
    height: Length

    @classmethod
    def spanning(cls, col_off: int, row_off: int, col_stop: int, row_stop: int) -> Self | None:
        """Return the window from a first up to (without) a last column and row; None if empty."""
        if col_stop <= col_off or row_stop <= row_off:
            return None
        return cls(
            col_off=col_off, row_off=row_off, width=col_stop - col_off, height=row_stop - row_off
        )

    @classmethod
    def of(cls, rectangle: tuple[int, int, int, int]) -> Self:
        """Return the window of a `rectangle`."""
        col_off, row_off, width, height = rectangle
        return cls(col_off=col_off, row_off=row_off, width=width, height=height)

    @property
    def col_stop(self) -> int:
        """The first column to the right of the window."""
        return self.col_off + self.width

    @property
    def row_stop(self) -> int:
        """The first row below the window."""
        return self.row_off + self.height

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """First column, first row, width and height."""
        return self.col_off, self.row_off, self.width, self.height

    @property
    def size(self) -> int:
        """How many pixels the window holds."""
        return self.width * self.height

    def intersect(self, other: Window) -> Window | None:
        """Return what both windows hold, None where that is nothing."""
        return Window.spanning(
            max(self.col_off, other.col_off),
            max(self.row_off, other.row_off),
            min(self.col_stop, other.col_stop),
            min(self.row_stop, other.row_stop),
        )

    def contains(self, other: Window) -> bool:
        """Whether every pixel of `other` is in this window."""
        return (
            self.col_off <= other.col_off
            and self.row_off <= other.row_off
            and self.col_stop >= other.col_stop
            and self.row_stop >= other.row_stop
        )

    def union(self, other: Window) -> Window:
        """Return the smallest window that contains both."""
        col_off = min(self.col_off, other.col_off)
        row_off = min(self.row_off, other.row_off)
        return Window(
            col_off=col_off,
            row_off=row_off,
            width=max(self.col_stop, other.col_stop) - col_off,
            height=max(self.row_stop, other.row_stop) - row_off,
        )

    def shift(self, cols: int, rows: int) -> Window:
        """Return the window moved by so many columns and rows."""
        return Window(
            col_off=self.col_off + cols,
            row_off=self.row_off + rows,
            width=self.width,
            height=self.height,
        )

    def widen(self, pixels: int) -> Window:
        """Return the window with so many more pixels on each of its four sides."""
        return Window(
            col_off=self.col_off - pixels,
            row_off=self.row_off - pixels,
            width=self.width + 2 * pixels,
            height=self.height + 2 * pixels,
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as slices of an array of the whole raster."""
        return slice(self.row_off, self.row_stop), slice(self.col_off, self.col_stop)


class Grid(BaseModel):
    """Where the pixels of a raster lie.

    Attributes
    ----------
    crs : str
        Coordinate system as GDAL takes it: WKT, or an authority's code.
    transform : tuple of float
        Six numbers in GDAL's order, from column and row to coordinates; see `GeoTransform`.
    width, height : int
        In pixels.
    control : Control or None
        What places the pixels in the transform's stead, which is then `PIXELS`. Of sources alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crs: str
    transform: GeoTransform
    width: Length
    height: Length
    control: Control | None = None

    @model_validator(mode="after")
    def _invertible(self) -> Self:
        if self.control is not None and self.transform != PIXELS:
            raise ValueError("a raster is placed by its transform or by control points, not both")
        _, dx, rx, _, ry, dy = self.transform
        if not all(map(math.isfinite, self.transform)) or dx * dy - rx * ry == 0:
            raise ValueError(f"{self.transform} places no pixels: it has no inverse")
        return self

    @property
    def affine(self) -> Affine:
        """The transform as rasterio takes it."""
        return Affine.from_gdal(*self.transform)

    @property
    def window(self) -> Window:
        """All pixels of the grid."""
        return Window(col_off=0, row_off=0, width=self.width, height=self.height)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the rectangle that holds all four corners."""
        if self.control is not None:
            return self._bounds_by_control()
        corners = [self.position(col, row) for col in (0, self.width) for row in (0, self.height)]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def _bounds_by_control(self) -> tuple[float, float, float, float]:
        """Return the rectangle that holds a lattice over all of a raster, for its sides bend."""
        cols, rows = np.meshgrid(
            np.linspace(0, self.width, _SIDE), np.linspace(0, self.height, _SIDE)
        )
        xs, ys = self.position_arrays(cols, rows)
        found = np.isfinite(xs) & np.isfinite(ys)
        if not found.any():
            return math.nan, math.nan, math.nan, math.nan
        xs, ys = xs[found], ys[found]
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())

    def position(self, col: float, row: float) -> tuple[float, float]:
        """Return x, y of a place on the grid; whole numbers are the corners of pixels."""
        if self.control is not None:
            xs, ys = self.control.positions(np.array([float(col)]), np.array([float(row)]))
            return float(xs[0]), float(ys[0])
        x0, dx, rx, y0, ry, dy = self.transform
        return x0 + col * dx + row * rx, y0 + col * ry + row * dy

    def position_arrays(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return x, y of many places on the grid, NaN where there are none; see `position`."""
        if self.control is not None:
            return self.control.positions(cols, rows)
        x0, dx, rx, y0, ry, dy = self.transform
        return x0 + cols * dx + rows * rx, y0 + cols * ry + rows * dy

    def place_arrays(self, xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
        """Return columns, rows of many coordinates: the way back from `position_arrays`."""
        if self.control is not None:
            return self.control.places(xs, ys)
        x0, dx, rx, y0, ry, dy = self.transform
        det = dx * dy - rx * ry
        east, north = xs - x0, ys - y0
        with np.errstate(invalid="ignore"):  # infinite where a point has no place
            return (east * dy - north * rx) / det, (north * dx - east * ry) / det

    def window_transform(self, window: Window) -> GeoTransform:
        """Return the transform of a raster that holds only this window.

        Its corner is computed from the grid's own in one step, whatever the way the grid was cut.
        """
        if self.control is not None:
            raise ValueError("a part of a raster placed by control points has no transform")
        _, dx, rx, _, ry, dy = self.transform
        x, y = self.position(window.col_off, window.row_off)
        return x, dx, rx, y, ry, dy

    def window_grid(self, window: Window) -> Grid:
        """Return the grid of a raster that holds only this window."""
        return Grid(
            crs=self.crs,
            transform=self.window_transform(window),
            width=window.width,
            height=window.height,
        )


class OutputTile(BaseModel):
    """One rectangle of the target grid that becomes a file of a mosaic.

    Attributes
    ----------
    row, col : int
        Its place among the tiles, counted from 0 at the grid's origin.
    window : Window
        Its pixels on the target grid; tiles at the right and bottom edges may be smaller.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    col: int
    window: Window

    @property
    def label(self) -> str:
        """What the tile is called, as ``r0003_c0012``."""
        return tile_label(self.row, self.col)


def output_tiles(grid: Grid, tile_size: int) -> list[OutputTile]:
    """Return the output tiles of a grid, row by row.

    Parameters
    ----------
    grid : Grid
        The target grid.
    tile_size : int
        Side of a tile in pixels, at least 1.
    """
    return [
        OutputTile(row=window.row_off // tile_size, col=window.col_off // tile_size, window=window)
        for window in _cut(grid.window, tile_size, tile_size)
    ]


def work_tiles(tile: Window, work_rows: int, work_cols: int) -> list[Window]:
    """Return the work tiles of an output tile, row by row, cut from the tile's own corner.

    Parameters
    ----------
    tile : Window
        The output tile on the target grid.
    work_rows, work_cols : int
        Largest height and width of a work tile in pixels; whole blocks keep tiles on blocks.
    """
    return list(_cut(tile, work_rows, work_cols))


def _cut(whole: Window, rows: int, cols: int) -> Iterator[Window]:
    if rows < 1 or cols < 1:
        raise ValueError(f"{rows} x {cols} pixels cut nothing")
    for row in range(whole.row_off, whole.row_stop, rows):
        for col in range(whole.col_off, whole.col_stop, cols):
            yield Window(
                col_off=col,
                row_off=row,
                width=min(cols, whole.col_stop - col),
                height=min(rows, whole.row_stop - row),
            )
