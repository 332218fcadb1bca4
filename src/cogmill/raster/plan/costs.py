"""What each strategy costs: counted from the source's blocks, then weighed.

The weights are round figures of one core of a small cloud machine with its source in a bucket of
the same region. They rank the strategies; they do not promise a duration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict

from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.plan.reads import (
    SourceReads,
    packing_ratio,
    piece_blocks,
    piece_codec_of,
    source_pixel_bytes,
    source_reads,
)
from cogmill.raster.read.fetching import fetch_seconds

#: Decoded bytes a second out of deflate or LZW.
DECODE_RATE: Final = 250e6
#: Decoded bytes a second into an intermediate (zstd 1), writing included.
PIECE_WRITE_RATE: Final = 300e6
#: Decoded bytes a second out of an intermediate, reading included.
PIECE_READ_RATE: Final = 800e6
#: Seconds to claim, start and settle one task.
TASK_OVERHEAD_SECONDS: Final = 0.1
#: Seconds for the machine to close one stage and plan the next.
STAGE_OVERHEAD_SECONDS: Final = 0.5
#: Target pixels of three bands a second through GDAL's exact warp (issue 2), by kernel.
WARP_RATES: Final = {"nearest": 3.0e6, "bilinear": 1.6e6, "cubic": 0.9e6, "average": 1.0e6}
_SLOW_WARP_RATE: Final = 0.5e6
#: Decoded bytes a second into the output's blocks and overviews.
ENCODE_RATE: Final = 60e6
#: An intermediate of a source that is stored raw packs to about this; else as the source did.
_RAW_PACKS_TO: Final = 0.7


class Cost(BaseModel):
    """What a strategy does, predicted.

    Attributes
    ----------
    tasks : int
        Tasks that read pixels.
    requests : int
        Ranged reads of the source; neighbouring blocks are merged.
    bytes_fetched, bytes_decoded : int
        Of the source: encoded bytes read, decoded bytes made of them.
    blocks_decoded : int
        Blocks of the source that are decoded, repetitions counted.
    whole_reads, windowed_reads : int
        Reads of the source that are one download, and those that are several ranges.
    intermediate_bytes_written, intermediate_bytes_read : int
        Encoded bytes of intermediates, at the source's ratio of compression.
    seconds : float
        Estimate for one worker.
    peak_memory_bytes : int
        Of the largest task.
    fits : bool
        Whether the largest task fits what one child may use.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: int
    requests: int
    bytes_fetched: int
    bytes_decoded: int
    blocks_decoded: int
    whole_reads: int
    windowed_reads: int
    intermediate_bytes_written: int = 0
    intermediate_bytes_read: int = 0
    seconds: float
    peak_memory_bytes: int
    fits: bool = True


class Costs(BaseModel):
    """The costs side by side: direct, two-stage, and naive, which is one task a target square."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    direct: Cost
    two_stage: Cost
    naive: Cost


@dataclass(frozen=True, slots=True)
class TargetWork:
    """The warping and encoding of the target, which every strategy does alike.

    Attributes
    ----------
    pixels : int
        Of the target.
    pixel_bytes : int
        Of one target pixel, all bands.
    bands : int
        Of the target.
    kernel : str or None
        Resampling; None: pixels are copied.
    """

    pixels: int
    pixel_bytes: int
    bands: int
    kernel: str | None

    @property
    def seconds(self) -> float:
        """What warping and encoding take."""
        seconds = self.pixels * self.pixel_bytes / ENCODE_RATE
        if self.kernel is not None:
            rate = WARP_RATES.get(self.kernel, _SLOW_WARP_RATE)
            seconds += self.pixels * self.bands / 3 / rate
        return seconds


def direct_cost(
    structure: Structure, windows: Sequence[Window], tasks: int, peak: int, target_work: TargetWork
) -> Cost:
    """Return the cost of reading these windows straight from the source.

    Parameters
    ----------
    structure : Structure
        The source.
    windows : sequence of Window
        What is read, one by one.
    tasks : int
        Tasks that do it.
    peak : int
        Predicted bytes of the largest task.
    target_work : TargetWork
        What is made of it.
    """
    reads = source_reads(structure, windows)
    return _cost(reads, tasks, peak, _source_seconds(reads) + target_work.seconds)


def two_stage_cost(
    structure: Structure,
    pieces: Sequence[Window],
    windows: Sequence[Window],
    tasks_and_peak: tuple[int, int],
    target_work: TargetWork,
) -> Cost:
    """Return the cost of decoding each piece once and reading `windows` from intermediates.

    Parameters
    ----------
    structure : Structure
        The source.
    pieces : sequence of Window
        What stage 1 reads from the source.
    windows : sequence of Window
        What stage 2 reads from the intermediates.
    tasks_and_peak : (int, int)
        Tasks of stage 2, and the predicted bytes of the largest task of either stage.
    target_work : TargetWork
        What is made of it.
    """
    tile_tasks, peak = tasks_and_peak
    reads = source_reads(structure, pieces)
    pixel_bytes = source_pixel_bytes(structure)
    written = sum(piece.size for piece in pieces) * pixel_bytes
    block = piece_codec_of(structure).block
    read = piece_blocks(pieces, windows, block) * block * block * pixel_bytes
    packed = min(packing_ratio(structure) or _RAW_PACKS_TO, 1.0)
    seconds = (
        _source_seconds(reads)
        + written / PIECE_WRITE_RATE
        + read / PIECE_READ_RATE
        + STAGE_OVERHEAD_SECONDS
        + target_work.seconds
    )
    cost = _cost(reads, len(pieces) + tile_tasks, peak, seconds)
    return cost.model_copy(
        update={
            "intermediate_bytes_written": round(written * packed),
            "intermediate_bytes_read": round(read * packed),
        }
    )


def _source_seconds(reads: SourceReads) -> float:
    return fetch_seconds(reads.requests, reads.bytes_fetched) + reads.bytes_decoded / DECODE_RATE


def _cost(reads: SourceReads, tasks: int, peak: int, seconds: float) -> Cost:
    return Cost(
        tasks=tasks,
        requests=reads.requests,
        bytes_fetched=reads.bytes_fetched,
        bytes_decoded=reads.bytes_decoded,
        blocks_decoded=reads.blocks_decoded,
        whole_reads=reads.whole_reads,
        windowed_reads=reads.windowed_reads,
        seconds=round(seconds + tasks * TASK_OVERHEAD_SECONDS, 3),
        peak_memory_bytes=peak,
    )
