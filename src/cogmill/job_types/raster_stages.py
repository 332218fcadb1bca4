"""The stages of raster-to-cog: what each one plans and what its tasks say. No GDAL here.

``pieces`` decodes every strip of the source once, ``tiles`` warps and encodes whole output tiles,
``overviews`` computes the upper levels of one COG, ``publish`` makes the result visible.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue

from cogmill.core_machine.contracts import (
    EarlierResults,
    JobView,
    PlannedTask,
    Requirements,
    StagePlan,
    StageType,
    TaskType,
)
from cogmill.job_types.tools import Tools

TASK_SECONDS = 3600
STILL_SECONDS = 1200
"""A tile reports every row of blocks: none for so long, and its attempt hangs."""
PUBLISH_SECONDS = 6 * 3600
PUBLISH_MEMORY = 256 * 2**20
"""Publishing streams a few blocks; this is the process itself and its indexes."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Counted(_Value):
    """What one task fetched and decoded, counted where it happened."""

    requests: int = 0
    bytes: int = 0
    decodes: int = 0
    widened: int = 0

    def __add__(self, other: Counted) -> Counted:
        """Add two counts."""
        mine, theirs = self.model_dump(), other.model_dump()
        return Counted(**{name: mine[name] + theirs[name] for name in mine})


class PieceParams(_Value):
    """Which source piece: its number in the plan, and what it says to whoever has another plan.

    Attributes
    ----------
    number : int
        Its place in the plan's `pieces`.
    window : (int, int, int, int)
        Column, row, width and height on the source grid.
    """

    number: int
    window: tuple[int, int, int, int]


class PieceResult(_Value):
    """An intermediate.

    Attributes
    ----------
    piece : dict
        A `raster.pieces.Piece` as JSON.
    staged : dict or None
        A `storage.staging.StagedObject` as JSON: the committed object that holds it. None in
        what an older version of cogmill recorded.
    """

    piece: dict[str, JsonValue]
    counted: Counted
    staged: dict[str, JsonValue] | None = None


class TileParams(_Value):
    """Which output tile."""

    row: int
    col: int


class TileResult(_Value):
    """An encoded output tile; `staged` is None when it has no valid pixel.

    Attributes
    ----------
    staged : dict or None
        A `storage.staging.StagedObject` as JSON.
    index : dict or None
        A `raster.encoded.EncodedTile` as JSON: where its blocks lie.
    """

    row: int
    col: int
    staged: dict[str, JsonValue] | None
    index: dict[str, JsonValue] | None
    counted: Counted


class NoParams(_Value):
    """A stage of one task."""


class OverviewsResult(_Value):
    """The encoded upper levels: an intermediate object, and a `raster.encoded.EncodedBlocks`."""

    staged: dict[str, JsonValue]
    blocks: dict[str, JsonValue]


class OutputFile(_Value):
    """One object of the result; `version` is the store's, and spares reading it to compare."""

    location: str
    size: int
    sha256: str
    version: str


class Outputs(_Value):
    """What a successful job made; `main` is what a person opens first."""

    main: str
    files: tuple[OutputFile, ...]
    empty_tiles: int
    counted: Counted
    pieces_counted: Counted


class PieceTask(TaskType[PieceParams, PieceResult, Tools]):
    """Reads one source piece and writes it as an intermediate."""

    params = PieceParams
    result = PieceResult

    def execute(
        self, job: JobView, params: PieceParams, shared: JsonValue, tools: Tools
    ) -> PieceResult:
        """Decode the piece's strips, each once, and stage and commit its blocks."""
        from cogmill.job_types import raster_tasks

        return raster_tasks.make_piece(job, params, tools)

    def adopt(self, job: JobView, result: PieceResult, tools: Tools) -> bool:
        """Whether the intermediate is still there, whole."""
        from cogmill.job_types import raster_places

        return result.staged is not None and raster_places.is_there(result.staged, tools)


class TileTask(TaskType[TileParams, TileResult, Tools]):
    """Reads, warps, encodes, verifies and stages one output tile."""

    params = TileParams
    result = TileResult

    def execute(
        self, job: JobView, params: TileParams, shared: JsonValue, tools: Tools
    ) -> TileResult:
        """Compute one output tile."""
        from cogmill.job_types import raster_tasks

        return raster_tasks.make_tile(job, params, shared, tools)

    def adopt(self, job: JobView, result: TileResult, tools: Tools) -> bool:
        """Whether the encoded tile is still staged or committed, whole; an empty one always is."""
        from cogmill.job_types import raster_places

        return result.staged is None or raster_places.is_there(result.staged, tools)


