"""The work itself, in a child: make a piece, make an output tile, make the upper overviews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from cogmill.core_machine.contracts import JobView
from cogmill.errors import SourceWindowTooSmall
from cogmill.job_types import raster_places
from cogmill.job_types.raster_preflight import Prepared, opened_as_planned, prepared_of
from cogmill.job_types.raster_stages import (
    Counted,
    OverviewsResult,
    PieceParams,
    PieceResult,
    TileParams,
    TileResult,
)
from cogmill.job_types.tools import Tools
from cogmill.raster import gdal
from cogmill.raster.encode import TILE_OVERVIEWS, Rows, encode_tile
from cogmill.raster.encoded import EncodedTile
from cogmill.raster.fetching import ReadCounts
from cogmill.raster.grid import OutputTile, Window
from cogmill.raster.one_cog import Mosaic, UpperLevels
from cogmill.raster.piece_writing import PieceWriter
from cogmill.raster.pieces import Piece, PieceIndex, PieceReader
from cogmill.raster.planning import tile_reads
from cogmill.raster.rasterplan import RasterPlan
from cogmill.raster.reads import bands
from cogmill.raster.source import Held, PixelSource, SourceReader
from cogmill.raster.verify import verify
from cogmill.raster.warp import warp
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedObject
from cogmill.storage.store import RangeReader

Array = npt.NDArray[Any]

WIDEN_PIXELS = 64
"""How much wider a source window is read when GDAL asked beyond it; counted, never silent."""
WIDEN_TIMES = 4
"""For one row of blocks: a tile of many may meet such places often."""
MOST_OPEN = 256
"""Tiles of one row that are open at once: a process may have 1024 files, and rows can be longer."""
_CHUNK = 8 << 20


def make_piece(job: JobView, params: PieceParams, tools: Tools) -> PieceResult:
    """Read one source piece, each strip once, and write it as an intermediate; see `PieceTask`."""
    prepared = prepared_of(job)
    plan = prepared.plan
    with gdal.environment(tools.gdal_cache), _source(job, prepared, tools) as reader:
        held = reader.read(plan.pieces[params.number])
        counted = _counted(reader.counts)
    area = raster_places.intermediates(raster_places.destination(job), job.id, tools)
    final = area.join(f"piece_{params.number:06d}.{job.attempt}")
    writer = PieceWriter(plan.piece_codec, held)
    staged = tools.storage.stage(final, writer.chunks(), area)
    tools.storage.commit(staged)
    return PieceResult(
        piece=writer.piece(str(final)).model_dump(mode="json"),
        counted=counted,
        staged=staged.model_dump(mode="json"),
    )


def make_tile(job: JobView, params: TileParams, shared: JsonValue, tools: Tools) -> TileResult:
    """Compute, encode, verify and stage one output tile; see `TileTask`."""
    prepared = prepared_of(job)
    plan = prepared.plan
    tile = plan.tile(params.row, params.col)
    image = plan.tile_image(tile)
    with gdal.environment(tools.gdal_cache), _pixels(job, prepared, shared, tools) as reader:
        maker = _TileMaker(plan, tile, reader, tools.progress)
        encoded = encode_tile(image, maker.rows(), plan.overview_resampling)
        counted = _counted(reader.counts, maker.widened)
        if encoded.tile.valid_pixels == 0:
            return TileResult(
                row=params.row, col=params.col, staged=None, index=None, counted=counted
            )
        verify(encoded.data, image, TILE_OVERVIEWS, encoded.tile.checksums)
    staged = _stage_tile(job, tile, plan.tile_name(tile.row, tile.col), encoded.data, tools)
    return TileResult(
        row=params.row,
        col=params.col,
        staged=staged.model_dump(mode="json"),
        index=encoded.tile.model_dump(mode="json"),
        counted=counted,
    )


def make_overviews(job: JobView, shared: JsonValue, tools: Tools) -> OverviewsResult:
    """Compute the upper levels of one COG from the third level of its tiles, streaming."""
    plan = prepared_of(job).plan
    area = raster_places.intermediates(raster_places.destination(job), job.id, tools)
    final = area.join(f"overviews.{job.attempt}")
    with gdal.environment(tools.gdal_cache), mosaic(plan, shared, tools) as tiles:
        upper = UpperLevels(plan.image, plan.overview_resampling)
        staged = tools.storage.stage(final, upper.chunks(tiles.third_overview()), area)
    tools.storage.commit(staged)
    return OverviewsResult(
        staged=staged.model_dump(mode="json"), blocks=upper.blocks().model_dump(mode="json")
    )


@contextmanager
def mosaic(plan: RasterPlan, shared: JsonValue, tools: Tools) -> Iterator[Mosaic]:
    """Open the encoded output tiles of a job as one; each is opened when it is first read."""
    results = [TileResult.model_validate(row) for row in rows_of(shared, "tiles")]
    written = {(tile.row, tile.col): tile for tile in results if tile.staged is not None}
    with ExitStack() as files:
        opened: dict[tuple[int, int], RangeReader] = {}

        def read(place: tuple[int, int], offset: int, length: int) -> bytes:
            if place not in opened:
                staged = StagedObject.model_validate(written[place].staged)
                # A row of tiles at a time: what lies above is read no more.
                for gone in [other for other in opened if other[0] != place[0]]:
                    opened.pop(gone).close()
                if len(opened) >= MOST_OPEN:
                    opened.pop(next(iter(opened))).close()
                opened[place] = files.enter_context(tools.storage.open(staged.final))
            return opened[place].read_ranges([(offset, length)])[0]

        tiles = {place: EncodedTile.model_validate(tile.index) for place, tile in written.items()}
        yield Mosaic(image=plan.image, tile_size=plan.tile_size, tiles=tiles, read=read)


class _TileMaker:
    """Turns the work tiles of one output tile into rows of pixels, from top to bottom.

    Attributes
    ----------
    widened : int
        How often a source window had to be read again, wider.
    """

    def __init__(
        self,
        plan: RasterPlan,
        tile: OutputTile,
        reader: PixelSource,
        progress: Callable[[int], None],
    ) -> None:
        self._plan = plan
        self._tile = tile
        self._reader = reader
        self._progress = progress
        self._done = 0
        self.widened = 0

    def rows(self) -> Iterator[Rows]:
        """Yield whole rows of blocks at the tile's full width."""
        reads = tile_reads(self._plan, self._tile)
        for _, group in groupby(reads, key=lambda read: read[0].row_off):
            row = list(group)
            if len(row) == 1:
                yield from self._bands(*row[0])
            else:
                yield self._joined(row)

    def _joined(self, row: list[tuple[Window, Window | None]]) -> Rows:
        """Put work tiles that lie side by side into one array, each with its own source window."""
        image, first = self._plan.image, row[0][0]
        width = self._tile.window.width
        pixels = np.empty((image.bands, first.height, width), image.dtype)
        mask = np.empty((first.height, width), np.uint8) if image.has_mask else None
        for work, source in row:
            left, top = work.col_off - self._tile.window.col_off, 0
            for part, part_mask in self._bands(work, source):
                area = (slice(top, top + part.shape[1]), slice(left, left + work.width))
                pixels[:, *area] = part
                if mask is not None and part_mask is not None:
                    mask[area] = part_mask
                top += part.shape[1]
        return pixels, mask

    def _bands(self, work: Window, source: Window | None) -> Iterator[Rows]:
        """Yield a work tile one row of blocks at a time, so that GDAL's buffers stay small."""
        held = None if source is None else self._read(source)
        for band in bands(work, self._plan.image.block):
            times = 0
            while True:
                try:
                    rows = self._computed(held, band)
                    break
                except SourceWindowTooSmall:
                    times += 1
                    held = self._widened(held, band, times)
            self._done += band.size
            self._progress(self._done)
            yield rows

    def _computed(self, held: Held | None, band: Window) -> Rows:
        spec = self._plan.warp
        if spec is not None:
            warped = warp(spec, held, band)
            order = list(self._plan.output_order)
            in_order = order == sorted(order)
            return warped.pixels if in_order else warped.pixels[order], warped.mask
        if held is None:
            raise SourceWindowTooSmall(f"nothing is held for {band}")
        rows, cols = band.shift(-held.window.col_off, -held.window.row_off).slices
        # A mask that --nodata or an alpha band overrules is read and not written.
        mask = held.mask if self._plan.image.has_mask else None
        return held.pixels[:, rows, cols], None if mask is None else mask[rows, cols]

    def _widened(self, held: Held | None, band: Window, times: int) -> Held:
        self.widened += 1
        if times > WIDEN_TIMES:
            raise SourceWindowTooSmall(
                f"GDAL asks for source pixels far from where {band} lies",
                "report this raster; --strategy two-stage may pass",
            )
        whole = self._plan.source_grid.window
        wider = whole if held is None else held.window.widen(WIDEN_PIXELS << times)
        return self._read(wider.intersect(whole) or whole)

    def _read(self, source: Window) -> Held:
        return self._reader.read(source, self._plan.held_bands)


