"""The intermediates of two-stage runs: where the pieces of the source lie, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cogmill.errors import BlockUndecodable, PermanentError
from cogmill.raster.arrays import Array, ByteMask, Ints
from cogmill.raster.codecs.block_codec import BlockCodec, decode_mask
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.read.fetching import (
    BlockCanvas,
    ReadCounts,
    fetch_blocks,
    most_fetched,
    touched_blocks,
)
from cogmill.raster.tiff.block_table import BlockTable, ImageLayout
from cogmill.raster.tiff.header import ByteSource

_BLOCK: Final = 512
_LEVEL: Final = 1


class Piece(BaseModel):
    """One intermediate file: a rectangle of the source, in square blocks from its own corner.

    Attributes
    ----------
    window : Window
        On the source grid.
    location : str
        Where the file is, for whoever opens it.
    blocks : BlockTable
        Row by row, then band by band where the bands are apart.
    mask_blocks : BlockTable or None
        Those of the mask, row by row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Window
    location: str
    blocks: BlockTable
    mask_blocks: BlockTable | None = None


class PieceIndex(BaseModel):
    """All pieces of one source and how they are encoded.

    Attributes
    ----------
    codec : BlockCodec
        Of the blocks; its ``block`` is their size.
    bands : int
        Of the source, alpha included.
    interleave : str
        ``pixel`` where a block holds all bands, ``band`` where each band has its own.
    pieces : tuple of Piece
        Disjoint; together they cover what is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    codec: BlockCodec
    bands: int
    interleave: Literal["pixel", "band"]
    pieces: tuple[Piece, ...]

    def layout(self, piece: Piece) -> ImageLayout:
        """Return how the pixels of a piece are cut into blocks."""
        samples = self.bands if self.interleave == "pixel" else 1
        if self.codec.samples != samples:
            raise ValueError(f"a codec of {self.codec.samples} samples where {samples} are due")
        return self._layout(piece, piece.blocks, self.bands, self.codec.dtype)

    def mask_layout(self, piece: Piece) -> ImageLayout | None:
        """Return how the mask of a piece is cut into blocks, None where it has none."""
        if piece.mask_blocks is None:
            return None
        return self._layout(piece, piece.mask_blocks, 1, "uint8")

    def _layout(self, piece: Piece, blocks: BlockTable, bands: int, dtype: str) -> ImageLayout:
        return ImageLayout(
            width=piece.window.width,
            height=piece.window.height,
            block_width=self.codec.block,
            block_height=self.codec.block,
            striped=False,
            planar=self.interleave,
            samples=bands,
            dtype=dtype,
            bits=np.dtype(dtype).itemsize * 8,
            compression=self.codec.compression,
            predictor=self.codec.predictor,
            blocks=blocks,
            ifd=0,
        )


def piece_codec(dtype: str, samples: int) -> BlockCodec:
    """Return the codec of intermediates: little packing, much speed, for a life of minutes.

    Parameters
    ----------
    dtype : str
        NumPy name of one sample.
    samples : int
        Of one pixel in one block.
    """
    return BlockCodec(
        compression="zstd", level=_LEVEL, predictor=1, dtype=dtype, samples=samples, block=_BLOCK
    )


class PieceReader:
    """Reads windows of the source from its pieces.

    Parameters
    ----------
    index : PieceIndex
        The pieces.
    open_piece : callable
        Location to file; called once for each piece that is needed.
    """

    def __init__(self, index: PieceIndex, open_piece: Callable[[str], ByteSource]) -> None:
        self.counts = ReadCounts()
        self._index = index
        self._open = open_piece
        self._opened: dict[str, ByteSource] = {}
        self._first_block = np.cumsum([0, *(piece.blocks.length for piece in index.pieces)])
        self.counts.decodes = np.zeros(int(self._first_block[-1]), np.uint32)

    def read(self, window: Window, bands: Sequence[int] | None = None) -> HeldPixels:
        """Return the pixels of a window of the source.

        Parameters
        ----------
        window : Window
            On the source grid.
        bands : sequence of int, optional
            Counted from 1, in the order that is wanted; all by default.

        Returns
        -------
        HeldPixels
            As the source itself would give it.

        Raises
        ------
        BlockUndecodable
            With file, index, offset and size of the block.
        PermanentError
            When the pieces do not cover the window.
        StorageUnavailable
            When the store does not answer, or answers short.
        """
        wanted = list(bands) if bands else list(range(1, self._index.bands + 1))
        shape = (len(wanted), window.height, window.width)
        pixels = np.empty(shape, self._index.codec.dtype)
        masked = any(piece.mask_blocks is not None for piece in self._index.pieces)
        mask = np.zeros(shape[1:], np.uint8) if masked else None
        covered = 0
        for number, piece in enumerate(self._index.pieces):
            part = piece.window.intersect(window)
            if part is None:
                continue
            covered += part.width * part.height
            place = (
                slice(part.row_off - window.row_off, part.row_off - window.row_off + part.height),
                slice(part.col_off - window.col_off, part.col_off - window.col_off + part.width),
            )
            within = part.shift(-piece.window.col_off, -piece.window.row_off)
            self._pixels(number, within, wanted, pixels[:, *place])
            if mask is not None:
                self._mask(piece, within, mask[place])
        if covered != window.width * window.height:
            raise PermanentError(f"the pieces of the source do not cover {window}")
        return HeldPixels(window=window, pixels=pixels, mask=mask)

    def _pixels(self, number: int, within: Window, bands: Sequence[int], out: Array) -> None:
        piece = self._index.pieces[number]
        layout = self._index.layout(piece)
        target = BlockCanvas(layout, within, bands, out)
        indices = touched_blocks(layout, within, bands)
        for index in indices[layout.blocks.sparse[indices]].tolist():
            raise _damaged(piece, "block", index, ValueError("it was never written"))
        for index, data in self._fetched(piece, layout, indices):
            self.counts.block(int(self._first_block[number]) + index)
            try:
                target.put(index, self._index.codec.decode(data))
            except ValueError as error:
                raise _damaged(piece, "block", index, error) from error

    def _mask(self, piece: Piece, within: Window, out: ByteMask) -> None:
        layout = self._index.mask_layout(piece)
        if layout is None:
            out[:] = 255
            return
        target = BlockCanvas(layout, within, [1], out[None])
        for index, data in self._fetched(piece, layout, touched_blocks(layout, within)):
            self.counts.mask_blocks_decoded += 1
            try:
                valid = decode_mask(data, self._index.codec.block)
            except ValueError as error:
                raise _damaged(piece, "mask block", index, error) from error
            target.put(index, np.where(valid, np.uint8(255), np.uint8(0))[:, :, None])

    def _fetched(
        self, piece: Piece, layout: ImageLayout, indices: Ints
    ) -> Iterator[tuple[int, bytes]]:
        most = most_fetched(layout)
        return fetch_blocks(self._file(piece), layout.blocks, indices, most, self.counts)

    def _file(self, piece: Piece) -> ByteSource:
        if piece.location not in self._opened:
            self._opened[piece.location] = self._open(piece.location)
        return self._opened[piece.location]


def _damaged(piece: Piece, what: str, index: int, error: ValueError) -> BlockUndecodable:
    return BlockUndecodable(
        f"{what} {index} of the intermediate {piece.location} cannot be decoded: {error}",
        "run the job again with --force; look after the disk if it happens again",
    )
