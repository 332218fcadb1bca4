"""What a plan says: plain data that holds everything a task needs, so nobody inspects twice.

`planning.make_plan` makes it; it travels as JSON and comes back the same to the last bit.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, field_serializer

from cogmill.errors import Refused
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.codecs.block_codec import BlockCodec
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.reduction import Method
from cogmill.raster.geometry.grid import (
    Grid,
    OutputTile,
    Window,
    output_tiles,
)
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.memory import MemoryEstimate
from cogmill.raster.options.grid_options import Number
from cogmill.raster.options.plan_options import PlanOptions, Strategy
from cogmill.raster.plan.costs import Costs
from cogmill.raster.tile_names import tile_file_name, tile_label
from cogmill.raster.warp.coordinate_operation import CoordinateOperation
from cogmill.raster.warp.warp_spec import KernelScales, WarpSpec


class Validity(BaseModel):
    """How a pixel says that it means nothing: decided once, before the warp.

    Attributes
    ----------
    kind : str
        What the source uses: ``nodata``, ``alpha``, ``mask`` or ``none``.
    source_nodata : tuple of (float or None) or None
        Per band, the value that is invalid in the source; None: no band has one.
    target_nodata : tuple of (float or None) or None
        Per band, the value that invalid pixels get in the output; None: no band has one.
    alpha_band : int or None
        The source's alpha band, counted from 1, where `kind` is ``alpha``.
    target_mask : bool
        True: the output has an internal mask.
    dropped_band : int or None
        The alpha band that is no band of the output, counted from 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["nodata", "alpha", "mask", "none"]
    source_nodata: tuple[Number | None, ...] | None = None
    target_nodata: tuple[Number | None, ...] | None = None
    alpha_band: int | None = None
    target_mask: bool = False
    dropped_band: int | None = None

    @property
    def becomes_mask(self) -> bool:
        """Whether nodata or alpha of the source is a mask from the moment that it is read."""
        return self.target_mask and self.kind in ("nodata", "alpha")


