"""Writing the intermediates of two-stage runs: encoded blocks back to back, a row at a time.

The file has no directory of its own: its index travels in the task's result, so that a reader
needs no request to find a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from cogmill.raster.codecs import Array, BlockCodec, encode_mask
from cogmill.raster.layout import BlockTable
from cogmill.raster.pieces import Piece
from cogmill.raster.source import Held

#: No block begins at 0, which would read as never written.
_MAGIC: Final = b"cogmill\n"


class PieceWriter:
    """Encodes one held piece as it is written; holds one row of blocks besides it.

    Parameters
    ----------
    codec : BlockCodec
        Of the blocks; with one sample where the bands lie apart, else with all.
    held : Held
        The piece's pixels.
    """

    def __init__(self, codec: BlockCodec, held: Held) -> None:
        self._codec = codec
        self._held = held
        bands, height, width = held.pixels.shape
        self._down, self._across = -(-height // codec.block), -(-width // codec.block)
        self._planes = bands // codec.samples
        shape = (self._planes, self._down, self._across)
        self._offsets, self._counts = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._mask_offsets, self._mask_counts = np.zeros(shape[1:], int), np.zeros(shape[1:], int)
        self._position = 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the file, a row of blocks at a time."""
        self._position = len(_MAGIC)
        yield _MAGIC
        for row in range(self._down):
            data = bytearray()
            for plane in range(self._planes):
                for col in range(self._across):
                    block = self._codec.encode(self._block(plane, row, col))
                    self._offsets[plane, row, col] = self._position + len(data)
                    self._counts[plane, row, col] = len(block)
                    data += block
            if self._held.mask is not None:
                self._add_mask_row(row, data)
            self._position += len(data)
            chunk = bytes(data)
            del data
            yield chunk
            del chunk

    def piece(self, location: str) -> Piece:
        """Return the index of the file, once `chunks` has yielded all of it."""
        mask_blocks = None
        if self._held.mask is not None:
            mask_blocks = BlockTable.of(self._mask_offsets.ravel(), self._mask_counts.ravel())
        return Piece(
            window=self._held.window,
            location=location,
            blocks=BlockTable.of(self._offsets.ravel(), self._counts.ravel()),
            mask_blocks=mask_blocks,
        )

    def _add_mask_row(self, row: int, data: bytearray) -> None:
        for col in range(self._across):
            valid = np.zeros((self._codec.block, self._codec.block), np.bool_)
            part = self._part(row, col)
            mask = self._held.mask
            if mask is not None:
                cut = mask[part]
                valid[: cut.shape[0], : cut.shape[1]] = cut != 0
            block = encode_mask(valid)
            self._mask_offsets[row, col] = self._position + len(data)
            self._mask_counts[row, col] = len(block)
            data += block

    def _block(self, plane: int, row: int, col: int) -> Array:
        samples, block = self._codec.samples, self._codec.block
        bands = slice(plane * samples, (plane + 1) * samples)
        pixels = self._held.pixels[(bands, *self._part(row, col))]
        whole = np.zeros((block, block, samples), pixels.dtype)
        whole[: pixels.shape[1], : pixels.shape[2]] = np.moveaxis(pixels, 0, 2)
        return whole

    def _part(self, row: int, col: int) -> tuple[slice, slice]:
        block = self._codec.block
        return (
            slice(row * block, (row + 1) * block),
            slice(col * block, (col + 1) * block),
        )
