"""Where a raster is cut: pieces of the source, work tiles of the target. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.geometry.grid import Window
from cogmill.raster.memory import MIB

#: A piece below this many decoded bytes costs more to plan, claim and store than it saves.
SMALLEST_PIECE = 32 * MIB
#: A strip that cannot be decoded as a stream is not cut into narrower parts.
NARROWEST_PIECE = 1024
#: Pieces that every worker should get where they do not become tiny, so that none idles long.
PIECES_PER_WORKER = 4


class RowUnits(BaseModel):
    """The rows of an image in the units that decode together: strips, or rows of blocks.

    Attributes
    ----------
    width, height : int
        The image in pixels.
    rows : int
        Rows of one unit; the last may have fewer.
    row_bytes : int
        Decoded bytes of one row: the width, all bands, and the mask where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int
    height: int
    rows: int
    row_bytes: int

    @property
    def count(self) -> int:
        """How many units there are."""
        return ceil_div(self.height, self.rows)

    @property
    def unit_bytes(self) -> int:
        """Decoded bytes of a whole unit."""
        return min(self.rows, self.height) * self.row_bytes


def strip_is_giant(units: RowUnits, budget: int) -> bool:
    """Return whether not even one unit, decoded, fits into `budget` bytes.

    A giant strip is decoded as a stream, or else cut in X.
    """
    return fitting_units(units, budget) == 0


def piece_size(units: RowUnits, budget: int, workers: int) -> int:
    """Return the size of a piece, in units; 0 when not even one fits.

    As many as the budget holds, but no more than leave `PIECES_PER_WORKER` pieces for every
    worker, unless pieces would become smaller than `SMALLEST_PIECE`.

    Parameters
    ----------
    units : RowUnits
        The source.
    budget : int
        Decoded bytes that one piece may have.
    workers : int
        Workers that share the pieces.
    """
    fitting = fitting_units(units, budget)
    shared = units.count // (PIECES_PER_WORKER * max(workers, 1))
    worthwhile = ceil_div(SMALLEST_PIECE, units.unit_bytes)
    return min(fitting, max(shared, worthwhile), units.count)


def fitting_units(units: RowUnits, budget: int) -> int:
    """Return how many units, decoded, `budget` bytes hold; 0 when not even one."""
    return max(budget, 0) // units.unit_bytes


def fitting_columns(units: RowUnits, budget: int) -> int:
    """Return how many columns of one unit, decoded, `budget` bytes hold, in whole blocks.

    At least `NARROWEST_PIECE`, for every part costs decoding the whole unit once more.
    """
    column = units.unit_bytes // units.width
    fitting = max(budget, 0) // column // NARROWEST_PIECE * NARROWEST_PIECE
    return max(fitting, NARROWEST_PIECE)


def cut_pieces(units: RowUnits, per_piece: int) -> tuple[Window, ...]:
    """Return full-width pieces of `per_piece` units, from the top; the last may be smaller.

    Parameters
    ----------
    units : RowUnits
        The source.
    per_piece : int
        At least 1.

    Returns
    -------
    tuple of Window
        They cover every row once, and begin and end on the boundaries of units.
    """
    rows = per_piece * units.rows
    return tuple(
        Window(col_off=0, row_off=top, width=units.width, height=min(rows, units.height - top))
        for top in range(0, units.height, rows)
    )


def work_sizes(tile_size: int, block: int) -> Iterator[tuple[int, int]]:
    """Yield ever smaller sizes (rows, cols) of the work tiles of one task, all whole blocks.

    Rows are halved first, down to one row of blocks, then columns: the encoder takes an output
    tile from top to bottom, so a wide work tile needs no buffer beside it.

    Parameters
    ----------
    tile_size, block : int
        Sides of an output tile and of a block, in pixels.
    """
    rows = cols = tile_size // block
    yield rows * block, cols * block
    while rows > 1:
        rows = ceil_div(rows, 2)
        yield rows * block, cols * block
    while cols > 1:
        cols = ceil_div(cols, 2)
        yield rows * block, cols * block
