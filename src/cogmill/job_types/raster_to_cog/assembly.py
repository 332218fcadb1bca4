"""Fragments of output tiles, in a child: make one, cut a tile into them, put a tile together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from cogmill.core_machine.contracts import JobView, PlannedTask, Requirements
from cogmill.job_types.raster_to_cog import places
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.limits import STILL_SECONDS, TASK_SECONDS
from cogmill.job_types.raster_to_cog.outputs import Counted
from cogmill.job_types.raster_to_cog.pixel_tasks import (
    counted_reads,
    opened_parts,
    opened_pixels,
    stage_tile,
    write_piece,
)
from cogmill.job_types.raster_to_cog.prepared import plan_of, prepared_of
from cogmill.job_types.raster_to_cog.results import (
    AssembleParams,
    Fragment,
    PieceResult,
    PieceTable,
    TileParams,
    TileResult,
    TileTable,
    tile_key,
)
from cogmill.job_types.tools import Tools
from cogmill.raster import gdal
from cogmill.raster.cog.block_index import EncodedTile
from cogmill.raster.cog.block_rows import PixelRows
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.fragments import (
    ASSEMBLED_LEVELS,
    reduced_codec,
    reduced_rows,
    reduced_window,
)
from cogmill.raster.cog.joining import (
    EncodedPart,
    JoinedParts,
    OneCog,
    one_cog,
)
from cogmill.raster.cog.tile_encoding import encode_tile
from cogmill.raster.cog.upper_levels import UpperLevels
from cogmill.raster.cog.verify import verify_cog
from cogmill.raster.geometry.grid import OutputTile, Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.intermediate.piece_reading import Piece
from cogmill.raster.intermediate.piece_writing import HeldRows, PieceWriter
from cogmill.raster.make.tile_maker import TileMaker
from cogmill.raster.plan.fitting import smaller_tiles
from cogmill.raster.plan.planning import work_read
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedObject


def make_fragment(
    job: JobView[Inputs], params: TileParams, shared: PieceTable, tools: Tools
) -> TileResult:
    """Compute, encode, verify and commit one fragment of an output tile; see `TileTask`."""
    prepared = prepared_of(job)
    plan = prepared.plan
    tile, work = plan.tile(params.row, params.col), _work(params)
    image = plan.image.model_copy(update={"grid": plan.target_grid.window_grid(work)})
    read = work_read(plan, work)
    if read[1] is None:
        return _result(params, None, None, Counted(), None)
    with gdal.environment(tools.gdal_cache), opened_pixels(job, prepared, shared, tools) as reader:
        maker = TileMaker(plan, work, reader, tools.progress)
        encoded = encode_tile(image, maker.rows([read]), plan.overview_resampling, overviews=0)
        counted = counted_reads(reader.counts, maker.widened)
        verify_cog(encoded.data, image, 0, encoded.tile)
    stem = tile_key(params).replace(" ", "_")
    staged = places.commit_intermediate(job, f"fragment_{stem}", [encoded.data], tools)
    held = _held(reduced_window(work, tile.window), encoded.reduced)
    reduced = write_piece(
        job, f"reduced_{stem}", PieceWriter(reduced_codec(image), HeldRows(held)), tools
    )
    return _result(params, staged, encoded.tile, counted, reduced)


def split_tile(job: JobView[Inputs], params: TileParams, budget: int) -> Iterator[PlannedTask]:
    """Yield the fragments of a tile, or of a fragment, that need no more than `budget` each."""
    plan = plan_of(job)
    tile = plan.tile(params.row, params.col)
    whole = tile.window if params.window is None else Window.of(params.window)
    needs, works = smaller_tiles(plan, whole, budget)
    for work in works:
        part = TileParams(row=params.row, col=params.col, window=work.rectangle)
        yield PlannedTask(
            key=tile_key(part),
            params=part.model_dump(mode="json"),
            requires=Requirements(memory=needs, seconds=TASK_SECONDS, still=STILL_SECONDS),
        )


def assemble_tile(
    job: JobView[Inputs], params: AssembleParams, shared: TileTable, tools: Tools
) -> TileResult:
    """Put one output tile together from its fragments; see `AssembleTask`."""
    plan = plan_of(job)
    tile = plan.tile(params.row, params.col)
    image = plan.tile_image(tile)
    fragments = _fragments(shared, tile)
    valid = sum(fragment.index.valid_pixels for fragment in fragments)
    if not valid:
        return TileResult(
            row=params.row, col=params.col, staged=None, index=None, counted=Counted()
        )
    upper = UpperLevels(image, plan.overview_resampling, ASSEMBLED_LEVELS, ASSEMBLED_LEVELS.start)
    reduced = places.commit_intermediate(
        job,
        f"levels_{tile.label}",
        upper.chunks(_reduced(image, fragments, tools)),
        tools,
    )
    parts = [_part(fragment, tile) for fragment in fragments]
    with (
        opened_parts([fragment.staged for fragment in fragments], tools) as read,
        tools.storage.open(reduced.final) as levels,
    ):
        cog = one_cog(
            JoinedParts(image=image, parts=parts, overviews=0, read=read),
            upper.blocks(),
            lambda offset, length: levels.read_ranges([(offset, length)])[0],
        )
        third = _third(job, image, cog.header.size)
        behind = [] if third is None else third.chunks(_reduced(image, fragments, tools))
        staged = stage_tile(job, tile, chain(_told(cog, tools), behind), tools)
    tools.storage.delete(reduced.final)
    index = EncodedTile(
        blocks=cog.index(),
        size=cog.header.size,
        valid_pixels=valid,
        checksums=(),
        third=None if third is None else third.blocks(),
    )
    return TileResult(
        row=params.row,
        col=params.col,
        staged=staged,
        index=index,
        counted=Counted(),
        assembled=True,
    )


def _third(job: JobView[Inputs], image: CogImage, position: int) -> UpperLevels | None:
    """Return what encodes the exact third overview behind a tile of one COG, if it needs one."""
    if not image.codec.lossy or job.inputs.target.is_collection:
        return None
    exact = image.model_copy(update={"codec": image.codec.exact})
    method = plan_of(job).overview_resampling
    last = ASSEMBLED_LEVELS.stop - 1
    return UpperLevels(exact, method, range(last, last + 1), ASSEMBLED_LEVELS.start, position)


def _told(cog: OneCog, tools: Tools) -> Iterator[bytes]:
    """Yield a file and report each chunk, so that a long copy does not look like a hang."""
    done = 0
    for chunk in cog.chunks():
        done += len(chunk)
        tools.progress(done)
        yield chunk


def _reduced(image: CogImage, fragments: list[_Filled], tools: Tools) -> Iterator[PixelRows]:
    pieces = [fragment.reduced for fragment in fragments]
    return reduced_rows(image, pieces, lambda name: tools.storage.open(Location.parse(name)))


@dataclass(frozen=True)
class _Filled:
    """A fragment that holds something.

    Attributes
    ----------
    window : Window
        On the target grid.
    staged : StagedObject
        Its encoded blocks.
    index : EncodedTile
        Where they lie.
    reduced : Piece
        The exact pixels of its first overview.
    """

    window: Window
    staged: StagedObject
    index: EncodedTile
    reduced: Piece


def _fragments(shared: TileTable, tile: OutputTile) -> list[_Filled]:
    """Return the fragments of a tile that hold anything."""
    found = []
    for row in shared.tiles:
        match row:
            case TileResult(
                staged=StagedObject() as staged,
                index=EncodedTile() as index,
                fragment=Fragment(window=window, reduced=PieceResult(piece=reduced)),
            ) if (row.row, row.col) == (tile.row, tile.col):
                found.append(_Filled(Window.of(window), staged, index, reduced))
    return found


def _part(fragment: _Filled, tile: OutputTile) -> EncodedPart:
    return EncodedPart(
        window=fragment.window.shift(-tile.window.col_off, -tile.window.row_off),
        blocks=fragment.index.blocks,
    )


def _work(params: TileParams) -> Window:
    if params.window is None:
        raise ValueError("a whole output tile where a fragment is due")
    return Window.of(params.window)


def _held(window: Window, rows: PixelRows | None) -> HeldPixels:
    if rows is None:
        raise ValueError("the first overview was encoded with the fragment")
    pixels, mask = rows
    return HeldPixels(
        window=window,
        pixels=pixels,
        mask=None if mask is None else np.where(mask, np.uint8(255), np.uint8(0)),
    )


def _result(
    params: TileParams,
    staged: StagedObject | None,
    index: EncodedTile | None,
    counted: Counted,
    reduced: PieceResult | None,
) -> TileResult:
    return TileResult(
        row=params.row,
        col=params.col,
        staged=staged,
        index=index,
        counted=counted,
        fragment=Fragment(window=_work(params).rectangle, reduced=reduced),
    )
