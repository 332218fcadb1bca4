"""The upper levels are made of the rows of one level, and encoded while these arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from cogmill.raster.cog.block_index import EncodedBlocks
from cogmill.raster.cog.block_rows import PixelRows, encode_row
from cogmill.raster.cog.cascade import BlockRow, Cascade
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.file_layout import EncodedLevel, frame_block
from cogmill.raster.cog.reduction import Method, level_sizes, overview_count
from cogmill.raster.cog.tile_encoding import TILE_OVERVIEWS, encode_memory
from cogmill.raster.memory import PROCESS_BASE

#: Rows of blocks of the level that arrives that are held: read, halved and encoded.
_STREAMED_ROWS: Final = 2


def streaming_memory(image: CogImage, size: tuple[int, int]) -> int:
    """Return what `UpperLevels` holds, in bytes, the rows that arrive included.

    Parameters
    ----------
    image : CogImage
        Its grid does not matter.
    size : (int, int)
        Width and height in pixels of the level that arrives.
    """
    width, height = size
    rows = {"width": width, "height": min(height, _STREAMED_ROWS * image.block)}
    grid = image.grid.model_copy(update=rows)
    return encode_memory(image.model_copy(update={"grid": grid}))


def cog_levels(image: CogImage) -> tuple[tuple[int, int], ...]:
    """Return width and height of all levels of ONE COG, the full resolution first.

    Those up to `TILE_OVERVIEWS` are the output tiles' own; the rest is for the overviews stage.
    """
    grid = image.grid
    count = overview_count(grid.width, grid.height, image.block, TILE_OVERVIEWS)
    return level_sizes(grid.width, grid.height, count)


def upper_levels_memory(image: CogImage) -> int:
    """Return the peak in bytes of the task that computes one COG's upper levels, streaming."""
    sizes = cog_levels(image)
    if len(sizes) <= TILE_OVERVIEWS + 1:
        return PROCESS_BASE
    return PROCESS_BASE + streaming_memory(image, sizes[TILE_OVERVIEWS])


class UpperLevels:
    """The levels above those of the parts, encoded while one level arrives row by row.

    Two half rows of blocks a level are held, and one encoded row.

    Parameters
    ----------
    image : CogImage
        The whole image.
    method : str
        How overviews are reduced.
    levels : range
        The levels to encode; 0 is the full resolution.
    given : int
        The level that arrives: the first of `levels`, or one below it.
    position : int
        Where in their object the first of the records will lie.
    """

    def __init__(
        self, image: CogImage, method: Method, levels: range, given: int, position: int = 0
    ) -> None:
        if given > levels.start:
            raise ValueError(f"level {given} does not lead to levels from {levels.start} on")
        grid = image.grid
        self._image = image
        self._levels = levels
        sizes = level_sizes(grid.width, grid.height, max(levels.stop - 1, given))
        self._sizes = sizes[levels.start : levels.stop]
        self._cascade = Cascade(
            image.reduction(method), image.block, sizes[given:], first_level=given
        )
        self._images: list[list[list[list[int]]]] = [
            [[] for _ in range(image.planes)] for _ in self._sizes
        ]
        self._masks: list[list[int]] = [[] for _ in self._sizes]
        self._starts: list[list[list[int]]] = [[] for _ in self._sizes]
        self._written = position

    def chunks(self, rows: Iterable[PixelRows]) -> Iterator[bytes]:
        """Yield the records of all upper levels, a row of blocks at a time, as they come about.

        Parameters
        ----------
        rows : iterable of (ndarray, ndarray or None)
            The given level from top to bottom, a row of blocks each: pixels ``(band, row, col)``
            and, with a mask, valid pixels ``(row, col)``. Not asked for when there is nothing to
            encode.
        """
        if not self._levels:
            return
        for pixels, mask in rows:
            for row in self._cascade.push(pixels, None if mask is None else np.asarray(mask) != 0):
                if row.level in self._levels:
                    yield from self._encode(row)

    def _encode(self, row: BlockRow) -> Iterator[bytes]:
        index = row.level - self._levels.start
        images, masks = encode_row(self._image, row)
        sections = [list(map(frame_block, blocks)) for blocks in images]
        framed = list(map(frame_block, masks))
        if framed and len(sections) == 1:
            sections = [[both for pair in zip(sections[0], framed, strict=True) for both in pair]]
        elif framed:
            sections.append(framed)
        for plane, blocks in enumerate(images):
            self._images[index][plane].append(list(map(len, blocks)))
        self._masks[index] += map(len, masks)
        starts = []
        for records in sections:
            data = b"".join(records)
            starts.append(self._written)
            self._written += len(data)
            yield data
        self._starts[index].append(starts)

    def blocks(self) -> EncodedBlocks:
        """Return where the blocks lie in what `chunks` yielded, when it has yielded everything.

        Raises
        ------
        ValueError
            When rows are missing.
        """
        levels = []
        for size, images, masks in zip(self._sizes, self._images, self._masks, strict=True):
            counts = np.array([np.ravel(plane) for plane in images], np.int64).ravel()
            level = EncodedLevel(
                *size, counts, np.array(masks, np.int64) if self._image.has_mask else None
            )
            rows, cols = level.blocks(self._image.block)
            if len(counts) != rows * cols * self._image.planes:
                raise ValueError("the level below was not handed over to its end")
            levels.append(level)
        starts = [np.array(rows).T for rows in self._starts]
        return EncodedBlocks.of(self._image, levels, starts, self._levels.start)
