"""The stages of raster-to-cog: what each one plans, and what its tasks are.

``pieces`` decodes every strip of the source once, ``tiles`` warps and encodes output tiles or
fragments of them, ``assemble`` makes tiles of fragments, ``overviews`` computes the upper levels of
one COG, ``publish`` makes the result visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from cogmill.core_machine.contracts import (
    EarlierResults,
    JobView,
    PlannedTask,
    Requirements,
    StagePlan,
    StageType,
    TaskType,
)
from cogmill.job_types.raster_to_cog import assembly, pixel_tasks, publish
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.limits import (
    PUBLISH_MEMORY,
    PUBLISH_SECONDS,
    STILL_SECONDS,
    TASK_SECONDS,
)
from cogmill.job_types.raster_to_cog.outputs import Counted, Outputs
from cogmill.job_types.raster_to_cog.prepared import plan_of
from cogmill.job_types.raster_to_cog.results import (
    AssembleParams,
    NoParams,
    OverviewsResult,
    PieceParams,
    PieceResult,
    PieceTable,
    Publication,
    TileParams,
    TileResult,
    TileTable,
    piece_key,
    tile_key,
)
from cogmill.job_types.tools import Tools
from cogmill.raster.cog.fragments import assembly_memory
from cogmill.raster.cog.upper_levels import upper_levels_memory
from cogmill.raster.geometry.grid import work_tiles
from cogmill.raster.plan.raster_plan import RasterPlan

RasterJob = JobView[Inputs]


class PieceTask(TaskType[PieceParams, PieceResult, Tools]):
    """Reads one source piece and writes it as an intermediate."""

    params = PieceParams
    result = PieceResult

    def execute(
        self, job: RasterJob, params: PieceParams, shared: None, tools: Tools
    ) -> PieceResult:
        """Decode the piece's strips, each once, and stage and commit its blocks."""
        return pixel_tasks.make_piece(job, params, tools)

    def adopt(self, job: RasterJob, result: PieceResult, tools: Tools) -> bool:
        """Whether the intermediate is still there, whole."""
        return result.staged is not None and tools.storage.can_commit(result.staged)

    def split(
        self, job: RasterJob, params: PieceParams, budget: int, tools: Tools
    ) -> Iterable[PlannedTask]:
        """Return smaller pieces that need no more than `budget` each; none where a strip does."""
        return pixel_tasks.split_piece(job, params, budget)


class TileTask(TaskType[TileParams, TileResult, Tools]):
    """Reads, warps, encodes, verifies and stages one output tile, or one fragment of it."""

    params = TileParams
    result = TileResult

    def execute(
        self, job: RasterJob, params: TileParams, shared: PieceTable, tools: Tools
    ) -> TileResult:
        """Compute one output tile, or a fragment."""
        if params.window is not None:
            return assembly.make_fragment(job, params, shared, tools)
        return pixel_tasks.make_tile(job, params, shared, tools)

    def adopt(self, job: RasterJob, result: TileResult, tools: Tools) -> bool:
        """Whether the encoded tile is still staged or committed, whole; an empty one always is."""
        return _is_there(result, tools)

    def split(
        self, job: RasterJob, params: TileParams, budget: int, tools: Tools
    ) -> Iterable[PlannedTask]:
        """Return fragments that need no more than `budget` each; none where a single block does."""
        return assembly.split_tile(job, params, budget)


class AssembleTask(TaskType[AssembleParams, TileResult, Tools]):
    """Puts one output tile together from its fragments."""

    params = AssembleParams
    result = TileResult

    def execute(
        self, job: RasterJob, params: AssembleParams, shared: TileTable, tools: Tools
    ) -> TileResult:
        """Copy the fragments' blocks, and encode the tile's overviews."""
        return assembly.assemble_tile(job, params, shared, tools)

    def adopt(self, job: RasterJob, result: TileResult, tools: Tools) -> bool:
        """Whether the tile is still staged or committed, whole; an empty one always is."""
        return _is_there(result, tools)


class OverviewsTask(TaskType[NoParams, OverviewsResult, Tools]):
    """Computes the upper levels of one COG from the third level of its tiles."""

    params = NoParams
    result = OverviewsResult

    def execute(
        self, job: RasterJob, params: NoParams, shared: TileTable, tools: Tools
    ) -> OverviewsResult:
        """Compute all upper levels, a few block rows in memory at a time."""
        return pixel_tasks.make_overviews(job, shared.tiles, tools)

    def adopt(self, job: RasterJob, result: OverviewsResult, tools: Tools) -> bool:
        """Whether the encoded levels are still there, whole."""
        return tools.storage.can_commit(result.staged)


class PublishTask(TaskType[NoParams, Outputs, Tools]):
    """Commits the result and proves it."""

    params = NoParams
    result = Outputs

    def execute(
        self, job: RasterJob, params: NoParams, shared: Publication, tools: Tools
    ) -> Outputs:
        """Make the result visible; safe to repeat."""
        return publish.publish_outputs(job, shared, tools)


