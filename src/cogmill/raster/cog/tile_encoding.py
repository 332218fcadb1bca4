"""One output tile: rows of pixels in, a COG in memory out.

The levels grow in spools while rows arrive from the top, and are laid out when the last has come.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, BoolMask
from cogmill.raster.cog.block_index import EncodedBlocks, EncodedTile, section_row_starts
from cogmill.raster.cog.block_rows import PixelRows, checksum, decode_row, encode_row
from cogmill.raster.cog.cascade import BlockRow, Cascade
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.file_layout import (
    CogHeader,
    EncodedLevel,
    cog_header,
    frame_block,
)
from cogmill.raster.cog.reduction import Method, level_sizes

#: Every output tile carries so many overviews; those above them belong to the one COG.
TILE_OVERVIEWS: Final = 3
#: Bytes copied at a time from a spool to the file; a multiple of any page size.
_COPY: Final = 1 << 22
#: An encoded block is never larger, relative to a raw one (LZW's worst case is half as much again).
_WORST_RATIO: Final = 2


@dataclass(frozen=True)
class EncodedFile:
    """A COG in memory and its description.

    Attributes
    ----------
    data : bytes
        The file; behind it may lie `EncodedTile.third`.
    tile : EncodedTile
        Where its blocks lie.
    reduced : (ndarray, ndarray or None) or None
        Pixels and mask of the level above those that the file has, where it is a fragment.
    """

    data: bytes
    tile: EncodedTile
    reduced: PixelRows | None = None


class _Spool:
    """Bytes that grow to an unknown size and then go elsewhere, never held twice.

    Growing Python buffers are moved about by the allocator, which keeps the holes; pages of an
    anonymous map exist only where they were written, and go back one by one.
    """

    def __init__(self, limit: int) -> None:
        self._map = mmap.mmap(-1, limit, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.size = 0

    def write(self, data: bytes) -> None:
        self._map[self.size : self.size + len(data)] = data
        self.size += len(data)

    def drain(self, into: memoryview) -> None:
        """Copy everything and give each page back when it is copied."""
        for first in range(0, self.size, _COPY):
            stop = min(first + _COPY, self.size)
            into[first:stop] = self._map[first:stop]
            self._map.madvise(mmap.MADV_DONTNEED, first, stop - first)
        self._map.close()


class _GrowingLevel:
    """The records of one level while they are made, a spool for each section."""

    def __init__(self, image: CogImage, size: tuple[int, int]) -> None:
        self._image = image
        self._size = size
        self._images: list[list[int]] = [[] for _ in range(image.planes)]
        self._masks: list[int] = []
        self.checksum = 0
        block = image.block
        blocks = ceil_div(size[0], block) * ceil_div(size[1], block)
        limit = blocks * _WORST_RATIO * (image.codec.nbytes + block * block + mmap.PAGESIZE)
        apart = image.planes > 1
        self.spools = [_Spool(limit) for _ in range(image.planes + (apart and image.has_mask))]

    def add(self, row: BlockRow) -> None:
        images, masks = encode_row(self._image, row)
        seen = row.pixels
        if not self._image.codec.keeps_bits:
            seen = decode_row(self._image, (row.pixels.shape[1], row.pixels.shape[2]), images)
        self.checksum = checksum((seen, row.mask), self.checksum)
        for counts, spool, blocks in zip(self._images, self.spools, images, strict=False):
            counts += map(len, blocks)
            for index, block in enumerate(blocks):
                spool.write(frame_block(block))
                if masks and len(images) == 1:
                    spool.write(frame_block(masks[index]))
        if len(images) > 1:
            for mask in masks:
                self.spools[-1].write(frame_block(mask))
        self._masks += map(len, masks)

    def finish(self) -> EncodedLevel:
        return EncodedLevel(
            *self._size,
            np.concatenate([np.array(counts, np.int64) for counts in self._images]),
            np.array(self._masks, np.int64) if self._image.has_mask else None,
        )


def encode_tile(
    image: CogImage,
    rows: Iterable[PixelRows],
    method: Method,
    overviews: int = TILE_OVERVIEWS,
    *,
    keeps_third: bool = False,
) -> EncodedFile:
    """Return one output tile as a COG with exactly three overviews; or a fragment of one.

    Parameters
    ----------
    image : CogImage
        What the tile is of; its grid is the tile's.
    rows : iterable of (ndarray, ndarray or None)
        From top to bottom, pixels ``(band, row, col)`` and valid pixels ``(row, col)`` (True or not
        0 is valid; None unless the image has a mask). Each holds a whole number of rows of blocks;
        the last one what is left.
    method : str
        How overviews are reduced: ``average``, ``nearest`` or ``mode``.
    overviews : int
        How many the file gets. Where they are fewer than an output tile has, the pixels of the
        next are returned beside it: exact, whatever the codec loses.
    keeps_third : bool
        True for a tile of one COG: where the codec is lossy, the third overview follows the file
        once more, losslessly, so that the levels above it are made of exact pixels too.

    Raises
    ------
    ValueError
        When the rows do not make up the image.
    Refused
        When a GeoTIFF cannot say what the image says.

    Notes
    -----
    The whole tile is never held: see `encode_memory` for what is.
    """
    above = overviews < TILE_OVERVIEWS
    sizes = level_sizes(image.grid.width, image.grid.height, overviews + above)
    levels = [_GrowingLevel(image, size) for size in sizes[: overviews + 1]]
    reduced: list[BlockRow] = []
    third = None
    if keeps_third and image.codec.lossy:
        exact = image.model_copy(update={"codec": image.codec.exact})
        third = _GrowingLevel(exact, sizes[TILE_OVERVIEWS])
    reduction = image.reduction(method)
    cascade = Cascade(reduction, image.block, sizes)
    valid_pixels = seen = 0
    for pixels, mask in rows:
        flags = None if mask is None else np.asarray(mask) != 0
        for first in range(0, pixels.shape[1], image.block):
            part = slice(first, first + image.block)
            piece, piece_flags = pixels[:, part], None if flags is None else flags[part]
            valid_pixels += _count_valid(piece, reduction.valid(piece, piece_flags))
            for row in cascade.push(piece, piece_flags):
                if row.level > overviews:
                    reduced.append(row)
                    continue
                levels[row.level].add(row)
                if third is not None and row.level == TILE_OVERVIEWS:
                    third.add(row)
        seen += pixels.shape[1]
    if seen != image.grid.height:
        raise ValueError(f"{seen} rows of pixels for a tile of {image.grid.height}")
    finished = [level.finish() for level in levels]
    head = cog_header(image, finished)
    starts = [
        section_row_starts(level, start, image)
        for level, start in zip(finished, head.level_starts, strict=True)
    ]
    tile = EncodedTile(
        blocks=EncodedBlocks.of(image, finished, starts),
        size=head.size,
        valid_pixels=valid_pixels,
        checksums=tuple(level.checksum for level in levels),
        third=None if third is None else _behind(image, third.finish(), head.size),
    )
    return EncodedFile(_join(head, levels, third), tile, _stacked(reduced) if above else None)


def _stacked(rows: Sequence[BlockRow]) -> PixelRows:
    masks = [row.mask for row in rows if row.mask is not None]
    pixels = np.concatenate([row.pixels for row in rows], axis=1)
    return pixels, np.concatenate(masks) if masks else None


def _behind(image: CogImage, level: EncodedLevel, start: int) -> EncodedBlocks:
    starts = section_row_starts(level, start, image)
    return EncodedBlocks.of(image, [level], [starts], first_level=TILE_OVERVIEWS)


def encode_memory(image: CogImage, ratio: float = 1.0) -> int:
    """Return the peak in bytes of `encode_tile`, the caller's rows included.

    Parameters
    ----------
    image : CogImage
        The tile; or one whose grid is as large as a tile.
    ratio : float
        Encoded size by raw size; 1 is about the most.

    Returns
    -------
    int
        With P = bands x bytes of a sample (+ 1 with a mask), W, H and B the sides of tile and
        block: rows of blocks ``B W (3 P + bands)`` (the caller's, the halves of three levels and
        their joining, validity), one block's scratch ``4 B B P`` and what its codec asks for, and
        the encoded levels ``ratio 4/3 W H P``. A lossy codec decodes a row again, ``B W P``, and
        the third overview may be kept beside, ``W H P / 64``.
    """
    pixel = image.bands * np.dtype(image.dtype).itemsize + image.has_mask
    width, height, block = image.grid.width, image.grid.height, image.block
    rows = min(block, height) * width * (3 * pixel + image.bands)
    scratch = 4 * block * block * pixel + image.codec.scratch
    if not image.codec.keeps_bits:
        # A row is decoded again for its checksum.
        rows += min(block, height) * width * pixel
    if image.codec.lossy:
        # The third overview is kept losslessly too.
        scratch += width * height * pixel >> 2 * TILE_OVERVIEWS
    return int(rows + scratch + ratio * 4 / 3 * width * height * pixel)


def _count_valid(pixels: Array, valid: BoolMask | None) -> int:
    if pixels.dtype.kind in "fc":
        numbers = ~np.isnan(pixels)
        valid = numbers if valid is None else numbers & valid
    if valid is None:
        return int(pixels[0].size)
    return int(np.count_nonzero(valid if valid.ndim == 2 else valid.any(axis=0)))


def _join(head: CogHeader, levels: Sequence[_GrowingLevel], behind: _GrowingLevel | None) -> bytes:
    """Return the file, each part of it copied once."""
    spools = [spool for level in reversed(levels) for spool in level.spools]
    if behind is not None:
        spools += behind.spools
    file = io.BytesIO(bytes(len(head.data) + sum(spool.size for spool in spools)))
    with file.getbuffer() as view:
        position = len(head.data)
        view[:position] = head.data
        for spool in spools:
            spool.drain(view[position : position + spool.size])
            position += spool.size
    return file.getvalue()
