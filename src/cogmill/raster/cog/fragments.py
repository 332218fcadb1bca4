"""Work tiles smaller than their output tile: fragments, and how a tile is made of them.

A fragment is encoded blocks of full resolution and, beside them, the exact pixels of the first
overview, for a codec may lose. Fragments of one tile may differ in size: a task that was planned
again smaller has neighbours that were not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Final

import numpy as np

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.codecs.block_codec import BlockCodec
from cogmill.raster.cog.block_rows import PixelRows
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.tile_encoding import TILE_OVERVIEWS
from cogmill.raster.cog.upper_levels import streaming_memory
from cogmill.raster.geometry.grid import Window
from cogmill.raster.intermediate.piece_reading import (
    Piece,
    PieceIndex,
    PieceReader,
    piece_codec,
)
from cogmill.raster.memory import PROCESS_BASE, MemoryEstimate, total_of
from cogmill.raster.read.fetching import BATCH_BYTES, REQUEST_BYTES
from cogmill.raster.tiff.header import ByteSource

#: The levels of an output tile that are encoded when its fragments are put together.
ASSEMBLED_LEVELS: Final = range(1, TILE_OVERVIEWS + 1)


def fragment_sizes(tile_size: int, block: int, largest: int | None) -> Iterator[tuple[int, int]]:
    """Yield ever smaller sizes (rows, cols) of fragments, whole blocks, less than an output tile.

    The longer side is halved, for a square reads the least beside what it needs.

    Parameters
    ----------
    tile_size, block : int
        Sides of an output tile and of a block, in pixels.
    largest : int or None
        The user's largest side of a work tile, rounded down to blocks, at least one.
    """
    side = tile_size // block
    rows = cols = side if largest is None else min(side, max(largest // block, 1))
    if rows < side:
        yield rows * block, cols * block
    while rows > 1 or cols > 1:
        if rows >= cols:
            rows = ceil_div(rows, 2)
        else:
            cols = ceil_div(cols, 2)
        yield rows * block, cols * block


def reduced_window(work: Window, tile: Window) -> Window:
    """Return where a fragment lies on the first overview of its output tile.

    Parameters
    ----------
    work, tile : Window
        The fragment and its output tile, on the target grid.
    """
    return Window(
        col_off=(work.col_off - tile.col_off) // 2,
        row_off=(work.row_off - tile.row_off) // 2,
        width=ceil_div(work.width, 2),
        height=ceil_div(work.height, 2),
    )


def reduced_codec(image: CogImage) -> BlockCodec:
    """Return how the pixels of the first overview are kept until their tile is put together."""
    return piece_codec(image.dtype, 1 if image.planes > 1 else image.bands)


def reduced_rows(
    image: CogImage,
    pieces: Sequence[Piece],
    open_piece: Callable[[str], AbstractContextManager[ByteSource]],
) -> Iterator[PixelRows]:
    """Yield the first overview of an output tile from top to bottom, a row of blocks at a time.

    Parameters
    ----------
    image : CogImage
        The output tile.
    pieces : sequence of Piece
        Of its first overview; what none covers has no valid pixel.
    open_piece : callable
        Opens a piece's location; none stays open when its rows are read.

    Yields
    ------
    tuple of (ndarray, ndarray of bool or None)
        Pixels ``(band, row, col)`` and, with a mask, valid pixels ``(row, col)``.
    """
    width, height = ceil_div(image.grid.width, 2), ceil_div(image.grid.height, 2)
    for top in range(0, height, image.block):
        window = Window(col_off=0, row_off=top, width=width, height=min(image.block, height - top))
        pixels = np.full((image.bands, window.height, width), image.fill, image.dtype)
        mask = np.zeros((window.height, width), bool) if image.has_mask else None
        for piece in pieces:
            part = piece.window.intersect(window)
            if part is None:
                continue
            with ExitStack() as files:
                reader = PieceReader(
                    _index(image, piece), lambda name: files.enter_context(open_piece(name))
                )
                held = reader.read(part)
            rows, cols = part.shift(0, -top).slices
            pixels[:, rows, cols] = held.pixels
            if mask is not None and held.mask is not None:
                mask[rows, cols] = held.mask != 0
        yield pixels, mask


def _index(image: CogImage, piece: Piece) -> PieceIndex:
    return PieceIndex(
        codec=reduced_codec(image),
        bands=image.bands,
        interleave="band" if image.planes > 1 else "pixel",
        pieces=(piece,),
    )


def assembly_memory(image: CogImage, tile_size: int) -> MemoryEstimate:
    """Return the peak of a task that puts an output tile together.

    Parameters
    ----------
    image : CogImage
        The whole output.
    tile_size : int
        Side of an output tile in pixels.
    """
    side = ceil_div(tile_size, 2)
    width = min(side, image.grid.width)
    return total_of(
        {
            "process": PROCESS_BASE,
            "decoding": _reading_bytes(image, width),
            "overviews": streaming_memory(image, (width, side)),
        }
    )


def _reading_bytes(image: CogImage, width: int) -> int:
    """Return what reading a row of blocks of the first overview holds beside its pixels.

    At most one fragment is as wide as the tile: its pixels, its encoded blocks, one that is
    decoded.
    """
    pixel = image.bands * np.dtype(image.dtype).itemsize + image.has_mask
    block = reduced_codec(image).block
    touched = (image.block + block) * (width + block) * pixel
    fetched = min(BATCH_BYTES + REQUEST_BYTES, touched)
    return image.block * width * pixel + fetched + 2 * block * block * pixel
