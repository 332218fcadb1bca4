"""What the tasks of raster-to-cog say to each other: params, results, and what stages share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, RootModel

from cogmill.job_types.raster_to_cog.outputs import Counted
from cogmill.raster.cog.block_index import EncodedBlocks, EncodedTile
from cogmill.raster.intermediate.piece_reading import Piece
from cogmill.raster.tile_names import tile_label
from cogmill.storage.staging import StagedObject


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PieceParams(_Value):
    """Names a source piece: by its number in the plan, and by its window for any other plan.

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
    """Says where the intermediate of a piece lies.

    Attributes
    ----------
    piece : Piece
        Where it lies, and where its blocks lie in it.
    counted : Counted
        What reading it took.
    staged : StagedObject or None
        The committed object that holds it. None in what an older version of cogmill recorded.
    """

    piece: Piece
    counted: Counted
    staged: StagedObject | None = None


class TileParams(_Value):
    """Names an output tile, or a fragment of it.

    Attributes
    ----------
    row, col : int
        The tile's place.
    window : (int, int, int, int) or None
        A fragment's column, row, width and height on the target grid; None: the whole tile.
    """

    row: int
    col: int
    window: tuple[int, int, int, int] | None = None


class Fragment(_Value):
    """Marks the result of a tile task as a fragment, which is put together with its neighbours.

    Attributes
    ----------
    window : (int, int, int, int)
        Its column, row, width and height on the target grid.
    reduced : PieceResult or None
        The exact pixels of its first overview; None where nothing of the source lies in it.
    """

    window: tuple[int, int, int, int]
    reduced: PieceResult | None


class TileResult(_Value):
    """An encoded output tile.

    Attributes
    ----------
    staged : StagedObject or None
        The file; None where the tile has no valid pixel.
    index : EncodedTile or None
        Where its blocks lie.
    fragment : Fragment or None
        Not None: only a fragment of the tile.
    assembled : bool
        Whether the tile was put together, so that its overviews were not proved with its pixels.
    """

    row: int
    col: int
    staged: StagedObject | None
    index: EncodedTile | None
    counted: Counted
    fragment: Fragment | None = None
    assembled: bool = False


class AssembleParams(_Value):
    """Names the output tile that is put together."""

    row: int
    col: int


class NoParams(_Value):
    """The params of a task that is the only one of its stage."""


class OverviewsResult(_Value):
    """The encoded upper levels: the intermediate object, and where their blocks lie in it."""

    staged: StagedObject
    blocks: EncodedBlocks


class PieceTable(RootModel[tuple[Piece, ...]]):
    """What the stage `tiles` shares: the pieces of the source; none where it is read directly."""

    model_config = ConfigDict(frozen=True)


class TileTable(_Value):
    """What the stages `assemble` and `overviews` share: fragments, or whole output tiles."""

    tiles: tuple[TileResult, ...]


class Publication(_Value):
    """What the stage `publish` shares.

    Attributes
    ----------
    tiles : tuple of TileResult
        The output tiles, row by row.
    counted, pieces_counted : Counted
        What making tiles and pieces took.
    overviews : tuple of OverviewsResult
        One for one COG, none for a mosaic.
    """

    tiles: tuple[TileResult, ...]
    counted: Counted
    overviews: tuple[OverviewsResult, ...]
    pieces_counted: Counted


def piece_key(params: PieceParams) -> str:
    """Return the key of a piece's task: the same whichever plan cuts that piece."""
    return f"piece {','.join(map(str, params.window))}"


def tile_key(params: TileParams) -> str:
    """Return the key of a tile's or a fragment's task: the same whichever plan cuts it."""
    key = tile_label(params.row, params.col)
    return key if params.window is None else f"{key} {','.join(map(str, params.window))}"
