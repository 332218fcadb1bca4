"""Params and results of the tasks of raster-to-cog. Parents load it: no GDAL here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue

from cogmill.raster.tile_names import tile_label


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
    piece : dict
        A `piece_reading.Piece` as JSON.
    staged : dict or None
        A `staging.StagedObject` as JSON: the committed object that holds it. None in
        what an older version of cogmill recorded.
    """

    piece: dict[str, JsonValue]
    counted: Counted
    staged: dict[str, JsonValue] | None = None


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
    """An encoded output tile; `staged` is None when it has no valid pixel.

    Attributes
    ----------
    staged : dict or None
        A `staging.StagedObject` as JSON.
    index : dict or None
        A `block_index.EncodedTile` as JSON: where its blocks lie.
    fragment : Fragment or None
        Not None: only a fragment of the tile.
    assembled : bool
        Whether the tile was put together, so that its overviews were not proved with its pixels.
    """

    row: int
    col: int
    staged: dict[str, JsonValue] | None
    index: dict[str, JsonValue] | None
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
    """The encoded upper levels: an intermediate object, and a `block_index.EncodedBlocks`."""

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


def piece_key(params: PieceParams) -> str:
    """Return the key of a piece's task: the same whichever plan cuts that piece."""
    return f"piece {','.join(map(str, params.window))}"


def tile_key(params: TileParams) -> str:
    """Return the key of a tile's or a fragment's task: the same whichever plan cuts it."""
    key = tile_label(params.row, params.col)
    return key if params.window is None else f"{key} {','.join(map(str, params.window))}"
