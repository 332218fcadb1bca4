"""A cascade makes all levels of an image from the rows of one, and holds none of them whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cogmill.raster.arrays import Array, BoolMask
from cogmill.raster.cog.reduction import Reduction


@dataclass(frozen=True)
class BlockRow:
    """One row of blocks of one level, at the full width of the level.

    Attributes
    ----------
    level : int
        0 is the full resolution.
    row : int
        Which row of blocks.
    pixels : ndarray
        Shape ``(band, row, col)``; fewer rows than a block where the image ends.
    mask : ndarray of bool or None
        Shape ``(row, col)``; True is valid.
    """

    level: int
    row: int
    pixels: Array
    mask: BoolMask | None


class Cascade:
    """Takes the rows of blocks of one level, and gives them on with all rows of the levels above.

    It holds two half rows of blocks a level, never the image.

    Parameters
    ----------
    reduction : Reduction
        How a level is made of the one below.
    block : int
        Side of a block in pixels, even.
    sizes : tuple of (int, int)
        Width and height of each level in pixels, the one that is pushed first.
    first_level : int
        The number of that level.
    """

    def __init__(
        self,
        reduction: Reduction,
        block: int,
        sizes: tuple[tuple[int, int], ...],
        first_level: int = 0,
    ) -> None:
        self._reduction = reduction
        self._block = block
        self._sizes = sizes
        self._first_level = first_level
        self._rows = [0] * len(sizes)
        self._halves: list[list[tuple[Array, BoolMask | None]]] = [[] for _ in sizes]

    def push(self, pixels: Array, mask: BoolMask | None) -> Iterator[BlockRow]:
        """Take the next row of blocks and yield what it completes, the finest level first.

        Parameters
        ----------
        pixels : ndarray
            Shape ``(band, row, col)``: one block of rows, or what is left of the image.
        mask : ndarray of bool or None
            Shape ``(row, col)``; True is valid.

        Raises
        ------
        ValueError
            When the rows are not the ones that are due.
        """
        yield from self._push(0, pixels, mask)

    def _push(self, index: int, pixels: Array, mask: BoolMask | None) -> Iterator[BlockRow]:
        width, height = self._sizes[index]
        row = self._rows[index]
        due = min(self._block, height - row * self._block)
        if due <= 0 or pixels.shape[-2:] != (due, width):
            raise ValueError(
                f"rows of shape {pixels.shape[-2:]} where {(max(due, 0), width)} are due"
            )
        self._rows[index] += 1
        yield BlockRow(self._first_level + index, row, pixels, mask)
        above = index + 1
        if above == len(self._sizes):
            return
        halves = self._halves[above]
        halves.append(self._reduction.halve(pixels, mask))
        last = self._rows[index] * self._block >= height
        if len(halves) == 2 or last:
            joined = _join(halves)
            halves.clear()
            yield from self._push(above, *joined)


def _join(halves: list[tuple[Array, BoolMask | None]]) -> tuple[Array, BoolMask | None]:
    if len(halves) == 1:
        return halves[0]
    (pixels, mask), (more, more_mask) = halves
    joined = None
    if mask is not None and more_mask is not None:
        joined = np.concatenate([mask, more_mask])
    return np.concatenate([pixels, more], axis=1), joined
