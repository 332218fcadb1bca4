"""The work itself, in a child: make a piece, make an output tile, make the upper overviews."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cogmill.core_machine.contracts import JobView, PlannedTask, Requirements
from cogmill.job_types.raster_to_cog import places
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.limits import TASK_SECONDS
from cogmill.job_types.raster_to_cog.members import opened_reader
from cogmill.job_types.raster_to_cog.outputs import Counted
from cogmill.job_types.raster_to_cog.prepared import Prepared, plan_of, prepared_of
from cogmill.job_types.raster_to_cog.raster_preflight import opened_as_planned
from cogmill.job_types.raster_to_cog.results import (
    OverviewsResult,
    PieceParams,
    PieceResult,
    PieceTable,
    TileParams,
    TileResult,
    piece_key,
)
from cogmill.job_types.tools import Tools
from cogmill.raster import gdal
from cogmill.raster.cog.joining import EncodedPart, JoinedParts
from cogmill.raster.cog.tile_encoding import TILE_OVERVIEWS, encode_tile
from cogmill.raster.cog.upper_levels import UpperLevels, cog_levels
from cogmill.raster.cog.verify import verify_cog
from cogmill.raster.geometry.grid import OutputTile, Window
from cogmill.raster.intermediate.piece_reading import PieceIndex, PieceReader
from cogmill.raster.intermediate.piece_writing import HeldRows, PieceWriter
from cogmill.raster.make.tile_maker import TileMaker
from cogmill.raster.plan.fitting import smaller_pieces
from cogmill.raster.plan.planning import tile_reads
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.read.fetching import ReadCounts
from cogmill.raster.read.source_blocks import PixelSource
from cogmill.raster.read.streaming import StreamedPiece
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedObject
from cogmill.storage.store import RangeReader

MOST_OPEN = 256
"""Parts that are open at once: a process may have 1024 files, and rows can be longer."""
_CHUNK = 8 << 20


def make_piece(job: JobView[Inputs], params: PieceParams, tools: Tools) -> PieceResult:
    """Read one source piece, each strip once, and write it as an intermediate; see `PieceTask`."""
    prepared = prepared_of(job)
    plan = prepared.plan
    window = Window.of(params.window)
    stem = f"piece_{params.number:06d}"
    with (
        gdal.environment(tools.gdal_cache),
        opened_as_planned(job.inputs.source, prepared, tools) as (data, mask),
    ):
        if plan.streamed:
            strips = StreamedPiece(plan.structure, window, data, mask)
            made = write_piece(job, stem, PieceWriter(plan.piece_codec, strips), tools)
            return made.model_copy(update={"counted": counted_reads(strips.counts)})
        with opened_reader(plan, data, mask) as reader:
            held = HeldRows(reader.read(window))
    made = write_piece(job, stem, PieceWriter(plan.piece_codec, held), tools)
    return made.model_copy(update={"counted": counted_reads(reader.counts)})


def split_piece(job: JobView[Inputs], params: PieceParams, budget: int) -> Iterator[PlannedTask]:
    """Yield the pieces that make up one and need no more than `budget` each."""
    needs, windows = smaller_pieces(plan_of(job), Window.of(params.window), budget)
    for window in windows:
        part = PieceParams(number=params.number, window=window.rectangle)
        yield PlannedTask(
            key=piece_key(part),
            params=part.model_dump(mode="json"),
            requires=Requirements(memory=needs, seconds=TASK_SECONDS),
        )


def write_piece(job: JobView[Inputs], stem: str, writer: PieceWriter, tools: Tools) -> PieceResult:
    """Commit what a writer encodes as an intermediate."""
    staged = places.commit_intermediate(job, stem, writer.chunks(), tools)
    return PieceResult(piece=writer.piece(str(staged.final)), counted=Counted(), staged=staged)


def make_tile(
    job: JobView[Inputs], params: TileParams, shared: PieceTable, tools: Tools
) -> TileResult:
    """Compute, encode, verify and stage one output tile; see `TileTask`."""
    prepared = prepared_of(job)
    plan = prepared.plan
    tile = plan.tile(params.row, params.col)
    image = plan.tile_image(tile)
    reads = tile_reads(plan, tile)
    with gdal.environment(tools.gdal_cache), opened_pixels(job, prepared, shared, tools) as reader:
        maker = TileMaker(plan, tile.window, reader, tools.progress)
        encoded = encode_tile(
            image,
            maker.rows(reads),
            plan.overview_resampling,
            keeps_third=not job.inputs.target.is_collection,
        )
        counted = counted_reads(reader.counts, maker.widened)
        if encoded.tile.valid_pixels == 0:
            return TileResult(
                row=params.row, col=params.col, staged=None, index=None, counted=counted
            )
        verify_cog(encoded.data, image, TILE_OVERVIEWS, encoded.tile)
    data = encoded.data
    chunks = (data[first : first + _CHUNK] for first in range(0, len(data), _CHUNK))
    staged = stage_tile(job, tile, chunks, tools)
    return TileResult(
        row=params.row,
        col=params.col,
        staged=staged,
        index=encoded.tile,
        counted=counted,
    )


def make_overviews(
    job: JobView[Inputs], tiles: Iterable[TileResult], tools: Tools
) -> OverviewsResult:
    """Compute the upper levels of one COG from the third level of its tiles, streaming."""
    plan = prepared_of(job).plan
    with gdal.environment(tools.gdal_cache), joined_tiles(plan, tiles, tools) as parts:
        upper = UpperLevels(
            plan.image,
            plan.overview_resampling,
            range(TILE_OVERVIEWS + 1, len(cog_levels(plan.image))),
            given=TILE_OVERVIEWS,
        )
        staged = places.commit_intermediate(job, "overviews", upper.chunks(parts.coarsest()), tools)
    return OverviewsResult(staged=staged, blocks=upper.blocks())


@contextmanager
def joined_tiles(
    plan: RasterPlan, tiles: Iterable[TileResult], tools: Tools
) -> Iterator[JoinedParts]:
    """Open the encoded output tiles of a job as one; each is opened when it is first read."""
    parts, objects = [], []
    for tile in tiles:
        if tile.staged is not None and tile.index is not None:
            window = plan.tile(tile.row, tile.col).window
            parts.append(EncodedPart(window, tile.index.blocks, tile.index.third))
            objects.append(tile.staged)
    with opened_parts(objects, tools) as read:
        yield JoinedParts(image=plan.image, parts=parts, overviews=TILE_OVERVIEWS, read=read)


@contextmanager
def opened_parts(
    objects: Sequence[StagedObject], tools: Tools
) -> Iterator[Callable[[int, int, int], bytes]]:
    """Give a function that reads committed objects by number, offset and length.

    They are read a row of parts at a time, from left to right: of many, those that were opened
    first are closed first.
    """
    with ExitStack() as files:
        opened: dict[int, RangeReader] = {}

        def read(number: int, offset: int, length: int) -> bytes:
            if number not in opened:
                if len(opened) >= MOST_OPEN:
                    opened.pop(next(iter(opened))).close()
                final = objects[number].final
                opened[number] = files.enter_context(tools.storage.open(final))
            return opened[number].read_ranges([(offset, length)])[0]

        yield read


@contextmanager
def opened_pixels(
    job: JobView[Inputs], prepared: Prepared, shared: PieceTable, tools: Tools
) -> Iterator[PixelSource]:
    """Open what source pixels come from: the source itself, or its pieces."""
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
def _source(job: JobView[Inputs], prepared: Prepared, tools: Tools) -> Iterator[PixelSource]:
    with (
        opened_as_planned(job.inputs.source, prepared, tools) as (data, mask),
        opened_reader(prepared.plan, data, mask) as reader,
    ):
        yield reader


def _piece_index(plan: RasterPlan, pieces: PieceTable) -> PieceIndex:
    apart = plan.structure.image.planes > 1
    return PieceIndex(
        codec=plan.piece_codec,
        bands=plan.structure.bands,
        interleave="band" if apart else "pixel",
        pieces=pieces.root,
    )


def counted_reads(counts: ReadCounts, widened: int = 0) -> Counted:
    """Return what a task says of what it fetched and decoded."""
    return Counted(
        requests=counts.requests,
        bytes=counts.bytes_fetched,
        decodes=counts.blocks_decoded,
        widened=widened,
    )


def stage_tile(
    job: JobView[Inputs], tile: OutputTile, chunks: Iterable[bytes], tools: Tools
) -> StagedObject:
    """Stage a tile of a mosaic under its final name, or commit a tile of one COG to the area."""
    target = job.inputs.target
    if target.is_collection:
        name = plan_of(job).tile_name(tile.row, tile.col)
        return tools.storage.stage(target.join(name), chunks, places.final_area(target, job.id))
    return places.commit_intermediate(job, f"tile_{tile.label}", chunks, tools)
