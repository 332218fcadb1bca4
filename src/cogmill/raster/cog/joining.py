"""One file from many: the blocks of its parts laid out again, and the levels above them.

The parts of one COG are output tiles, which are aligned to eight blocks, so every block of the
levels 0 to 3 belongs to one of them. The parts of an output tile are fragments, which have level 0
alone. Blocks are copied as they are. A part without a valid pixel was not written: its blocks are
all alike, and are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cogmill.errors import PermanentError
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, BoolMask
from cogmill.raster.codecs.block_codec import decode_mask
from cogmill.raster.cog.block_index import EncodedBlocks, section_row_starts
from cogmill.raster.cog.block_rows import PixelRows, encode_row
from cogmill.raster.cog.cascade import BlockRow
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.file_layout import (
    CogHeader,
    EncodedLevel,
    cog_header,
    frame_block,
    unframe_blocks,
)
from cogmill.raster.cog.reduction import level_sizes
from cogmill.raster.geometry.grid import Window


@dataclass(frozen=True)
class EncodedPart:
    """An encoded rectangle of an image.

    Attributes
    ----------
    window : Window
        Its pixels at full resolution, counted from the image's corner.
    blocks : EncodedBlocks
        Where its blocks lie in an object of its own, at level 0 and those above that it has.
    exact : EncodedBlocks or None
        Where, in the same object, its coarsest level lies losslessly; for a lossy codec.
    """

    window: Window
    blocks: EncodedBlocks
    exact: EncodedBlocks | None = None


@dataclass(frozen=True)
class JoinedParts:
    """The encoded parts of one image.

    Attributes
    ----------
    image : CogImage
        All of it.
    parts : sequence of EncodedPart
        Disjoint; what none covers has no valid pixel.
    overviews : int
        How many overviews every part has.
    read : callable
        Gives bytes of a part's object: the part's number, offset, length.
    """

    image: CogImage
    parts: Sequence[EncodedPart]
    overviews: int
    read: Callable[[int, int, int], bytes]

    def __post_init__(self) -> None:
        """Refuse parts that cannot be laid side by side, or are not of this image."""
        unit = self.image.block << self.overviews
        for part in self.parts:
            window = part.window
            edges = ((window.col_stop, self._width), (window.row_stop, self._height))
            if window.col_off % unit or window.row_off % unit:
                raise ValueError(f"{window} does not begin on a block of level {self.overviews}")
            if any(edge > end or (edge < end and edge % unit) for edge, end in edges):
                raise ValueError(f"{window} does not end on a block of level {self.overviews}")
            if part.blocks.sizes != level_sizes(window.width, window.height, self.overviews):
                raise ValueError(f"the blocks of {window} are not its own")

    @property
    def _width(self) -> int:
        return self.image.grid.width

    @property
    def _height(self) -> int:
        return self.image.grid.height

    @cached_property
    def _as_encoded(self) -> _Layer:
        return _Layer(self.image, lambda part: part.blocks)

    @cached_property
    def _exact(self) -> _Layer:
        """The coarsest level with exact pixels: beside the part's file where the codec is lossy."""
        if not self.image.codec.lossy:
            return self._as_encoded
        return _Layer(self.image.model_copy(update={"codec": self.image.codec.exact}), _kept_exact)

    @cached_property
    def _by_row(self) -> dict[int, list[int]]:
        """The numbers of the parts that have blocks in a row of the coarsest level, from left."""
        unit = self.image.block << self.overviews
        found: dict[int, list[int]] = {}
        order = sorted(range(len(self.parts)), key=lambda n: self.parts[n].window.col_off)
        for number in order:
            window = self.parts[number].window
            for row in range(window.row_off // unit, ceil_div(window.row_stop, unit)):
                found.setdefault(row, []).append(number)
        return found

    def levels(self) -> list[EncodedLevel]:
        """Return the levels that the parts have, as those of the whole image."""
        sizes = level_sizes(self._width, self._height, self.overviews)
        return [self._level(number, *size) for number, size in enumerate(sizes)]

    def _level(self, number: int, width: int, height: int) -> EncodedLevel:
        image = self.image
        rows, cols = ceil_div(height, image.block), ceil_div(width, image.block)
        empty, empty_mask = self._as_encoded.empty
        images = np.full((image.planes, rows, cols), len(empty), np.int64)
        masks = None
        if empty_mask is not None:
            masks = np.full((rows, cols), len(empty_mask), np.int64)
        for part in self.parts:
            level = part.blocks.levels[number]
            down, across = level.blocks(image.block)
            top = (part.window.row_off >> number) // image.block
            left = (part.window.col_off >> number) // image.block
            area = slice(top, top + down), slice(left, left + across)
            images[:, *area] = level.image_byte_counts.reshape(image.planes, down, across)
            if masks is not None and level.mask_byte_counts is not None:
                masks[area] = level.mask_byte_counts.reshape(down, across)
        return EncodedLevel(width, height, images.ravel(), None if masks is None else masks.ravel())

    def records(self, level: int, section: int, row: int) -> Iterator[bytes]:
        """Yield the records of one row of blocks of one section, a part's at a time.

        Parameters
        ----------
        level : int
            Of those that the parts have.
        section : int
            As `EncodedLevel.sections` numbers them.
        row : int
            Row of blocks of the whole level.

        Raises
        ------
        PermanentError
            When an object does not hold what its task told.
        """
        yield from self._records(self._as_encoded, level, section, row)

    def _records(self, layer: _Layer, level: int, section: int, row: int) -> Iterator[bytes]:
        block = self.image.block
        width, _ = level_sizes(self._width, self._height, level)[level]
        done = 0
        for number in self._by_row.get(row >> (self.overviews - level), ()):
            part = self.parts[number]
            top, left = ((edge >> level) // block for edge in _corner(part.window))
            down, across = part.blocks.levels[level].blocks(block)
            if not top <= row < top + down:
                continue
            yield layer.empty_record(section) * (left - done)
            yield self._run(layer, number, (level, section, row - top))
            done = left + across
        yield layer.empty_record(section) * (ceil_div(width, block) - done)

    def _run(self, layer: _Layer, number: int, place: tuple[int, int, int]) -> bytes:
        """Return the records of a row of blocks of a part: level, section and row in it."""
        part = self.parts[number]
        blocks = layer.blocks(part)
        offset, length = blocks.run(*place)
        data = self.read(number, offset, length)
        first = blocks.first_block(*place)
        if len(data) != length or int.from_bytes(data[:4], "little") != first:
            raise PermanentError(
                f"what was written of {part.window} is not there any more: "
                f"no block of {first} bytes at byte {offset}",
                "submit the job again with --force",
            )
        return data

    def coarsest(self) -> Iterator[PixelRows]:
        """Yield the last level that the parts have, decoded, a row of blocks at a time.

        Its pixels are those that were encoded, never what a lossy codec made of them.
        """
        layer, level = self._exact, self.overviews
        image = layer.image
        width, height = level_sizes(self._width, self._height, level)[level]
        for row in range(ceil_div(height, image.block)):
            rows = min(image.block, height - row * image.block)
            pixels = np.empty((image.bands, rows, width), image.dtype)
            mask = np.empty((rows, width), bool) if image.has_mask else None
            sections = 1 if image.planes == 1 else image.planes + image.has_mask
            for section in range(sections):
                blocks = unframe_blocks(self._records(layer, level, section, row))
                _decode_row(image, section, blocks, (pixels, mask))
            yield pixels, mask


def _corner(window: Window) -> tuple[int, int]:
    return window.row_off, window.col_off


@dataclass(frozen=True)
class _Layer:
    """One encoding of the parts: as they stand in the file, or exact.

    Attributes
    ----------
    image : CogImage
        How blocks are encoded.
    blocks : callable
        Where those of a part lie in its object.
    """

    image: CogImage
    blocks: Callable[[EncodedPart], EncodedBlocks]

    @cached_property
    def empty(self) -> tuple[bytes, bytes | None]:
        """A block of the image, and of the mask, where nothing was written."""
        image, block = self.image, self.image.block
        pixels = np.full((image.bands, block, block), image.fill, image.dtype)
        mask = np.zeros((block, block), bool) if image.has_mask else None
        images, masks = encode_row(image, BlockRow(0, 0, pixels, mask))
        return images[0][0], masks[0] if masks else None

    def empty_record(self, section: int) -> bytes:
        """Return the record of such a block, by the section it is in."""
        image, mask = self.empty
        if mask is None:
            return frame_block(image)
        if self.image.planes == 1:
            return frame_block(image) + frame_block(mask)
        return frame_block(mask if section == self.image.planes else image)


def _kept_exact(part: EncodedPart) -> EncodedBlocks:
    if part.exact is None:
        raise ValueError(f"{part.window} was encoded lossily, and its exact pixels are not there")
    return part.exact


def _decode_row(
    image: CogImage,
    section: int,
    blocks: Iterator[bytes],
    into: tuple[Array, BoolMask | None],
) -> None:
    """Decode one row of blocks of one section into its place."""
    pixels, mask = into
    block = image.block
    rows, width = pixels.shape[1:]
    for first in range(0, width, block):
        cols = min(block, width - first)
        part = slice(first, first + cols)
        if image.planes == 1 or section < image.planes:
            decoded = np.moveaxis(image.codec.decode(next(blocks)), 2, 0)[:, :rows, :cols]
            bands = slice(None) if image.planes == 1 else slice(section, section + 1)
            pixels[bands, :, part] = decoded
        if mask is not None and (image.planes == 1 or section == image.planes):
            mask[:, part] = decode_mask(next(blocks), block)[:rows, :cols]


@dataclass(frozen=True)
class OneCog:
    """One file made of parts, ready to be streamed.

    Attributes
    ----------
    header : CogHeader
        With the size of the file.
    levels : tuple of EncodedLevel
        The full resolution, then the overviews, large to small.
    """

    header: CogHeader
    levels: tuple[EncodedLevel, ...]
    _parts: JoinedParts
    _upper: EncodedBlocks
    _read_upper: Callable[[int, int], bytes]

    def chunks(self) -> Iterator[bytes]:
        """Yield the file from its first byte to its last; a part's row of blocks at a time.

        Raises
        ------
        PermanentError
            When an object does not hold what its task told.
        """
        yield self.header.data
        planes = self._parts.image.planes
        for number, level in reversed(list(enumerate(self.levels))):
            rows, _ = level.blocks(self._parts.image.block)
            for section in range(len(level.sections(planes))):
                for row in range(rows):
                    if number <= self._parts.overviews:
                        yield from self._parts.records(number, section, row)
                    else:
                        yield self._upper_records(number, section, row)

    def index(self) -> EncodedBlocks:
        """Return where the blocks of all levels lie in the file."""
        image = self._parts.image
        starts = [
            section_row_starts(level, start, image)
            for level, start in zip(self.levels, self.header.level_starts, strict=True)
        ]
        return EncodedBlocks.of(image, self.levels, starts)

    def _upper_records(self, level: int, section: int, row: int) -> bytes:
        offset, length = self._upper.run(level, section, row)
        data = self._read_upper(offset, length)
        first = self._upper.first_block(level, section, row)
        if len(data) != length or int.from_bytes(data[:4], "little") != first:
            raise PermanentError(
                f"the upper overviews are not what was written: no block at byte {offset}",
                "submit the job again with --force",
            )
        return data


def one_cog(
    parts: JoinedParts, upper: EncodedBlocks, read_upper: Callable[[int, int], bytes]
) -> OneCog:
    """Return the one file of these parts: its header is made, its data is read when it is streamed.

    Parameters
    ----------
    parts : JoinedParts
        The parts.
    upper : EncodedBlocks
        What `UpperLevels.blocks` told.
    read_upper : callable
        Gives the bytes that `UpperLevels.chunks` yielded: offset, length.

    Raises
    ------
    ValueError
        When the upper levels are not those above the parts'.
    Refused
        When a GeoTIFF cannot say what the image says.
    """
    if upper.first_level != parts.overviews + 1:
        raise ValueError(f"levels from {upper.first_level} on above {parts.overviews} of the parts")
    levels = (*parts.levels(), *upper.levels)
    return OneCog(cog_header(parts.image, levels), levels, parts, upper, read_upper)
