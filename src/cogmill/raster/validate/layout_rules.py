"""What a file's header must be for a COG: where directories and data lie, tiles, overviews.

The rules are those of GDAL's validate_cloud_optimized_geotiff.py and of rio-cogeo's validate, found
from the tags; where the two differ, the stricter. Three are ours, all warnings: overviews that skip
a halving, directories behind the data, and masks of some levels only. One is not kept: rio-cogeo
calls an image one tile wide not tiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import tifffile

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Ints
from cogmill.raster.tiff.block_table import MASK_BIT, REDUCED_BIT, tiff_page
from cogmill.raster.tiff.header import ByteSource, read_exactly
from cogmill.raster.validate.verdict import Finding, Level, Severity

REWRITE: Final = "write it anew as a COG: cogmill run INPUT OUTPUT.tif"
DAMAGED: Final = "the file is damaged or cut off; copy or fetch it again"

#: Smaller images need neither tiles nor overviews.
_SMALL: Final = 512
#: GDAL takes one block as wide as the image, and wider than this, for no tiling.
_WIDEST_ONLY_TILE: Final = 1024
#: A header that readers expect to have in full before the first directory (rio-cogeo's figure).
_FURTHEST_IFD: Final = 300
_GHOST: Final = re.compile(rb"GDAL_STRUCTURAL_METADATA_SIZE=([0-9]{6}) bytes\n")
_GHOST_PREFIX: Final = 43
_SEPARATE: Final = 2


@dataclass(frozen=True)
class GhostArea:
    """The area behind the TIFF header in which a writer says how the file is laid out.

    Attributes
    ----------
    text : str
        Its lines; empty where there is none.
    end : int
        Where the first directory is due, in bytes.
    """

    text: str
    end: int

    @property
    def row_major(self) -> bool:
        """Whether blocks follow each other row by row."""
        return "BLOCK_ORDER=ROW_MAJOR" in self.text

    @property
    def leader(self) -> bool:
        """Whether four bytes before each block hold its size."""
        return "BLOCK_LEADER=SIZE_AS_UINT4" in self.text

    @property
    def trailer(self) -> bool:
        """Whether the last four bytes of each block are repeated behind it."""
        return "BLOCK_TRAILER=LAST_4_BYTES_REPEATED" in self.text

    @property
    def mask_interleaved(self) -> bool:
        """Whether each block of the mask follows the image's block."""
        return "MASK_INTERLEAVED_WITH_IMAGERY=YES" in self.text

    @property
    def edited(self) -> bool:
        """Whether somebody changed the file and so broke what it says of itself."""
        return "KNOWN_INCOMPATIBLE_EDITION=YES" in self.text


