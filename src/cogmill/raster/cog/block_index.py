"""Where encoded blocks lie in an object: plain data, so that another task can copy them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Ints
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.file_layout import EncodedLevel


class EncodedBlocks(BaseModel):
    """Where the records of some levels lie in one object; plain data.

    Attributes
    ----------
    first_level : int
        The number of the first of these levels; 0 is the full resolution.
    sizes : tuple of (int, int)
        Width and height in pixels of each level.
    block : int
        Side of a block in pixels.
    planes : int
        1 where a block holds all bands, else how many bands lie apart.
    masked : bool
        Whether there are blocks of a mask.
    packed : str
        Byte counts of all blocks and where each row of blocks starts; little-endian 64-bit,
        compressed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_level: int
    sizes: tuple[tuple[int, int], ...]
    block: int
    planes: int
    masked: bool
    packed: str

    @classmethod
    def of(
        cls,
        image: CogImage,
        levels: Sequence[EncodedLevel],
        row_starts: Sequence[npt.ArrayLike],
        first_level: int = 0,
    ) -> EncodedBlocks:
        """Return the index of these levels.

        Parameters
        ----------
        image : CogImage
            What they are levels of.
        levels : sequence of EncodedLevel
            Large to small.
        row_starts : sequence of array
            For each level, shape ``(section, row of blocks)``: where its first record begins.
        first_level : int
            The number of the first of them.
        """
        arrays: list[npt.ArrayLike] = []
        for level, starts in zip(levels, row_starts, strict=True):
            arrays.append(level.image_byte_counts)
            if level.mask_byte_counts is not None:
                arrays.append(level.mask_byte_counts)
            arrays.append(np.ravel(starts))
        data = np.concatenate([np.zeros(0, "<i8"), *(np.asarray(a, "<i8") for a in arrays)])
        return cls(
            first_level=first_level,
            sizes=tuple((level.width, level.height) for level in levels),
            block=image.block,
            planes=image.planes,
            masked=image.has_mask,
            packed=base64.b64encode(zlib.compress(data.astype("<i8").tobytes())).decode("ascii"),
        )

    @cached_property
    def _unpacked(self) -> tuple[list[EncodedLevel], list[Ints]]:
        data = np.frombuffer(zlib.decompress(base64.b64decode(self.packed)), "<i8").astype(np.int64)
        levels, starts, position = [], [], 0
        for width, height in self.sizes:
            rows, cols = ceil_div(height, self.block), ceil_div(width, self.block)
            images = rows * cols * self.planes
            masks = rows * cols if self.masked else 0
            level = EncodedLevel(
                width,
                height,
                data[position : position + images],
                data[position + images : position + images + masks] if self.masked else None,
            )
            position += images + masks
            sections = len(level.sections(self.planes))
            levels.append(level)
            starts.append(data[position : position + sections * rows].reshape(sections, rows))
            position += sections * rows
        return levels, starts

    @property
    def levels(self) -> list[EncodedLevel]:
        """The levels with their byte counts."""
        return self._unpacked[0]

    def run(self, level: int, section: int, row: int) -> tuple[int, int]:
        """Return offset and length in bytes of the records of one row of blocks.

        Parameters
        ----------
        level : int
            Its number; 0 is the full resolution.
        section : int
            As `EncodedLevel.sections` numbers them.
        row : int
            Row of blocks in the level.
        """
        levels, starts = self._unpacked
        index = level - self.first_level
        _, cols = levels[index].blocks(self.block)
        sizes = levels[index].sections(self.planes)[section][row * cols : (row + 1) * cols]
        return int(starts[index][section, row]), int(sizes.sum())

    def first_block(self, level: int, section: int, row: int) -> int:
        """Return the bytes of the first block of such a run, its frame apart."""
        encoded = self.levels[level - self.first_level]
        rows, cols = encoded.blocks(self.block)
        counts, plane = encoded.image_byte_counts, section
        if section == self.planes and encoded.mask_byte_counts is not None:
            counts, plane = encoded.mask_byte_counts, 0
        return int(counts[(plane * rows + row) * cols])


class EncodedTile(BaseModel):
    """What a task tells of an output tile that it encoded; plain data.

    Attributes
    ----------
    blocks : EncodedBlocks
        Where its blocks lie.
    size : int
        Of the file in bytes.
    valid_pixels : int
        At full resolution: not masked, not transparent, or with a value in any band.
    checksums : tuple of int
        For each level, the CRC-32 of its pixels and mask, row of blocks by row of blocks, as they
        are decoded; `verify_cog` compares it with what GDAL reads, for raw, LZW and zstd blocks
        have no checksum.
    third : EncodedBlocks or None
        Where the third overview lies once more, losslessly, behind the file's end: a lossy codec
        must not be decoded to make one COG's upper levels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: EncodedBlocks
    size: int
    valid_pixels: int
    checksums: tuple[int, ...]
    third: EncodedBlocks | None = None


def section_row_starts(level: EncodedLevel, start: int, image: CogImage) -> Ints:
    """Return where each row of blocks begins, shape ``(section, row)``, in a level that is whole.

    Parameters
    ----------
    level : EncodedLevel
        The level.
    start : int
        Where its first record begins.
    image : CogImage
        What it is a level of.
    """
    rows, cols = level.blocks(image.block)
    sizes = np.stack([s.reshape(rows, cols).sum(axis=1) for s in level.sections(image.planes)])
    ends = np.cumsum(sizes.ravel()).reshape(sizes.shape)
    starts: Ints = start + ends - sizes
    return starts