class OverviewsTask(TaskType[NoParams, OverviewsResult, Tools]):
    """Computes the upper levels of one COG from the third level of its tiles."""

    params = NoParams
    result = OverviewsResult

    def execute(
        self, job: JobView, params: NoParams, shared: JsonValue, tools: Tools
    ) -> OverviewsResult:
        """Compute all upper levels, a few block rows in memory at a time."""
        from cogmill.job_types import raster_tasks

        return raster_tasks.make_overviews(job, shared, tools)

    def adopt(self, job: JobView, result: OverviewsResult, tools: Tools) -> bool:
        """Whether the encoded levels are still there, whole."""
        from cogmill.job_types import raster_places

        return raster_places.is_there(result.staged, tools)


class PublishTask(TaskType[NoParams, Outputs, Tools]):
    """Commits the result and proves it."""

    params = NoParams
    result = Outputs

    def execute(self, job: JobView, params: NoParams, shared: JsonValue, tools: Tools) -> Outputs:
        """Make the result visible; safe to repeat."""
        from cogmill.job_types import raster_publish

        return raster_publish.publish(job, shared, tools)


class PiecesStage(StageType[Tools]):
    """Stage 1 of two-stage; plans nothing when the strategy is direct."""

    name: ClassVar[str] = "pieces"
    task = PieceTask()

    def plan(self, job: JobView, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """One task a source piece."""
        from cogmill.job_types.raster_preflight import plan_of

        plan = plan_of(job)
        if plan.piece_memory is None:
            return StagePlan(tasks=())
        needs = Requirements(memory=plan.piece_memory.total, seconds=TASK_SECONDS)
        return StagePlan(
            tasks=tuple(
                PlannedTask(
                    key=f"piece {number}",
                    params={"number": number, "window": list(piece.rectangle)},
                    requires=needs,
                )
                for number, piece in enumerate(plan.pieces)
            )
        )


class TilesStage(StageType[Tools]):
    """One task an output tile."""

    name: ClassVar[str] = "tiles"
    task = TileTask()

    def plan(self, job: JobView, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """Share the index of the pieces; plan every output tile."""
        from cogmill.job_types.raster_preflight import plan_of

        plan = plan_of(job)
        needs = Requirements(memory=plan.memory.total, seconds=TASK_SECONDS, still=STILL_SECONDS)
        pieces = [PieceResult.model_validate(row.result) for row in earlier.of("pieces")]
        shared: JsonValue = [piece.piece for piece in pieces]
        return StagePlan(
            shared=shared,
            tasks=tuple(
                PlannedTask(
                    key=f"r{tile.row:04d}_c{tile.col:04d}",
                    params={"row": tile.row, "col": tile.col},
                    requires=needs,
                )
                for tile in plan.tiles
            ),
        )


class OverviewsStage(StageType[Tools]):
    """The upper levels of one COG; plans nothing for a mosaic."""

    name: ClassVar[str] = "overviews"
    task = OverviewsTask()

    def plan(self, job: JobView, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """One task that streams; the tiles' indexes are shared."""
        from cogmill.job_types.raster_places import destination
        from cogmill.job_types.raster_preflight import plan_of
        from cogmill.raster.planning import upper_memory

        if destination(job).is_collection:
            return StagePlan(tasks=())
        needs = Requirements(memory=upper_memory(plan_of(job)), seconds=PUBLISH_SECONDS)
        return StagePlan(
            shared={"tiles": [row.result for row in earlier.of("tiles")]},
            tasks=(PlannedTask(key="upper levels", params={}, requires=needs),),
        )


class PublishStage(StageType[Tools]):
    """One task that makes everything visible, what names it last."""

    name: ClassVar[str] = "publish"
    task = PublishTask()

    def plan(self, job: JobView, earlier: EarlierResults, tools: Tools) -> StagePlan:
        """Share what earlier stages staged."""
        pieces = [PieceResult.model_validate(row.result) for row in earlier.of("pieces")]
        return StagePlan(
            shared={
                "tiles": [row.result for row in earlier.of("tiles")],
                "overviews": [row.result for row in earlier.of("overviews")],
                "pieces_counted": sum(
                    (piece.counted for piece in pieces), start=Counted()
                ).model_dump(mode="json"),
            },
            tasks=(
                PlannedTask(
                    key="publish",
                    params={},
                    requires=Requirements(
                        # What streams can do with less: a small budget must not wait for ever.
                        memory=min(PUBLISH_MEMORY, tools.child_memory),
                        seconds=PUBLISH_SECONDS,
                    ),
                ),
            ),
        )