class RasterPlan(BaseModel):
    """How one raster becomes COGs: where it is cut, how it is read, warped, encoded, and why.

    Attributes
    ----------
    stem : str
        Output names begin with it.
    options : PlanOptions
        What was asked for.
    structure : Structure
        What inspection found: tasks read the source with it and inspect nothing.
    strategy, reason : str
        ``direct`` or ``two-stage``, and why, in words and numbers.
    source_grid, target_grid : Grid
        Source and target; the same when pixels are copied exactly.
    warp : WarpSpec or None
        None: pixels are copied exactly.
    scales : KernelScales or None
        The kernel's scales, fixed for the whole raster.
    operation : CoordinateOperation or None
        The one coordinate operation of the whole raster.
    validity : Validity
        Nodata, alpha, mask or none.
    resampling, overview_resampling : str
        Kernels of warp and overviews.
    image : CogImage
        The output as ONE COG; `tile_image` gives a tile's.
    work_rows, work_cols : int
        Largest work tile inside an output tile, in pixels; multiples of the block.
    fragments : bool
        Whether each work tile is a task of its own, whose fragments are put together; else an
        output tile is one task.
    pieces : tuple of Window
        Stage 1 of two-stage: rectangles of the source, each read by one task; empty for direct.
    streamed : bool
        Whether each of them is a row of strips too large to hold, which is decoded as a stream.
    piece_codec : BlockCodec
        How a piece's blocks are encoded.
    memory : MemoryEstimate
        Of the largest tile task.
    piece_memory : MemoryEstimate or None
        Of the largest piece task, where there are pieces.
    costs : Costs
        Direct, two-stage and naive.
    gdalwarp : tuple of str
        Commands that give the same pixels.
    warnings : tuple of str
        What a person should know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stem: str
    options: PlanOptions
    structure: Structure
    strategy: Strategy
    reason: str
    source_grid: Grid
    target_grid: Grid
    warp: WarpSpec | None
    scales: KernelScales | None
    operation: CoordinateOperation | None
    validity: Validity
    resampling: str
    overview_resampling: Method
    image: CogImage
    work_rows: int
    work_cols: int
    fragments: bool
    pieces: tuple[Window, ...]
    streamed: bool
    piece_codec: BlockCodec
    memory: MemoryEstimate
    piece_memory: MemoryEstimate | None
    costs: Costs
    gdalwarp: tuple[str, ...]
    warnings: tuple[str, ...]

    @field_serializer("structure", when_used="json")
    def _structure_as_json(self, structure: Structure) -> dict[str, JsonValue]:
        # As text and back: only so do its NaN become what JSON, and PostgreSQL's, can hold.
        found: dict[str, JsonValue] = json.loads(structure.model_dump_json())
        return found

    @cached_property
    def identity(self) -> str:
        """SHA-256 of what decides the bytes of an output tile: not how the work is cut, nor where.

        What was made under one plan may be taken over under any other of the same identity.
        """
        deciding = {
            "stem", "source_grid", "target_grid", "warp", "operation", "validity",
            "overview_resampling", "image", "piece_codec",
        }  # fmt: skip
        memory = {"file": {"decoding_bytes", "pixel_scratch"}}
        source = self.structure.model_dump_json(exclude=memory)
        text = f"{self.tile_size} {source} {self.model_dump_json(include=deciding)}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def copies(self) -> bool:
        """Whether pixels are copied exactly, on the source's grid."""
        return self.warp is None

    @property
    def tile_size(self) -> int:
        """Side of an output tile in pixels."""
        return self.options.tile_size

    @property
    def held_bands(self) -> tuple[int, ...]:
        """The source's bands, counted from 1, in the order in which the warp holds them.

        That is their own order, but for an alpha band that says what is valid, or that is dropped:
        it comes last. The result of the warp has the same order, without a band that is dropped;
        `output_order` brings it back.
        """
        dropped = self.validity.dropped_band
        last = dropped if self.copies else dropped or self.validity.alpha_band
        bands = range(1, self.structure.bands + 1)
        return (*(band for band in bands if band != last), *([last] if last else []))

    @property
    def output_order(self) -> tuple[int, ...]:
        """Indices, from 0, that bring planes in the order of `held_bands` to the output's."""
        held = [band for band in self.held_bands if band != self.validity.dropped_band]
        return tuple(held.index(band) for band in sorted(held))

    @cached_property
    def tiles(self) -> tuple[OutputTile, ...]:
        """All output tiles, row by row."""
        return tuple(output_tiles(self.target_grid, self.tile_size))

    @property
    def tile_rows(self) -> int:
        """Rows of output tiles."""
        return ceil_div(self.target_grid.height, self.tile_size)

    @property
    def tile_cols(self) -> int:
        """Columns of output tiles."""
        return ceil_div(self.target_grid.width, self.tile_size)

    def tile(self, row: int, col: int) -> OutputTile:
        """Return one output tile.

        Parameters
        ----------
        row, col : int
            Its place, counted from 0 at the grid's origin.

        Raises
        ------
        Refused
            There is no such tile.
        """
        if not (0 <= row < self.tile_rows and 0 <= col < self.tile_cols):
            raise Refused(
                f"there is no output tile {tile_label(row, col).replace('_', ' ')}",
                f"the plan has {self.tile_rows} rows of {self.tile_cols}",
            )
        return self.tiles[row * self.tile_cols + col]

    def tile_name(self, row: int, col: int) -> str:
        """Return the file name of the output tile at `row`, `col`."""
        return tile_file_name(self.stem, row, col)

    def tile_image(self, tile: OutputTile) -> CogImage:
        """Return the description of one output tile as a COG of its own."""
        return self.image.model_copy(update={"grid": self.target_grid.window_grid(tile.window)})