@dataclass(frozen=True)
class Directory:
    """One image of the file: pixels or mask, of full size or reduced.

    Attributes
    ----------
    name : str
        What findings call it.
    index : int
        In the chain of directories.
    ifd_offset : int
        Where the directory lies in the file, in bytes.
    reduced, mask : bool
        True for an overview; for a mask.
    width, height, block_width, block_height : int
        In pixels; the block of a striped image is a strip.
    tiled : bool
        False for strips.
    planes : int
        How often the image is covered by blocks: once, or once for each band.
    block_bytes : int
        Of one whole block, decoded.
    offsets, byte_counts : ndarray of int64
        Of every block: row by row, then band by band.
    """

    name: str
    index: int
    ifd_offset: int
    reduced: bool
    mask: bool
    width: int
    height: int
    block_width: int
    block_height: int
    tiled: bool
    planes: int
    block_bytes: int
    offsets: Ints
    byte_counts: Ints

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def blocks_across(self) -> int:
        """The number of blocks in a row of blocks."""
        return ceil_div(self.width, self.block_width)

    @property
    def blocks_due(self) -> int:
        """The number of blocks that the image's size wants."""
        return self.blocks_across * ceil_div(self.height, self.block_height) * self.planes

    @property
    def data_offset(self) -> int | None:
        """Where the first block lies that was ever written."""
        there = self.offsets[self.offsets > 0]
        return int(there[0]) if len(there) else None

    def block_name(self, index: int) -> str:
        """Return what findings call a block."""
        plane, place = divmod(index, self.blocks_due // self.planes)
        row, col = divmod(place, self.blocks_across)
        band = f", band {plane + 1}" if self.planes > 1 else ""
        return f"block {index} (row {row}, column {col}{band})"

    def level(self) -> Level:
        """Return what a report shows of it."""
        return Level(
            name=self.name,
            width=self.width,
            height=self.height,
            block_width=self.block_width,
            block_height=self.block_height,
            tiled=self.tiled,
            ifd_offset=self.ifd_offset,
            data_offset=self.data_offset,
            blocks=len(self.offsets),
            sparse_blocks=int((self.offsets == 0).sum()),
        )

    def finding(self, rule: str, message: str, remedy: str = REWRITE) -> Finding:
        """Return an error of this image."""
        return self._finding("error", rule, message, remedy)

    def warning(self, rule: str, message: str, remedy: str = REWRITE) -> Finding:
        """Return a warning of this image."""
        return self._finding("warning", rule, message, remedy)

    def _finding(self, severity: Severity, rule: str, message: str, remedy: str) -> Finding:
        return Finding(
            rule=rule, severity=severity, where=self.name, message=message, remedy=remedy
        )


def read_directories(tiff: tifffile.TiffFile) -> list[Directory]:
    """Return the images of a file in the order of its chain of directories.

    The first one is the main image, whatever it says of itself.

    Raises
    ------
    ValueError
        There is none, or one makes no sense; so does whatever `DAMAGE` names.
    """
    found: list[Directory] = []
    overviews = 0
    for index in range(len(tiff.pages)):
        one = tiff_page(tiff, index)
        kind = int(one.subfiletype) if index else 0
        reduced, mask = bool(kind & REDUCED_BIT), bool(kind & MASK_BIT)
        name = f"directory {index}" if index else "main image"
        if reduced and not mask:
            name = f"overview {overviews}"
            overviews += 1
        found.append(_directory(one, name, (index, reduced, mask)))
    if not found:
        raise ValueError("it has no directory")
    owners = {id(mask_of(found, one)): one.name for one in found if not one.mask}
    return [
        replace(one, name=f"mask of {owners[id(one)]}") if id(one) in owners else one
        for one in found
    ]


def _directory(one: tifffile.TiffPage, name: str, what: tuple[int, bool, bool]) -> Directory:
    index, reduced, mask = what
    samples = int(one.samplesperpixel)
    separate = int(one.planarconfig) == _SEPARATE and samples > 1
    if one.is_tiled:
        width, height = int(one.tilewidth), int(one.tilelength)
    else:
        width = int(one.imagewidth)
        height = min(int(one.rowsperstrip) or int(one.imagelength), int(one.imagelength))
    if min(width, height, one.imagewidth, one.imagelength, samples) < 1:
        raise ValueError(f"{name} has {one.imagewidth} x {one.imagelength} pixels")
    return Directory(
        name=name,
        index=index,
        ifd_offset=int(one.offset),
        reduced=reduced,
        mask=mask,
        width=int(one.imagewidth),
        height=int(one.imagelength),
        block_width=width,
        block_height=height,
        tiled=bool(one.is_tiled),
        planes=samples if separate else 1,
        block_bytes=width * height * (1 if separate else samples) * _sample_bytes(one),
        offsets=np.asarray(one.dataoffsets, np.int64),
        byte_counts=np.asarray(one.databytecounts, np.int64),
    )


def _sample_bytes(one: tifffile.TiffPage) -> int:
    dtype: Any = one.dtype
    return 8 if dtype is None else int(np.dtype(dtype).itemsize)


def read_ghost(data: ByteSource, *, bigtiff: bool, first_ifd: int) -> GhostArea:
    """Return what a writer says of the file's layout; empty where it says nothing."""
    start = 16 if bigtiff else 8
    length = max(0, min(_GHOST_PREFIX, data.size - start))
    (prefix,) = read_exactly(data, [(start, length)])
    found = _GHOST.fullmatch(prefix)
    # Where the first directory is in its place there is no room for it.
    if found is None or first_ifd == start:
        return GhostArea("", start)
    size = min(int(found[1]), data.size - start - _GHOST_PREFIX)
    (text,) = read_exactly(data, [(start + _GHOST_PREFIX, size)])
    end = start + _GHOST_PREFIX + size
    return GhostArea(text.decode("latin-1"), end + end % 2)


def chain_findings(data: ByteSource, tiff: tifffile.TiffFile, last: Directory) -> Iterator[Finding]:
    """Yield what is wrong behind the last directory that could be read: it must be the last."""
    at, size = int(tiff.pages.next_page_offset or 0), int(tiff.tiff.offsetsize)
    if at + size > data.size:
        return
    (after,) = read_exactly(data, [(at, size)])
    if any(after):
        place = int.from_bytes(after, "little" if tiff.byteorder == "<" else "big")
        yield last.finding(
            "chain",
            f"the directory after it, at byte {place}, cannot be read or came before",
            DAMAGED,
        )


def layout_findings(directories: Sequence[Directory], ghost: GhostArea) -> Iterator[Finding]:
    """Yield what is wrong with the places and shapes of a file's images."""
    main = directories[0]
    overviews = [one for one in directories if one.reduced and not one.mask]
    yield from _place_findings(main, ghost)
    yield from _shape_findings(main, overviews)
    yield from _size_findings([main, *overviews])
    yield from _order_findings([main, *overviews])
    yield from _mask_findings(directories, [main, *overviews])
    for one in directories:
        yield from _table_findings(one)


def _place_findings(main: Directory, ghost: GhostArea) -> Iterator[Finding]:
    if ghost.edited:
        yield main.finding(
            "edited",
            "the file was changed after it had been laid out as a COG "
            "(KNOWN_INCOMPATIBLE_EDITION=YES)",
        )
    if main.ifd_offset not in (8, 16, ghost.end):
        yield main.finding(
            "ifd-place",
            f"its directory lies at byte {main.ifd_offset}, and is due at {ghost.end}",
        )
    elif main.ifd_offset > _FURTHEST_IFD:
        yield main.finding(
            "ifd-place", f"its directory lies at byte {main.ifd_offset}, beyond {_FURTHEST_IFD}"
        )


def _shape_findings(main: Directory, overviews: Sequence[Directory]) -> Iterator[Finding]:
    for one in (main, *overviews):
        whole_rows = one.block_width == one.width
        untiled = whole_rows and (not one.tiled or one.block_width > _WIDEST_ONLY_TILE)
        if max(one.size) > _SMALL and untiled:
            yield one.finding(
                "tiled",
                f"it is {one.width} x {one.height} pixels and not tiled: its blocks are "
                f"{one.block_width} x {one.block_height}",
            )
    if max(main.size) > _SMALL and not overviews:
        yield main.warning(
            "overviews", f"it is {main.width} x {main.height} pixels and has no overviews inside"
        )


def _size_findings(levels: Sequence[Directory]) -> Iterator[Finding]:
    for large, small in pairwise(levels):
        sizes = f"{small.width} x {small.height} after {large.width} x {large.height}"
        grown = small.width > large.width or small.height > large.height
        if grown or small.size == large.size:
            yield small.finding(
                "overview-sizes", f"it is not smaller than the level before: {sizes}"
            )
        elif any(a // 2 > b + 1 for a, b in zip(large.size, small.size, strict=True)):
            yield small.warning("overview-sizes", f"it skips a halving: {sizes}")


def _order_findings(levels: Sequence[Directory]) -> Iterator[Finding]:
    for large, small in pairwise(levels):
        if small.ifd_offset < large.ifd_offset:
            yield small.finding(
                "ifd-order",
                f"its directory, at byte {small.ifd_offset}, lies before that of {large.name}, "
                f"at byte {large.ifd_offset}",
            )
        first, second = small.data_offset, large.data_offset
        if first is not None and second is not None and second < first:
            yield large.finding(
                "data-order",
                f"its first block, at byte {second}, lies before that of {small.name}, "
                f"at byte {first}",
            )
    last = levels[-1]
    if last.data_offset is not None and last.data_offset < last.ifd_offset:
        yield last.finding(
            "data-order",
            f"its first block, at byte {last.data_offset}, lies before its directory, "
            f"at byte {last.ifd_offset}",
        )


def _mask_findings(
    directories: Sequence[Directory], levels: Sequence[Directory]
) -> Iterator[Finding]:
    masks = [one for one in directories if one.mask]
    data = min((one.data_offset for one in levels if one.data_offset is not None), default=None)
    for mask in masks:
        if mask.size not in {one.size for one in levels}:
            yield mask.warning("masks", f"no image has its size, {mask.width} x {mask.height}")
        if data is not None and mask.ifd_offset > data:
            yield mask.warning(
                "ifd-order",
                f"its directory, at byte {mask.ifd_offset}, lies behind the first data, "
                f"at byte {data}",
            )
    for one in levels if masks else ():
        if one.size not in {mask.size for mask in masks}:
            yield one.warning("masks", "it has no mask, and another level has one")


def _table_findings(one: Directory) -> Iterator[Finding]:
    found = len(one.offsets), len(one.byte_counts)
    if found != (one.blocks_due, one.blocks_due):
        yield one.finding(
            "tables",
            f"it lists {found[0]} offsets and {found[1]} sizes where its size wants "
            f"{one.blocks_due} blocks",
            DAMAGED,
        )


def mask_of(directories: Sequence[Directory], image: Directory) -> Directory | None:
    """Return the mask of an image, None where the file holds none."""
    for one in directories:
        if one.mask and one.reduced == image.reduced and one.size == image.size:
            return one
    return None
