"""Overviews: 2x2 reduction on ceil(n/2) sizes; `cascade` feeds it row by row.

A reduced pixel is made of the up to four valid pixels that it covers, and is valid if any of them
is. The result never depends on how the rows arrive: an odd last row or column counts as if it
stood there twice, which leaves every average, mode and nearest pixel as it is.

Where GDAL's own overviews differ, this is why:

- integer averages are rounded half up, towards plus infinity; GDAL rounds signed halves away from
  zero;
- an average that falls on the nodata value is moved off it. GDAL does that too, but moves a float
  by one unit in the last place, and then reads it as nodata, for it compares floats with a
  tolerance; here it is moved beyond that tolerance;
- nearest takes the top left pixel, as GDAL does, but the first valid one where that is not valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, BoolMask

Method = Literal["average", "nearest", "mode"]
Corners = tuple[Array, Array, Array, Array]

#: Source pixels that are reduced at a time, so that scratch arrays stay in the processor's cache.
_STEP_PIXELS: Final = 1 << 18
#: How near to nodata, relative to it, GDAL 3.10 takes a float for nodata, with room to spare
#: (measured: 4 epsilon of float32, for float64 too).
_NODATA_TOLERANCE: Final = 8 * float(np.finfo(np.float32).eps)
_ACCUMULATORS: Final[Mapping[tuple[str, int], Any]] = {
    ("u", 1): np.uint16,
    ("u", 2): np.uint32,
    ("u", 4): np.uint64,
    ("i", 1): np.int16,
    ("i", 2): np.int32,
    ("i", 4): np.int64,
}


def level_sizes(width: int, height: int, levels: int) -> tuple[tuple[int, int], ...]:
    """Return width and height of the full resolution and of so many halvings, each rounded up."""
    return tuple((ceil_div(width, 1 << k), ceil_div(height, 1 << k)) for k in range(levels + 1))


def overview_count(width: int, height: int, block: int, least: int = 3) -> int:
    """Return how many halvings an image carries: until it fits in one block, and `least` at least.

    Parameters
    ----------
    width, height : int
        Size in pixels.
    block : int
        Side of a block in pixels.
    least : int
        What every output tile carries.
    """
    count = 0
    while ceil_div(max(width, height), 1 << count) > block:
        count += 1
    return max(count, least)


def reduce_by_two(
    pixels: Array, valid: BoolMask | None, method: Method = "average", nodata: float | None = None
) -> tuple[Array, BoolMask | None]:
    """Return the pixels at half the resolution, and which of them are valid.

    Parameters
    ----------
    pixels : ndarray
        Shape ``(band, row, col)``. NaN is never valid.
    valid : ndarray of bool or None
        Shape ``(band, row, col)``, or ``(row, col)`` for all bands alike; None: all are valid.
    method : str
        ``average``, ``nearest`` or ``mode`` (of equally frequent values the one that gets there
        first, row by row).
    nodata : float, optional
        What a pixel without any valid source gets, and what no valid average may be. Without it
        such a pixel is 0, or NaN where only NaN made it invalid.

    Returns
    -------
    pixels : ndarray
        Shape ``(band, ceil(row / 2), ceil(col / 2))``, same dtype.
    valid : ndarray of bool or None
        As many dimensions as `valid` had.
    """
    bands, rows, cols = pixels.shape
    out_rows, out_cols = ceil_div(rows, 2), ceil_div(cols, 2)
    out = np.empty((bands, out_rows, out_cols), pixels.dtype)
    out_valid = None if valid is None else np.empty((*valid.shape[:-2], out_rows, out_cols), bool)
    step = max(1, _STEP_PIXELS // max(1, 4 * bands * out_cols))
    for first in range(0, out_rows, step):
        to = slice(first, first + step)
        piece = pixels[:, 2 * first : 2 * (first + step)]
        given = None
        if valid is not None and out_valid is not None:
            given = valid[..., 2 * first : 2 * (first + step), :]
            out_valid[..., to, :] = _any(_corners(given))
        out[:, to] = _reduce_piece(piece, given, method, nodata)
    return out, out_valid


def _reduce_piece(
    pixels: Array, valid: BoolMask | None, method: Method, nodata: float | None
) -> Array:
    given = valid
    if pixels.dtype.kind in "fc":
        nan = np.isnan(pixels)
        if nan.any():
            valid = ~nan if valid is None else valid & ~nan
    if valid is not None and valid.all():
        valid = None
    corners = _corners(pixels)
    flags = None if valid is None else _corners(valid)
    if method == "average":
        out = _average_of_four(corners, flags)
        if nodata is not None:
            _leave_nodata(out, nodata)
    elif method == "mode":
        out = _mode(corners, flags)
    else:
        out = _first(corners, flags)
    if flags is not None:
        none = np.broadcast_to(~_any(flags), out.shape)
        out[none] = 0 if nodata is None else nodata
        if nodata is None and pixels.dtype.kind in "fc":
            seen = True if given is None else _any(_corners(given))
            out[none & seen] = np.nan
    return out


def _corners(pixels: Array) -> Corners:
    """Return the four pixels of each 2x2 cell as views: top left, top right, bottom left, right."""
    rows, cols = pixels.shape[-2:]
    if rows % 2 or cols % 2:
        widths = [(0, 0)] * (pixels.ndim - 2) + [(0, rows % 2), (0, cols % 2)]
        pixels = np.pad(pixels, widths, mode="edge")
    top, bottom = pixels[..., 0::2, :], pixels[..., 1::2, :]
    return top[..., 0::2], top[..., 1::2], bottom[..., 0::2], bottom[..., 1::2]


def _any(flags: Corners) -> BoolMask:
    a, b, c, d = flags
    found: BoolMask = a | b | c | d
    return found


def _counts(flags: Corners, shape: tuple[int, ...]) -> Array:
    a, b, c, d = (flag.view(np.uint8) for flag in flags)
    return np.broadcast_to(a + b + c + d, shape)


def _average_of_four(corners: Corners, flags: Corners | None) -> Array:
    dtype = corners[0].dtype
    if flags is not None:
        corners = _zero_invalid(corners, flags)
    if dtype.kind in "iu":
        if dtype.itemsize == 8:
            return _average_64(corners, flags)
        return _average_integer(corners, flags)
    accumulator = np.complex128 if dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        total = _sum(corners, accumulator)
        if flags is None:
            total *= 0.25
        else:
            total /= np.maximum(_counts(flags, total.shape), 1)
        return total.astype(dtype)


def _zero_invalid(corners: Corners, flags: Corners) -> Corners:
    zero = corners[0].dtype.type(0)
    a, b, c, d = (np.where(flag, corner, zero) for corner, flag in zip(corners, flags, strict=True))
    return a, b, c, d


def _sum(corners: Corners, accumulator: Any) -> Array:
    """Return the sum, always in the same order: floats are no associative numbers."""
    top_left, top_right, bottom_left, bottom_right = corners
    left: Array = np.add(top_left, bottom_left, dtype=accumulator)
    left += np.add(top_right, bottom_right, dtype=accumulator)
    return left


def _average_integer(corners: Corners, flags: Corners | None) -> Array:
    dtype = corners[0].dtype
    total = _sum(corners, _ACCUMULATORS[dtype.kind, dtype.itemsize])
    total += total.dtype.type(2)
    out = total >> total.dtype.type(2)
    if flags is not None:
        counts = _counts(flags, total.shape)
        mixed = (counts > 0) & (counts < 4)
        count = counts[mixed].astype(total.dtype)
        out[mixed] = (total[mixed] - 2 + count // 2) // count
    averaged: Array = out.astype(dtype)
    return averaged


def _average_64(corners: Corners, flags: Corners | None) -> Array:
    """Return the average of integers whose sum could overflow: of quotients and remainders."""
    dtype = corners[0].dtype
    shape = corners[0].shape
    count = np.full(shape, 4, dtype)
    if flags is not None:
        count = np.maximum(_counts(flags, shape).astype(dtype), 1)
    quotients = np.zeros(shape, dtype)
    remainders = count // 2
    for corner in corners:
        quotients += corner // count
        remainders += corner % count
    quotients += remainders // count
    return quotients


def _leave_nodata(out: Array, nodata: float) -> None:
    """Move averages off the nodata value, in place."""
    dtype = out.dtype
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if info.min <= nodata <= info.max and float(nodata).is_integer():
            value = int(nodata)
            out[out == value] = value - 1 if value == info.max else value + 1
    elif dtype.kind == "f" and abs(nodata) <= np.finfo(dtype).max:
        with np.errstate(over="ignore", invalid="ignore"):
            value = dtype.type(nodata)
            reach = abs(value) * _NODATA_TOLERANCE
            hit = np.abs(out - value) <= reach
            if hit.any():
                out[hit] = _beside(value, reach)


def _beside(value: Any, reach: Any) -> Any:
    """Return the float next to a nodata value that GDAL takes for another one."""
    if reach == 0:
        return np.nextafter(value, value.dtype.type(np.inf))
    moved = value.dtype.type(value + 2 * reach)
    return moved if np.isfinite(moved) else value - 2 * reach


def _first(corners: Corners, flags: Corners | None) -> Array:
    out = corners[3].copy()
    if flags is None:
        out[...] = corners[0]
        return out
    for corner, flag in list(zip(corners, flags, strict=True))[2::-1]:
        np.copyto(out, corner, where=flag)
    return out


def _mode(corners: Corners, flags: Corners | None) -> Array:
    shape = corners[0].shape
    flags = flags or _all_true(shape)
    best = np.zeros(shape, corners[0].dtype)
    most = np.zeros(shape, np.uint8)
    for i, (corner, flag) in enumerate(zip(corners, flags, strict=True)):
        count = np.broadcast_to(flag, shape).astype(np.uint8)
        for earlier, seen in zip(corners[:i], flags[:i], strict=True):
            count += (earlier == corner) & seen & flag
        better = count > most
        np.copyto(best, corner, where=better)
        np.copyto(most, count, where=better)
    return best


def _all_true(shape: tuple[int, ...]) -> Corners:
    true = np.broadcast_to(np.True_, shape)
    return true, true, true, true


@dataclass(frozen=True)
class Reduction:
    """How an image is reduced: which of its pixels are valid, and what is made of them.

    Attributes
    ----------
    method : str
        ``average``, ``nearest`` or ``mode``.
    nodata : float or None
        The value of invalid pixels, in every band on its own.
    alpha : int or None
        Index of the alpha band, from 0: where it is 0, no band is valid, the alpha itself included.
    """

    method: Method = "average"
    nodata: float | None = None
    alpha: int | None = None

    def valid(self, pixels: Array, mask: BoolMask | None) -> BoolMask | None:
        """Return the valid pixels, ``(band, row, col)`` or ``(row, col)``; None: NaN aside, all.

        Parameters
        ----------
        pixels : ndarray
            Shape ``(band, row, col)``.
        mask : ndarray of bool or None
            Shape ``(row, col)``; True is valid.
        """
        if mask is not None:
            return mask
        if self.alpha is not None:
            opaque: BoolMask = pixels[self.alpha] != 0
            return opaque
        if self.nodata is None or np.isnan(self.nodata):
            return None
        with np.errstate(over="ignore"):
            value = np.asarray(self.nodata).astype(pixels.dtype)
        if pixels.dtype.kind in "iu" and value != self.nodata:
            return None
        different: BoolMask = pixels != value
        return different

    def halve(self, pixels: Array, mask: BoolMask | None) -> tuple[Array, BoolMask | None]:
        """Return pixels and mask at half the resolution, shapes as in `reduce_by_two`."""
        valid = self.valid(pixels, mask)
        half, half_valid = reduce_by_two(pixels, valid, self.method, self.nodata)
        return half, half_valid if mask is not None else None
