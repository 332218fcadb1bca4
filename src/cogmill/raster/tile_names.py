"""What an output tile is called, wherever it is named. Parents load it: no NumPy here."""

from __future__ import annotations


def tile_label(row: int, col: int) -> str:
    """Return the label of an output tile, as ``r0003_c0012``.

    Parameters
    ----------
    row, col : int
        Its place among the tiles, counted from 0 at the grid's origin.
    """
    return f"r{row:04d}_c{col:04d}"


def tile_file_name(stem: str, row: int, col: int) -> str:
    """Return the name of an output tile's file, as ``dem_r0003_c0012.tif``.

    Parameters
    ----------
    stem : str
        Names of all tiles begin with it.
    row, col : int
        As of `tile_label`.
    """
    return f"{stem}_{tile_label(row, col)}.tif"
