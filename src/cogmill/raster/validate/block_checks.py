"""Every block of a file: where it lies, what frames it, and whether it decodes.

Blocks are read in the order of the file, a few at a time, and decoded one by one, so that a file
of any size takes the memory of its largest block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import tifffile

from cogmill.raster.arrays import Ints
from cogmill.raster.codecs.source_codecs import claim_check
from cogmill.raster.read.fetching import TILED_FETCHES, ReadCounts, fetch_blocks
from cogmill.raster.tiff.block_table import DAMAGE, BlockTable, tiff_page
from cogmill.raster.tiff.header import ByteSource
from cogmill.raster.validate.layout_rules import (
    DAMAGED,
    REWRITE,
    Directory,
    GhostArea,
    mask_of,
)
from cogmill.raster.validate.verdict import Finding

#: What decoders raise: imagecodecs' own errors are runtime errors.
UNDECODABLE: Final = (*DAMAGE, RuntimeError, NotImplementedError)

_FRAME: Final = 4
#: No block begins within the TIFF header.
_HEADER: Final = 8
#: Copies of a decoded block that a decoder may hold at once: unpacked, unpredicted, in its dtype.
_COPIES: Final = 3


@dataclass
class BlockChecks:
    """Goes through the blocks of a file and gathers what is wrong.

    Parameters
    ----------
    data : ByteSource
        The file.
    ghost : GhostArea
        What the file promises.
    memory : int
        Bytes that one block may take.
    progress : callable
        Told the number of blocks done so far.
    """

    data: ByteSource
    ghost: GhostArea
    memory: int
    progress: Callable[[int], None]
    decoded: int = 0
    findings: list[Finding] = field(default_factory=list)
    _first: dict[tuple[str, str], Finding] = field(default_factory=dict)
    _more: dict[tuple[str, str], int] = field(default_factory=dict)

    def check(self, tiff: tifffile.TiffFile, directories: Sequence[Directory]) -> None:
        """Check the places of all blocks, then what they hold."""
        for one in directories:
            if len(one.offsets) != len(one.byte_counts) or len(one.offsets) != one.blocks_due:
                continue  # Its tables are reported, and nothing tells which block is which.
            mask = (
                mask_of(directories, one) if self.ghost.mask_interleaved and not one.mask else None
            )
            self._check_places(one, mask)
            self._check_contents(tiff, one)
        for key, finding in self._first.items():
            more = self._more[key]
            message = f"{finding.message}; {more} more blocks alike" if more else finding.message
            self.findings.append(finding.model_copy(update={"message": message}))

    def _add(self, finding: Finding) -> None:
        key = finding.rule, finding.where
        if key in self._first:
            self._more[key] += 1
        else:
            self._first[key], self._more[key] = finding, 0

    def _check_places(self, one: Directory, mask: Directory | None) -> None:
        starts = one.offsets
        if mask is not None and one.planes == 1:
            if len(mask.offsets) != len(starts) or (mask.block_width, mask.block_height) != (
                one.block_width,
                one.block_height,
            ):
                self._add(mask.finding("mask-place", "its blocks are not those of its image"))
            else:
                self._check_mask_places(one, mask)
                starts = np.where(starts > 0, starts, mask.offsets)
        if self.ghost.row_major:
            for plane, part in enumerate(np.split(starts, one.planes)):
                self._check_order(one, part, plane * len(part))

    def _check_mask_places(self, one: Directory, mask: Directory) -> None:
        frame = _FRAME * (self.ghost.leader + self.ghost.trailer)
        due = one.offsets + one.byte_counts + frame
        wrong = (one.offsets > 0) & (mask.offsets > 0) & (mask.offsets != due)
        for index in np.flatnonzero(wrong).tolist():
            self._add(
                mask.finding(
                    "mask-place",
                    f"{mask.block_name(index)} lies at byte {mask.offsets[index]}, "
                    f"and is due behind the image's block, at {due[index]}",
                )
            )

    def _check_order(self, one: Directory, starts: Ints, first: int) -> None:
        there = np.flatnonzero(starts > 0)
        for at in np.flatnonzero(np.diff(starts[there]) < 0).tolist():
            self._add(
                one.finding(
                    "block-order",
                    f"{one.block_name(first + int(there[at + 1]))} lies before the one that "
                    "precedes it in its row-major order",
                )
            )

    def _check_contents(self, tiff: tifffile.TiffFile, one: Directory) -> None:
        before = _FRAME if self.ghost.leader else 0
        behind = _FRAME if self.ghost.trailer else 0
        stored = (one.offsets != 0) & (one.byte_counts != 0)
        starts, ends = one.offsets - before, one.offsets + one.byte_counts + behind
        within = (starts >= _HEADER) & (one.byte_counts > 0) & (ends <= self.data.size)
        for index in np.flatnonzero(stored & ~within).tolist():
            self._add(
                one.finding(
                    "past-end",
                    f"{one.block_name(index)}, {one.byte_counts[index]} bytes at byte "
                    f"{one.offsets[index]}, does not lie in the file of {self.data.size} bytes",
                    DAMAGED,
                )
            )
        indices = np.flatnonzero(stored & within & self._fits(one))
        table = BlockTable.of(
            np.where(within, starts, 0), np.where(within, one.byte_counts + before + behind, 0)
        )
        decode = _decoder(tiff, one)
        for index, framed in fetch_blocks(self.data, table, indices, TILED_FETCHES, ReadCounts()):
            block = framed[before : len(framed) - behind]
            self._check_frame(one, index, framed)
            why = decode(block, index)
            if why is None:
                self.decoded += 1
            else:
                message = f"{one.block_name(index)} does not decode: {why}"
                self._add(one.finding("undecodable", message, DAMAGED))
            self.progress(self.decoded)

    def _fits(self, one: Directory) -> Any:
        needed = one.byte_counts + _COPIES * one.block_bytes
        fits = needed <= self.memory
        for index in np.flatnonzero(~fits & (one.byte_counts > 0)).tolist():
            self._add(
                one.finding(
                    "memory",
                    f"{one.block_name(index)} needs {needed[index]} bytes of memory to be decoded",
                    f"give more --memory, or {REWRITE}",
                )
            )
        return fits

    def _check_frame(self, one: Directory, index: int, framed: bytes) -> None:
        if self.ghost.leader:
            said = int.from_bytes(framed[:_FRAME], "little")
            if said != one.byte_counts[index]:
                self._add(
                    one.finding(
                        "leader",
                        f"the size before {one.block_name(index)} is {said}, "
                        f"and the block has {one.byte_counts[index]} bytes",
                    )
                )
        repeated = framed[-2 * _FRAME : -_FRAME] == framed[-_FRAME:]
        if self.ghost.trailer and one.byte_counts[index] >= _FRAME and not repeated:
            self._add(
                one.finding(
                    "trailer",
                    f"the four bytes behind {one.block_name(index)} do not repeat its last ones",
                )
            )


def _decoder(tiff: tifffile.TiffFile, one: Directory) -> Callable[[bytes, int], str | None]:
    """Return the function that says why a block does not decode, None where it does."""
    found = tiff_page(tiff, one.index)
    try:
        decode, tables, check = found.decode, found.jpegtables, claim_check(found)
    except UNDECODABLE as error:
        reason = _said(error)
        return lambda block, index: reason

    def why(block: bytes, index: int) -> str | None:
        try:
            check(block)
            segment = decode(block, index, jpegtables=tables)[0]
        except (*UNDECODABLE, MemoryError) as error:
            return _said(error)
        return None if segment is not None else "nothing is in it"

    return why


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
