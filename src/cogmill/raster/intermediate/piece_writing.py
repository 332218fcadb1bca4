"""Writing the intermediates of two-stage runs: encoded blocks back to back, row by row.

The file has no directory of its own: its index travels in the task's result, so that a reader
needs no request to find a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, ByteMask
from cogmill.raster.codecs.block_codec import BlockCodec, encode_mask
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.intermediate.piece_reading import Piece
from cogmill.raster.tiff.block_table import BlockTable

#: No block begins at 0, which would read as never written.
_MAGIC: Final = b"cogmill\n"
#: Encoded blocks are handed on when they are so many bytes.
_PORTION: Final = 4 << 20


def writing_bytes(codec: BlockCodec) -> int:
    """Return what encoding a piece holds beside its pixels, in bytes.

    A portion that is being written, one that grows (by an eighth too much) and its copy; a block
    cut out, as the codec takes it, and encoded.
    """
    block = codec.block**2 * codec.samples * np.dtype(codec.dtype).itemsize
    return round(3.125 * (_PORTION + block)) + 3 * block


class RowSource(Protocol):
    """A piece whose rows are taken once, from the top."""

    window: Window
    bands: int
    masked: bool

    def rows(self, count: int) -> tuple[Array, ByteMask | None]:
        """Return the next rows: pixels ``(band, row, col)`` and, where masked, ``(row, col)``."""


class HeldRows:
    """Gives the rows of held pixels, from the top."""

    def __init__(self, held: HeldPixels) -> None:
        self.window = held.window
        self.bands = held.pixels.shape[0]
        self.masked = held.mask is not None
        self._held = held
        self._done = 0

    def rows(self, count: int) -> tuple[Array, ByteMask | None]:
        """Return the next rows; see `RowSource`."""
        part = slice(self._done, self._done + count)
        self._done += count
        mask = self._held.mask
        return self._held.pixels[:, part], None if mask is None else mask[part]


class PieceWriter:
    """Encodes one piece as it is written; of what is encoded it holds `writing_bytes` at most.

    Parameters
    ----------
    codec : BlockCodec
        Of the blocks; with one sample where the bands lie apart, else with all.
    source : RowSource
        The piece's pixels.
    """

    def __init__(self, codec: BlockCodec, source: RowSource) -> None:
        self._codec = codec
        self._source = source
        window = source.window
        self._down, self._across = (
            ceil_div(window.height, codec.block),
            ceil_div(window.width, codec.block),
        )
        self._planes = source.bands // codec.samples
        shape = (self._planes, self._down, self._across)
        self._offsets, self._counts = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._mask_offsets, self._mask_counts = np.zeros(shape[1:], int), np.zeros(shape[1:], int)
        self._position = 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the file, a few MB at a time."""
        data = bytearray(_MAGIC)
        self._position = len(data)
        block, height = self._codec.block, self._source.window.height
        for row in range(self._down):
            for encoded in self._row(row, *self._source.rows(min(block, height - row * block))):
                data += encoded
                if len(data) >= _PORTION:
                    yield bytes(data)
                    data = bytearray()
        yield bytes(data)

    def piece(self, location: str) -> Piece:
        """Return the index of the file, once `chunks` has yielded all of it."""
        mask_blocks = None
        if self._source.masked:
            mask_blocks = BlockTable.of(self._mask_offsets.ravel(), self._mask_counts.ravel())
        return Piece(
            window=self._source.window,
            location=location,
            blocks=BlockTable.of(self._offsets.ravel(), self._counts.ravel()),
            mask_blocks=mask_blocks,
        )

    def _row(self, row: int, pixels: Array, mask: ByteMask | None) -> Iterator[bytes]:
        """Yield one row of blocks, noting where each lies."""
        for plane in range(self._planes):
            for col in range(self._across):
                encoded = self._codec.encode(self._block(pixels, plane, col))
                self._offsets[plane, row, col] = self._position
                self._counts[plane, row, col] = len(encoded)
                self._position += len(encoded)
                yield encoded
        if mask is not None:
            yield from self._mask_row(row, mask)

    def _mask_row(self, row: int, mask: ByteMask) -> Iterator[bytes]:
        block = self._codec.block
        for col in range(self._across):
            valid = np.zeros((block, block), np.bool_)
            cut = mask[:, col * block : (col + 1) * block]
            valid[: cut.shape[0], : cut.shape[1]] = cut != 0
            encoded = encode_mask(valid)
            self._mask_offsets[row, col] = self._position
            self._mask_counts[row, col] = len(encoded)
            self._position += len(encoded)
            yield encoded

    def _block(self, pixels: Array, plane: int, col: int) -> Array:
        samples, block = self._codec.samples, self._codec.block
        bands = slice(plane * samples, (plane + 1) * samples)
        part = pixels[bands, :, col * block : (col + 1) * block]
        whole = np.zeros((block, block, samples), pixels.dtype)
        whole[: part.shape[1], : part.shape[2]] = np.moveaxis(part, 0, 2)
        return whole
