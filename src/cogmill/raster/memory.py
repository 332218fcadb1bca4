"""How much memory a task will need, as a sum whose parts are named.

Nothing here opens a raster or loads GDAL, so parent processes divide their memory with it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from cogmill.raster.arithmetic import ceil_div
from cogmill.settings import CHILD_MEMORY, PARENT_MEMORY

MIB = 1 << 20
GIB = 1 << 30

#: A child with rasterio, pyproj, tifffile and imagecodecs loaded and PROJ's database open:
#: VmHWM measured (CPython 3.11, rasterio 1.4.4), 115 MiB in a fresh process and 132 after tasks of
#: every kind, when all codecs are loaded and the allocator keeps what it cannot give back.
PROCESS_BASE = CHILD_MEMORY
#: What one child may use when nobody said what there is.
DEFAULT_CHILD_MEMORY = 2 * GIB


class MemoryEstimate(BaseModel):
    """Predicted peak of one task, part by part.

    Attributes
    ----------
    parts : dict[str, int]
        What needs memory, to bytes; the parts are held at the same time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """The predicted peak in bytes."""
        return sum(self.parts.values())


def worker_budget(child: int, workers: int) -> int:
    """Return the ``--memory`` that gives each of `workers` children `child` bytes.

    Parameters
    ----------
    child : int
        Bytes for one child.
    workers : int
        Children that run at once.

    Returns
    -------
    int
        Bytes, so that ``child_budget(worker_budget(c, n), n) == c``.
    """
    return child * max(workers, 1) + PARENT_MEMORY


def budget_text(child: int, workers: int) -> str:
    """Return a ``--memory`` value, rounded up to 10 MB, that lets one child use `child` bytes."""
    megabytes = ceil_div(worker_budget(child, workers), 10 * MIB) * 10
    return f"{megabytes}MB"


def total_of(parts: Mapping[str, int]) -> MemoryEstimate:
    """Return the estimate of these parts, those that need nothing left out."""
    return MemoryEstimate(parts={name: size for name, size in parts.items() if size > 0})


@dataclass(frozen=True, slots=True)
class TileDemand:
    """What a work tile and its output tile ask for, in bytes.

    Attributes
    ----------
    held : int
        The decoded source window: footprint, skew and halo, all bands, mask included.
    decoding : int
        Encoded blocks in flight and what decoding one needs beside the held window.
    warping : int
        GDAL's buffers for one row of blocks; 0 where pixels are copied.
    buffered : int
        Target pixels that wait until a row of blocks is complete.
    rows : int
        Rows of blocks in the encoder: the one it is given, halves of the overviews, scratch.
    encoded : int
        The output tile's encoded blocks of all levels, kept until the file is laid out.
    encoded_before : int
        Those that are there when the last work tile is decoded.
    """

    held: int
    decoding: int
    warping: int
    buffered: int
    rows: int
    encoded: int
    encoded_before: int


def tile_memory(demand: TileDemand) -> MemoryEstimate:
    """Return the peak of a task that reads, warps, reduces and encodes an output tile.

    A work tile is decoded, then warped and encoded, with what was encoded before it at hand: the
    larger of the two moments counts.
    """
    decoding = {
        "decoding": demand.decoding,
        "destination": demand.buffered,
        "overviews": demand.rows if demand.encoded_before else 0,
        "encoder output": demand.encoded_before,
    }
    working = {
        "warp": demand.warping,
        "destination": demand.buffered,
        "overviews": demand.rows,
        "encoder output": demand.encoded,
    }
    larger = max(decoding, working, key=lambda parts: sum(parts.values()))
    return total_of({"process": PROCESS_BASE, "held source": demand.held, **larger})


def piece_memory(pixels: int, decoding: int, row: int) -> MemoryEstimate:
    """Return the peak of a task that decodes a piece and writes it as an intermediate.

    Parameters
    ----------
    pixels : int
        Bytes of the decoded piece, mask included.
    decoding : int
        Encoded blocks in flight and what decoding one needs.
    row : int
        Bytes of one row of blocks of the intermediate.
    """
    return total_of(
        {
            "process": PROCESS_BASE,
            "held source": pixels,
            "decoding or encoding": max(decoding, row),
        }
    )
