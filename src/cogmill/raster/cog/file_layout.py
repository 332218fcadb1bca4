"""Where the bytes of a COG lie: header first, then the data, the smallest overview before all.

The layout is the one of GDAL's COG driver, from its documentation, so that readers which know it
take their short cuts: a ghost area behind the TIFF header says so; every block is framed by its
size (4 bytes, little-endian, before its offset) and by its last 4 bytes once more; a block of the
mask follows the block of the image that it belongs to. Where the bands lie apart, each level holds
one band after the other, then its mask, and the ghost area says ``INTERLEAVE=BAND``.

Blocks with their frames are called *records* here. What lies together in one level, all blocks or
those of one band, is a *section*: its records follow each other row by row, so a row of blocks is
one range of the file. Records do not know where they are, so they can be copied to another file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, Ints
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.tags import (
    BYTE_COUNTS,
    LONG,
    LONG8,
    OFFSETS,
    Tag,
    image_tags,
    number_tag,
    overview_tags,
    table_tag,
)

#: What frames a block: its size before it, its last four bytes behind it.
FRAME: Final = 8
_LEADER: Final = 4
#: The largest classic TIFF: offsets are 32 bits wide.
_CLASSIC_LIMIT: Final = (1 << 32) - 1
_SHORT_CUTS: Final = (
    "LAYOUT=IFDS_BEFORE_DATA\n"
    "BLOCK_ORDER=ROW_MAJOR\n"
    "BLOCK_LEADER=SIZE_AS_UINT4\n"
    "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
)
_DEFLATE: Final = 8
_REDUCED, _MASK = 1, 4
_PHOTOMETRIC_MASK: Final = 4


@dataclass(frozen=True)
class EncodedLevel:
    """One level of a COG whose blocks are encoded.

    Attributes
    ----------
    width, height : int
        In pixels.
    image_byte_counts : ndarray of int64
        Of each encoded block, frame apart: row by row, band by band where bands lie apart.
    mask_byte_counts : ndarray of int64 or None
        Of each encoded block of the mask, row by row.
    """

    width: int
    height: int
    image_byte_counts: Ints
    mask_byte_counts: Ints | None = None

    def blocks(self, block: int) -> tuple[int, int]:
        """Return rows and columns of blocks."""
        return ceil_div(self.height, block), ceil_div(self.width, block)

    def sections(self, planes: int) -> list[Ints]:
        """Return the sizes in bytes of the records of each section.

        Parameters
        ----------
        planes : int
            1 where a block holds all bands, else how many bands lie apart. A mask is in the one
            section of the former; it is the last section of the latter.
        """
        images = list(self.image_byte_counts.reshape(planes, -1) + FRAME)
        if self.mask_byte_counts is None:
            return images
        masks = self.mask_byte_counts + FRAME
        return [images[0] + masks] if planes == 1 else [*images, masks]

    def size(self) -> int:
        """Return the bytes of all records."""
        both = (self.image_byte_counts, self.mask_byte_counts)
        return sum(int(counts.sum()) + FRAME * len(counts) for counts in both if counts is not None)

    def offsets(self, start: int, planes: int) -> tuple[Ints, Ints | None]:
        """Return where the blocks of image and mask begin, their size's four bytes skipped.

        Parameters
        ----------
        start : int
            Where the level's first record begins.
        planes : int
            As in `sections`.
        """
        sizes = np.concatenate(self.sections(planes))
        records = start + _LEADER + np.cumsum(sizes) - sizes
        if self.mask_byte_counts is None:
            return records, None
        if planes == 1:
            return records, records + self.image_byte_counts + FRAME
        images = len(self.image_byte_counts)
        return records[:images], records[images:]


@dataclass(frozen=True)
class CogHeader:
    """All that stands before the data, and where the data stands.

    Attributes
    ----------
    data : bytes
        Ghost area, directories, tables of blocks.
    size : int
        Of the whole file in bytes.
    bigtiff : bool
        Whether offsets are 64 bits wide, for the file would pass 4 GiB.
    level_starts : tuple of int
        Where the first record of each level begins, the full resolution first.
    """

    data: bytes
    size: int
    bigtiff: bool
    level_starts: tuple[int, ...]


def cog_header(image: CogImage, levels: Sequence[EncodedLevel]) -> CogHeader:
    """Return the header of a COG; the size of every block must be known.

    Parameters
    ----------
    image : CogImage
        What the file is of.
    levels : sequence of EncodedLevel
        The full resolution, then the overviews, large to small.

    Raises
    ------
    ValueError
        When levels and image do not fit each other.
    Refused
        When a GeoTIFF cannot say what the image says.
    """
    _check(image, levels)
    tags = image_tags(image)
    data_size = sum(level.size() for level in levels)
    plan = _Directories(image, levels, tags, bigtiff=False)
    if plan.data_start + data_size > _CLASSIC_LIMIT:
        plan = _Directories(image, levels, tags, bigtiff=True)
    starts, position = [0] * len(levels), plan.data_start
    for index in range(len(levels) - 1, -1, -1):
        starts[index] = position
        position += levels[index].size()
    return CogHeader(
        data=plan.write(starts),
        size=position,
        bigtiff=plan.bigtiff,
        level_starts=tuple(starts),
    )


def frame_block(block: bytes) -> bytes:
    """Return a block as a record: its size before it, its last four bytes behind it."""
    return b"".join((len(block).to_bytes(_LEADER, "little"), block, block[-4:].rjust(4, b"\0")))


def unframe_blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks of whole records that follow each other, as `frame_block` makes them."""
    for chunk in chunks:
        position = 0
        while position < len(chunk):
            size = int.from_bytes(chunk[position : position + 4], "little")
            yield chunk[position + 4 : position + 4 + size]
            position += size + 8