@contextmanager
def _pixels(
    job: JobView, prepared: Prepared, shared: JsonValue, tools: Tools
) -> Iterator[PixelSource]:
    if prepared.plan.strategy == "direct":
        with _source(job, prepared, tools) as source:
            yield source
        return
    with ExitStack() as files:
        yield PieceReader(
            _piece_index(prepared.plan, shared),
            lambda location: files.enter_context(tools.storage.open(Location.parse(location))),
        )


@contextmanager
def _source(job: JobView, prepared: Prepared, tools: Tools) -> Iterator[SourceReader]:
    source = Location.parse(str(job.inputs["source"]))
    with opened_as_planned(source, prepared, tools) as (data, mask):
        yield SourceReader(prepared.plan.structure, data, mask)


def _piece_index(plan: RasterPlan, shared: JsonValue) -> PieceIndex:
    rows = rows_of({"pieces": shared}, "pieces")
    apart = plan.structure.image.planes > 1
    return PieceIndex(
        codec=plan.piece_codec,
        bands=plan.structure.bands,
        interleave="band" if apart else "pixel",
        pieces=tuple(Piece.model_validate(row) for row in rows),
    )


def rows_of(shared: JsonValue, name: str) -> list[JsonValue]:
    """Return a list that a stage shares, by its name."""
    rows = shared.get(name) if isinstance(shared, dict) else None
    return rows if isinstance(rows, list) else []


def _counted(counts: ReadCounts, widened: int = 0) -> Counted:
    return Counted(
        requests=counts.requests,
        bytes=counts.bytes_fetched,
        decodes=counts.blocks_decoded,
        widened=widened,
    )


def _stage_tile(
    job: JobView, tile: OutputTile, name: str, data: bytes, tools: Tools
) -> StagedObject:
    """Stage a tile of a mosaic under its final name, or commit a tile of one COG to the area."""
    target = raster_places.destination(job)
    chunks = (data[first : first + _CHUNK] for first in range(0, len(data), _CHUNK))
    if target.is_collection:
        area = raster_places.beside(target, job.id)
        return tools.storage.stage(target.join(name), chunks, area)
    area = raster_places.intermediates(target, job.id, tools)
    final = area.join(f"tile_r{tile.row:04d}_c{tile.col:04d}.{job.attempt}")
    staged = tools.storage.stage(final, chunks, area)
    tools.storage.commit(staged)
    return staged
