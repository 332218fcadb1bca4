"""A grid whose blocks are the tiles of a tile matrix set, as GDAL's COG driver lays it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from cogmill.errors import Refused
from cogmill.raster.geometry.crs import crs_text
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.options.grid_options import Tiling

if TYPE_CHECKING:
    from morecantile import TileMatrixSet

#: An edge this part of a tile off a tile's own is on it.
_ON_THE_EDGE: Final = 1e-8
#: Where rows count down from: OGC leaves it to each set, and this is its default.
_TOP_LEFT: Final = frozenset({"topLeft", None})


class _Matrix(NamedTuple):
    """A matrix: its corner, the size of a pixel where a tile is one block, how many tiles."""

    left: float
    top: float
    pixel: float
    cols: int
    rows: int


def tiling_crs(tiling: Tiling) -> str:
    """Return the coordinate system of a tile matrix set, as WKT.

    Raises
    ------
    Refused
        There is no such set.
    """
    return crs_text(_set(tiling.scheme).crs.to_wkt(), "--tiling-scheme")


def tiled_grid(suggested: Grid, tiling: Tiling, block: int) -> tuple[Grid, int]:
    """Return the whole blocks of a tile matrix that a suggested grid touches.

    Parameters
    ----------
    suggested : Grid
        In the set's system, north up: its pixels choose the zoom level, its bounds the blocks.
    tiling : Tiling
        The set.
    block : int
        Side of a block in pixels. Where it is not that of the set's tiles, a tile still is one
        block, at another density, as GDAL's COG driver has it.

    Returns
    -------
    grid : Grid
        Clipped to the matrix.
    zoom_level : int
        The matrix.

    Raises
    ------
    Refused
        There is no such zoom level, or nothing of the suggested grid lies in the matrix.
    """
    tms = _set(tiling.scheme)
    zoom = _zoom(tms, tiling, suggested.transform[1] * block)
    matrix = _matrix(tms, zoom, block)
    left, bottom, right, top = suggested.bounds
    side = block * matrix.pixel
    cols = _tiles((left - matrix.left) / side, (right - matrix.left) / side, matrix.cols)
    rows = _tiles((matrix.top - top) / side, (matrix.top - bottom) / side, matrix.rows)
    if cols[0] >= cols[1] or rows[0] >= rows[1]:
        raise Refused(
            f"nothing of the raster lies in {tms.id}", "leave out --tiling-scheme, name --dst-crs"
        )
    grid = Grid(
        crs=suggested.crs,
        transform=(
            matrix.left + cols[0] * side,
            matrix.pixel,
            0.0,
            matrix.top - rows[0] * side,
            0.0,
            -matrix.pixel,
        ),
        width=(cols[1] - cols[0]) * block,
        height=(rows[1] - rows[0]) * block,
    )
    return grid, zoom


def _tiles(first: float, last: float, most: int) -> tuple[int, int]:
    """Return first and last (excluded) tile of a stretch along one axis, within the matrix."""
    start = math.floor(first + _ON_THE_EDGE)
    return max(start, 0), min(max(math.ceil(last - _ON_THE_EDGE), start + 1), most)


def _zoom(tms: TileMatrixSet, tiling: Tiling, side: float) -> int:
    """Return the level that was asked for, or the one whose tiles have about this side."""
    if tiling.zoom_level is not None:
        if not tms.minzoom <= tiling.zoom_level <= tms.maxzoom:
            raise Refused(
                f"{tms.id} has no zoom level {tiling.zoom_level}",
                f"use {tms.minzoom} to {tms.maxzoom}",
            )
        return tiling.zoom_level
    pixel = side / tms.matrix(tms.minzoom).tileWidth
    return int(tms.zoom_for_res(pixel, zoom_level_strategy=tiling.strategy))


def _matrix(tms: TileMatrixSet, zoom: int, block: int) -> _Matrix:
    from morecantile import Tile

    matrix = tms.matrix(zoom)
    corner = tms.xy_bounds(Tile(0, 0, zoom))
    return _Matrix(
        left=float(corner.left),
        top=float(corner.top),
        pixel=float(matrix.cellSize) * matrix.tileWidth / block,
        cols=matrix.matrixWidth,
        rows=matrix.matrixHeight,
    )


def _set(name: str) -> TileMatrixSet:
    # Here and not at the top: only a child that was asked for one pays for it.
    import morecantile

    known = {each.lower(): each for each in morecantile.tms.list()}
    found = known.get(name.lower())
    if found is not None:
        tms = morecantile.tms.get(found)
        corners = {matrix.cornerOfOrigin for matrix in tms.tileMatrices}
        if not tms.is_variable and corners <= _TOP_LEFT:
            return tms
        del known[name.lower()]
    raise Refused(
        f"{name} is no tile matrix set that a GeoTIFF can be laid on",
        f"use GoogleMapsCompatible, or one of {', '.join(sorted(known.values()))}",
    )