def _check(image: CogImage, levels: Sequence[EncodedLevel]) -> None:
    if not levels or (levels[0].width, levels[0].height) != (image.grid.width, image.grid.height):
        raise ValueError("the first level is not the full resolution")
    for large, small in pairwise(levels):
        if (small.width, small.height) != (ceil_div(large.width, 2), ceil_div(large.height, 2)):
            raise ValueError(
                f"{small.width} x {small.height} is not half of {large.width} x {large.height}"
            )
    for level in levels:
        rows, cols = level.blocks(image.block)
        masks = level.mask_byte_counts
        if len(level.image_byte_counts) != rows * cols * image.planes:
            raise ValueError(f"{len(level.image_byte_counts)} blocks for {rows} x {cols}")
        if (masks is not None) != image.has_mask or (
            masks is not None and len(masks) != rows * cols
        ):
            raise ValueError("the mask's blocks are not those of the image")


@dataclass(frozen=True)
class _Directory:
    """One IFD: its tags in order, and what its two tables will hold."""

    tags: tuple[Tag, ...]
    level: int
    mask: bool


class _Directories:
    """The header with everything in its place, but for the tables' values."""

    def __init__(
        self,
        image: CogImage,
        levels: Sequence[EncodedLevel],
        tags: Sequence[Tag],
        *,
        bigtiff: bool,
    ) -> None:
        self.bigtiff = bigtiff
        self._image = image
        self._levels = levels
        self._ghost = _ghost(image)
        self._inline = 8 if bigtiff else 4
        self._directories = list(self._describe(tags))
        self._positions: list[int] = []
        position = _even((16 if bigtiff else 8) + len(self._ghost))
        for directory in self._directories:
            self._positions.append(position)
            position += self._directory_size(directory)
            for tag in directory.tags:
                if not tag.is_table and tag.nbytes > self._inline:
                    position += _even(tag.nbytes)
        self._tables = position
        for directory in self._directories:
            for tag in directory.tags:
                if tag.is_table and tag.nbytes > self._inline:
                    position += _even(tag.nbytes)
        self.data_start = position

    def _describe(self, tags: Sequence[Tag]) -> Iterator[_Directory]:
        reduced = overview_tags(tags)
        for index, level in enumerate(self._levels):
            kind = _REDUCED if index else 0
            own = self._own_tags(level, kind, mask=False)
            carried = reduced if index else tags
            yield _Directory(_sorted([*own, *carried]), index, mask=False)
            if self._image.has_mask:
                own = self._own_tags(level, kind | _MASK, mask=True)
                yield _Directory(_sorted([*own, *_mask_tags()]), index, mask=True)

    def _own_tags(self, level: EncodedLevel, kind: int, *, mask: bool) -> list[Tag]:
        image, codec = self._image, self._image.codec
        counts = level.mask_byte_counts if mask else level.image_byte_counts
        blocks = 0 if counts is None else len(counts)
        tags = [
            number_tag(256, level.width),
            number_tag(257, level.height),
            number_tag(259, _DEFLATE if mask else codec.tag),
            number_tag(284, 2 if image.planes > 1 and not mask else 1),
            number_tag(322, codec.block),
            number_tag(323, codec.block),
            table_tag(OFFSETS, blocks, LONG8 if self.bigtiff else LONG),
            table_tag(BYTE_COUNTS, blocks, LONG),
        ]
        if kind:
            tags.append(Tag(254, LONG, 1, struct.pack("<I", kind), 4))
        if codec.predictor != 1 and not mask:
            tags.append(number_tag(317, codec.predictor))
        return tags

    def _directory_size(self, directory: _Directory) -> int:
        count = len(directory.tags)
        return 8 + 20 * count + 8 if self.bigtiff else _even(2 + 12 * count + 4)

    def write(self, level_starts: Sequence[int]) -> bytes:
        """Return the header, now that it is known where each level starts."""
        out = bytearray(self.data_start)
        head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, self._positions[0])
        if not self.bigtiff:
            head = struct.pack("<2sHI", b"II", 42, self._positions[0])
        out[: len(head)] = head
        out[len(head) : len(head) + len(self._ghost)] = self._ghost
        tables = self._tables
        following = [*self._positions[1:], 0]
        for directory, position, after in zip(
            self._directories, self._positions, following, strict=True
        ):
            level = self._levels[directory.level]
            values = self._table_values(level, level_starts[directory.level], mask=directory.mask)
            tables = self._write_directory(out, directory, (position, tables, after), values)
        return bytes(out)

    def _table_values(self, level: EncodedLevel, start: int, *, mask: bool) -> dict[int, Array]:
        offsets, mask_offsets = level.offsets(start, self._image.planes)
        counts = level.image_byte_counts
        if mask and mask_offsets is not None and level.mask_byte_counts is not None:
            offsets, counts = mask_offsets, level.mask_byte_counts
        wide = "<u8" if self.bigtiff else "<u4"
        return {OFFSETS: offsets.astype(wide), BYTE_COUNTS: counts.astype("<u4")}

    def _write_directory(
        self,
        out: bytearray,
        directory: _Directory,
        places: tuple[int, int, int],
        values: dict[int, Array],
    ) -> int:
        """Write one directory with its values; return where the next table goes."""
        position, tables, after = places
        outside = position + self._directory_size(directory)
        entry, width = ("<HHQ", 12) if self.bigtiff else ("<HHI", 8)
        struct.pack_into("<Q" if self.bigtiff else "<H", out, position, len(directory.tags))
        position += 8 if self.bigtiff else 2
        for tag in directory.tags:
            data = values[tag.code].tobytes() if tag.is_table else tag.value
            struct.pack_into(entry, out, position, tag.code, tag.type, tag.count)
            place = position + width
            if tag.nbytes > self._inline:
                target = tables if tag.is_table else outside
                struct.pack_into("<Q" if self.bigtiff else "<I", out, place, target)
                place = target
                tables += _even(tag.nbytes) if tag.is_table else 0
                outside += 0 if tag.is_table else _even(tag.nbytes)
            out[place : place + tag.nbytes] = data
            position += width + self._inline
        struct.pack_into("<Q" if self.bigtiff else "<I", out, position, after)
        return tables


def _ghost(image: CogImage) -> bytes:
    text = _SHORT_CUTS
    if image.planes > 1:
        text += "INTERLEAVE=BAND\n"
    # The space is room for an editor that turns NO into YES.
    text += "KNOWN_INCOMPATIBLE_EDITION=NO\n "
    if image.has_mask and image.planes == 1:
        text += "MASK_INTERLEAVED_WITH_IMAGERY=YES\n"
    return f"GDAL_STRUCTURAL_METADATA_SIZE={len(text):06d} bytes\n{text}".encode("ascii")


def _mask_tags() -> list[Tag]:
    return [
        number_tag(258, 1),
        number_tag(262, _PHOTOMETRIC_MASK),
        number_tag(277, 1),
        number_tag(339, 1),
    ]


def _sorted(tags: Sequence[Tag]) -> tuple[Tag, ...]:
    return tuple(sorted(tags, key=lambda tag: tag.code))


def _even(size: int) -> int:
    return size + size % 2
