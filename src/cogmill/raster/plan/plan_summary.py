"""What a plan says of itself to people's programs: a light model, which parents read without GDAL.

The names are a contract: ``cogmill inspect --json`` prints them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from cogmill.raster.options.plan_options import Strategy


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSummary(_Value):
    """The source; `text` says it all in one line, `crs` is WKT, sizes are in pixels."""

    text: str
    page: int | None
    members: int | None
    width: int
    height: int
    bands: int
    dtype: str
    layout: Literal["striped", "tiled"]
    block_width: int
    block_height: int
    blocks: int
    sparse_blocks: int
    interleave: str
    compression: str
    predictor: int
    size_bytes: int
    crs: str | None
    nodata: tuple[float | str | None, ...]
    alpha_band: int | None
    mask: str | None
    color_interpretation: tuple[str, ...]
    overviews: tuple[tuple[int, int], ...]


class GridSummary(_Value):
    """The target grid; `transform` in GDAL's order."""

    crs: str | None
    transform: tuple[float, ...]
    width: int
    height: int


class PointsSummary(_Value):
    """What places a source without a transform; residuals in pixels."""

    kind: str
    text: str
    residual_rms: float | None
    residual_max: float | None


class WarpSummary(_Value):
    """How pixels are moved; None of `operation` and `scales` where nothing was chosen."""

    engine: str
    resampling: str
    overview_resampling: str
    xscale: float | None
    yscale: float | None
    coordinate_operation: str | None
    operation: JsonValue
    scales: JsonValue


class TilesSummary(_Value):
    """How the work is cut; sizes in pixels, rows before columns."""

    output: int
    size: int
    work: tuple[int, int]
    fragments: bool
    pieces: int
    piece: tuple[int, int] | None
    streamed: bool


class MemorySummary(_Value):
    """The largest task's bytes and what they consist of; `pieces` of the largest piece task."""

    total: int
    parts: dict[str, int]
    pieces: dict[str, int] | None


class CostSummary(_Value):
    """What one strategy costs: bytes are fetched, decodes are blocks."""

    tasks: int
    requests: int
    bytes: int
    decodes: int
    bytes_decoded: int
    whole_reads: int
    windowed_reads: int
    intermediate_bytes_written: int
    intermediate_bytes_read: int
    seconds: float
    peak_memory_bytes: int
    fits: bool


class ReadsSummary(_Value):
    """Reads of the source that are one download, and those that are several ranges."""

    whole: int
    windows: int


class PlanSummary(_Value):
    """A plan in numbers; `cost` by strategy, and of one task a target square (``naive``)."""

    structure: SourceSummary
    strategy: Strategy
    reason: str
    target_grid: GridSummary
    placed_by: PointsSummary | None
    warp: WarpSummary | None
    validity: JsonValue
    tiles: TilesSummary
    memory: MemorySummary
    cost: dict[str, CostSummary]
    reads: ReadsSummary
    gdalwarp: tuple[str, ...]
    warnings: tuple[str, ...]