class PiecesStage(StageType[Tools]):
    """Stage 1 of two-stage; plans nothing when the strategy is direct."""

    name = "pieces"
    task = PieceTask()

    def plan(self, job: RasterJob, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """One task a source piece."""
        plan = plan_of(job)
        if plan.piece_memory is None:
            return StagePlan(tasks=())
        needs = Requirements(memory=plan.piece_memory.total, seconds=TASK_SECONDS)
        return StagePlan(
            tasks=tuple(
                PlannedTask(
                    key=piece_key(params), params=params.model_dump(mode="json"), requires=needs
                )
                for number, piece in enumerate(plan.pieces)
                for params in [PieceParams(number=number, window=piece.rectangle)]
            )
        )


class TilesStage(StageType[Tools]):
    """One task an output tile; or several, where the memory asks for fragments."""

    name = "tiles"
    task = TileTask()
    shared = PieceTable

    def plan(self, job: RasterJob, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """Share the index of the pieces; plan every output tile."""
        plan = plan_of(job)
        needs = Requirements(memory=plan.memory.total, seconds=TASK_SECONDS, still=STILL_SECONDS)
        return StagePlan(
            shared=PieceTable(tuple(made.piece for made in _pieces(earlier))),
            tasks=tuple(
                PlannedTask(
                    key=tile_key(params), params=params.model_dump(mode="json"), requires=needs
                )
                for params in _tile_params(plan)
            ),
        )


class AssembleStage(StageType[Tools]):
    """One task an output tile that there are fragments of."""

    name = "assemble"
    task = AssembleTask()
    shared = TileTable

    def plan(self, job: RasterJob, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """Share the fragments; plan each tile of which there are any."""
        tiles = [TileResult.model_validate(row.result) for row in earlier.of("tiles")]
        fragments = tuple(tile for tile in tiles if tile.fragment is not None)
        plan = plan_of(job)
        memory = assembly_memory(plan.image, plan.tile_size).total
        needs = Requirements(memory=memory, seconds=PUBLISH_SECONDS, still=STILL_SECONDS)
        return StagePlan(
            shared=TileTable(tiles=fragments),
            tasks=tuple(
                PlannedTask(
                    key=tile_key(TileParams(row=row, col=col)),
                    params=AssembleParams(row=row, col=col).model_dump(mode="json"),
                    requires=needs,
                )
                for row, col in sorted({(tile.row, tile.col) for tile in fragments})
            ),
        )


class OverviewsStage(StageType[Tools]):
    """The upper levels of one COG; plans nothing for a mosaic."""

    name = "overviews"
    task = OverviewsTask()
    shared = TileTable

    def plan(self, job: RasterJob, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """One task that streams; the tiles' indexes are shared."""
        if job.inputs.target.is_collection:
            return StagePlan(tasks=())
        memory = upper_levels_memory(plan_of(job).image)
        needs = Requirements(memory=memory, seconds=PUBLISH_SECONDS)
        return StagePlan(
            shared=TileTable(tiles=_whole(_tiles(earlier))),
            tasks=(PlannedTask(key="upper levels", params={}, requires=needs),),
        )


class PublishStage(StageType[Tools]):
    """One task that makes everything visible, what names it last."""

    name = "publish"
    task = PublishTask()
    shared = Publication

    def plan(self, job: RasterJob, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """Share what earlier stages staged."""
        tiles, overviews = _tiles(earlier), earlier.of("overviews")
        needs = Requirements(
            # A small budget must not wait for ever; but it is the whole of it, not one child's
            # share, that what needs more than a share may take.
            memory=min(PUBLISH_MEMORY, tools.child_memory * tools.workers),
            seconds=PUBLISH_SECONDS,
        )
        return StagePlan(
            shared=Publication(
                tiles=_whole(tiles),
                counted=sum((tile.counted for tile in tiles), start=Counted()),
                overviews=tuple(OverviewsResult.model_validate(row.result) for row in overviews),
                pieces_counted=sum((made.counted for made in _pieces(earlier)), start=Counted()),
            ),
            tasks=(PlannedTask(key="publish", params={}, requires=needs),),
        )


STAGES: Final[Mapping[str, StageType[Tools]]] = MappingProxyType(
    {
        stage.name: stage
        for stage in (
            PiecesStage(),
            TilesStage(),
            AssembleStage(),
            OverviewsStage(),
            PublishStage(),
        )
    }
)


def _is_there(result: TileResult, tools: Tools) -> bool:
    """Whether all that was written of a tile or a fragment is still there; nothing always is."""
    objects = [result.staged]
    if result.fragment is not None and result.fragment.reduced is not None:
        objects.append(result.fragment.reduced.staged)
    return all(tools.storage.can_commit(found) for found in objects if found is not None)


def _tile_params(plan: RasterPlan) -> Iterator[TileParams]:
    for tile in plan.tiles:
        if not plan.fragments:
            yield TileParams(row=tile.row, col=tile.col)
            continue
        for work in work_tiles(tile.window, plan.work_rows, plan.work_cols):
            yield TileParams(row=tile.row, col=tile.col, window=work.rectangle)


def _pieces(earlier: EarlierResults) -> list[PieceResult]:
    return [PieceResult.model_validate(row.result) for row in earlier.of("pieces")]


def _tiles(earlier: EarlierResults) -> list[TileResult]:
    """Return the results of all tile tasks and of those that put tiles together."""
    rows = [*earlier.of("tiles"), *earlier.of("assemble")]
    return [TileResult.model_validate(row.result) for row in rows]


def _whole(tiles: Iterable[TileResult]) -> tuple[TileResult, ...]:
    """Return the output tiles among them, however they came about, row by row."""
    whole = (tile for tile in tiles if tile.fragment is None)
    return tuple(sorted(whole, key=lambda tile: (tile.row, tile.col)))
