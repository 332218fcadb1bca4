"""What of the source a window of the target needs, from a lattice of its points.

Plans ask thousands of times and tasks ask again, with the same answer: it depends on the warp, the
window and PROJ alone, and is remembered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.crs import transform_points_back
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.seams import comes_round
from cogmill.raster.warp.roundtrip import ground_spread, roundtrip_error
from cogmill.raster.warp.warp_spec import UNSCALED, WarpSpec

#: Largest side of a region that GDAL warps at a time, in target pixels.
CHUNK: Final = 1024
#: Smallest, where a target pixel takes many source pixels.
_SMALLEST_CHUNK: Final = 64
#: Bytes of source pixels that one region may take, unless the smallest one takes more.
_CHUNK_BYTES: Final = 48 << 20
#: With an alpha band GDAL warps whole blocks of the VRT, counted from the grid's corner: the
#: largest of these that the window is made of, else the smallest.
_ALPHA_BLOCKS: Final = (256, 128, 64)
#: Lattice cells along the side of a whole window, at least, and along that of each region.
_CELLS: Final = 32
_CHUNK_CELLS: Final = 4
#: Cells along the side of a region in GDAL's own sampling.
_GDAL_CELLS: Final = 20
#: GDAL reads an axis in full from 0.9 of it on.
_ALL_OF_IT: Final = 0.88
#: The source of one block, of what its share of a region would be: its halo, and uneven scale.
_BLOCK_MARGIN: Final = 2.0
#: What small allocations and rounding to pages add.
_ALLOCATOR_BYTES: Final = 1 << 20
_FAR: Final = 1e9
#: Near the ends of a source that goes around the world GDAL asks for both of them.
_SEAM_PIXELS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A region that GDAL warps at a time.

    Attributes
    ----------
    target, source : Window
        Its pixels, and those of the source that GDAL reads for it at most.
    """

    target: Window
    source: Window


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a window of the target needs.

    Attributes
    ----------
    chunks : tuple of Chunk
        The regions that touch the source, row by row.
    source : Window or None
        What all of them read, None where there is none.
    extra : int
        Source pixels for GDAL's ``SOURCE_EXTRA``.
    """

    chunks: tuple[Chunk, ...]
    source: Window | None
    extra: int


def source_positions(spec: WarpSpec, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Return where places of the target grid lie on the source grid.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    cols, rows : ndarray
        Places on the target; whole numbers are the corners of pixels.

    Returns
    -------
    cols, rows : ndarray
        Places on the source; NaN where there is none.
    """
    at = spec.target.position_arrays(cols, rows)
    xs, ys = transform_points_back(spec.ends, spec.coordinate_operation, *at)
    there = np.isfinite(xs) & np.isfinite(ys)
    places = spec.source.place_arrays(np.where(there, xs, np.nan), np.where(there, ys, np.nan))
    return np.clip(places[0], -_FAR, _FAR), np.clip(places[1], -_FAR, _FAR)


@lru_cache(maxsize=256)
def footprint(spec: WarpSpec, window: Window) -> Footprint:
    """Return what a window of the target needs of the source, and how it is cut to be warped.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    window : Window
        On the target grid.
    """
    side = max(_chunk_side(spec), block_side(spec, window))
    whole = _warped(spec, window)
    cells = max(_CHUNK_CELLS, _CELLS // ceil_div(max(whole.width, whole.height), side))
    col_edges, row_edges = (
        _edges(whole.col_off, whole.col_stop, side),
        _edges(whole.row_off, whole.row_stop, side),
    )
    cols, rows = np.meshgrid(_ticks(col_edges, cells), _ticks(row_edges, cells))
    places = source_positions(spec, cols, rows)
    if not np.isfinite(places[0]).any():
        return Footprint((), None, 0)
    bends = [_bend(each) for each in places]
    gaps = [_gap(each) for each in places]
    aside, ground = roundtrip_error(spec), ground_spread(spec)
    ratio = cells / _GDAL_CELLS
    # What GDAL samples may stand in a valley, and the summits lie between.
    sampled = max(bends) * max(ratio, ratio**2) + max(gaps) + max(ground)
    extra = min(spec.reach + 1 + math.ceil(sampled), max(spec.source.width, spec.source.height))
    half = [each / 2 for each in ground]
    margins = [sum(parts) for parts in zip(bends, gaps, aside, half, strict=True)]
    around = comes_round(spec.source)
    chunks = []
    for down in range(len(row_edges) - 1):
        for across in range(len(col_edges) - 1):
            part = (
                slice(down * cells, (down + 1) * cells + 1),
                slice(across * cells, (across + 1) * cells + 1),
            )
            target = Window.spanning(
                col_edges[across], row_edges[down], col_edges[across + 1], row_edges[down + 1]
            )
            if target is None:
                continue
            cell = target.width / cells, target.height / cells
            found = [
                _needed(each[part], margin, _Axis(spec, length, whole_length, extra, cell, turn))
                for each, margin, length, whole_length, turn in (
                    (places[0], margins[0], target.width, spec.source.width, around),
                    (places[1], margins[1], target.height, spec.source.height, False),
                )
            ]
            if found[0] is not None and found[1] is not None:
                source = Window.spanning(found[0][0], found[1][0], found[0][1], found[1][1])
                if source is not None:
                    chunks.append(Chunk(target, source))
    return Footprint(tuple(chunks), _union(chunks), extra)


def source_window(spec: WarpSpec, window: Window) -> Window | None:
    """Return the source pixels that GDAL may ask for to warp a window of the target.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    window : Window
        On the target grid.

    Returns
    -------
    Window or None
        Within the source, the kernel's halo included; None where the window touches no source.
    """
    at = _needs(spec, window.col_off, window.row_off, window.width, window.height)[0]
    return None if at is None else Window.spanning(*at)


def warp_buffer_bytes(spec: WarpSpec, window: Window) -> int:
    """Return at most how many bytes GDAL allocates to warp a window, beside held and result.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    window : Window
        On the target grid.

    Returns
    -------
    int
        For the largest of its regions: GDAL's own copy of source and target and their masks.
        Measured as ``VmHWM`` with GDAL 3.10.3; see the tests.
    """
    return _needs(spec, window.col_off, window.row_off, window.width, window.height)[1]


@lru_cache(maxsize=1 << 16)
def _needs(spec: WarpSpec, *at: int) -> tuple[tuple[int, int, int, int] | None, int]:
    """Return the source's corners and GDAL's bytes: small, for a plan asks again for all."""
    window = Window(col_off=at[0], row_off=at[1], width=at[2], height=at[3])
    found, block = footprint(spec, window), block_side(spec, window)
    source = found.source
    if source is None:
        return None, 0
    most = max(_chunk_bytes(spec, chunk, block) for chunk in found.chunks) + _ALLOCATOR_BYTES
    if spec.source.control is not None:
        most += spec.source.control.working_bytes
    return (source.col_off, source.row_off, source.col_stop, source.row_stop), most


def _chunk_bytes(spec: WarpSpec, chunk: Chunk, block: int) -> int:
    planes = spec.bands + spec.target_mask
    source = planes * spec.itemsize + (planes + 2) / 8
    target = planes * spec.itemsize + 1
    read, warped = float(chunk.source.size), chunk.target.size
    cached = 0
    if spec.source_mask:
        source += 1
    if spec.target_mask:
        # Read apart from the result, which has no such band.
        target += planes * spec.itemsize + 1
    if spec.source_alpha:
        # Warped block by block into GDAL's cache; a density is four bytes.
        source, target = source + 4, target + 4
        cached = warped * (planes + 1) * spec.itemsize
        share = min(1.0, _BLOCK_MARGIN * block * block / warped)
        read, warped = read * share, min(warped, block * block)
    return math.ceil(read * source + warped * target + cached)


def _chunk_side(spec: WarpSpec) -> int:
    """Return the side of regions: a power of two, so that every window is cut alike."""
    per_pixel = (spec.planes + spec.target_mask) * spec.itemsize + 4 * spec.source_alpha
    per_pixel_of_target = per_pixel / (spec.xscale * spec.yscale)
    side = CHUNK
    while side > _SMALLEST_CHUNK and side * side * per_pixel_of_target > _CHUNK_BYTES:
        side //= 2
    return side


def block_side(spec: WarpSpec, window: Window) -> int:
    """Return the side of the blocks of the warped VRT from which a window is read."""
    if not spec.source_alpha:
        return 1
    for side in _ALPHA_BLOCKS:
        if _snapped(spec, window, side) == window:
            return side
    return _ALPHA_BLOCKS[-1]


def _warped(spec: WarpSpec, window: Window) -> Window:
    """Return the window that is really warped: whole blocks, or at least two pixels a side.

    A read of one column or row is no larger than a block of one pixel, and GDAL would warp pixel
    by pixel.
    """
    if spec.source_alpha:
        return _snapped(spec, window, block_side(spec, window))
    col_off = window.col_off - (window.width == 1 and window.col_stop == spec.target.width)
    row_off = window.row_off - (window.height == 1 and window.row_stop == spec.target.height)
    wide = Window(
        col_off=col_off,
        row_off=row_off,
        width=max(window.width, 2),
        height=max(window.height, 2),
    )
    return wide.intersect(spec.target.window) or window


def _snapped(spec: WarpSpec, window: Window, side: int) -> Window:
    """Return the blocks that a window touches, as one window."""
    snapped = Window.spanning(
        window.col_off // side * side,
        window.row_off // side * side,
        min(ceil_div(window.col_stop, side) * side, spec.target.width),
        min(ceil_div(window.row_stop, side) * side, spec.target.height),
    )
    return snapped or window


def _edges(start: int, stop: int, side: int) -> list[int]:
    """Return where a stretch is cut, with no single pixel left over."""
    edges = [*range(start, stop, side), stop]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return edges


def _ticks(edges: list[int], cells: int) -> Floats:
    """Return coordinates from edge to edge, each stretch in as many cells."""
    inner = [np.linspace(low, high, cells, endpoint=False) for low, high in pairwise(edges)]
    return np.concatenate([*inner, np.array([float(edges[-1])])])


def _bend(places: Floats) -> float:
    """Return how far, in source pixels, a footprint may bulge out between lattice points.

    An eighth of the second difference would do for a curve; half of it holds for a kink too, as
    at a pole.
    """
    bend = 0.0
    for axis in (0, 1):
        second = np.abs(np.diff(places, 2, axis=axis))
        if np.isfinite(second).any():
            bend += float(np.nanmax(second)) / 2
    return bend


def _gap(places: Floats) -> float:
    """Return how far a footprint may reach beyond the points that could be transformed."""
    if np.isfinite(places).all():
        return 0.0
    steps = [np.abs(np.diff(places, axis=axis)) for axis in (0, 1)]
    largest = [float(np.nanmax(step)) for step in steps if np.isfinite(step).any()]
    return 10.0 + (max(largest) if largest else _FAR)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a region: its length, the source's, what is extra, the lattice's cell.

    `around` is True where the last pixel's neighbour is the first.
    """

    spec: WarpSpec
    target: int
    whole: int
    extra: int
    cell: tuple[float, float]
    around: bool

    @property
    def by_blocks(self) -> bool:
        """Whether GDAL warps the region in smaller squares."""
        return self.spec.source_alpha or min(self.spec.target.width, self.spec.target.height) == 1

    def growth(self, places: Floats, length: float) -> float:
        """Return how many source pixels there are to a target pixel, as GDAL sees it."""
        growth = length / self.target
        if self.by_blocks:
            steps = [np.abs(np.diff(places, axis=1 - axis)) for axis in (0, 1)]
            growth = max(
                growth,
                sum(
                    float(np.nanmax(step)) / size
                    for step, size in zip(steps, self.cell, strict=True)
                    if np.isfinite(step).any()
                ),
            )
        return max(1.0, growth / UNSCALED)


def _needed(places: Floats, margin: float, axis: _Axis) -> tuple[int, int] | None:
    """Return first and last (excluded) source pixel of a region along one axis."""
    if not np.isfinite(places).any():
        return None
    whole = axis.whole
    low, high = float(np.nanmin(places)) - margin, float(np.nanmax(places)) + margin
    near_an_end = low < _SEAM_PIXELS or high > whole - _SEAM_PIXELS
    if axis.around and near_an_end:
        return 0, whole
    if high < 0 or low > whole:
        return None
    # As GDAL: the kernel grows with the region's own scale, then by what was said to be extra.
    grown = math.ceil(axis.spec.radius * axis.growth(places, high - low)) + 1 + axis.extra
    first, last = max(0, math.floor(low)), min(whole, math.ceil(high))
    if last - first > _ALL_OF_IT * whole:
        return 0, whole
    return max(0, first - grown), min(whole, last + grown)


def _union(chunks: list[Chunk]) -> Window | None:
    if not chunks:
        return None
    return Window.spanning(
        min(chunk.source.col_off for chunk in chunks),
        min(chunk.source.row_off for chunk in chunks),
        max(chunk.source.col_stop for chunk in chunks),
        max(chunk.source.row_stop for chunk in chunks),
    )
