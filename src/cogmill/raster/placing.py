"""Where source and target lie on the Earth, and whether pixels have to move at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from cogmill.errors import Refused
from cogmill.raster.decisions import Notes
from cogmill.raster.geodesy import (
    CoordinateOperation,
    choose_operation,
    crs_text,
    footprint,
    same_crs,
)
from cogmill.raster.grid import Grid
from cogmill.raster.options import PlanOptions
from cogmill.raster.structure import Structure
from cogmill.raster.target import target_grid

#: A raster without a transform: its pixels are its coordinates.
_PIXELS: Final = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
#: Grids whose corners differ by less than this part of a pixel are the same grid.
_SAME_CORNER: Final = 1e-6
#: More output tiles than this are a slip of the hand, not a plan.
MOST_TILES: Final = 50_000
_LARGEST_SIDE: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Placement:
    """Both grids of a job.

    Attributes
    ----------
    source, target : Grid
        The same where pixels are copied.
    operation : CoordinateOperation or None
        None where source and target share a coordinate system.
    copies : bool
        True: pixels are copied exactly.
    why : str
        Why they are copied or moved, in words.
    """

    source: Grid
    target: Grid
    operation: CoordinateOperation | None
    copies: bool
    why: str


def place(structure: Structure, options: PlanOptions, notes: Notes) -> Placement:
    """Return both grids and the operation between them.

    Parameters
    ----------
    structure : Structure
        The source.
    options : PlanOptions
        Target system, resolution, bounds, source system, operation.
    notes : Notes
        Gets the operation's warnings.

    Raises
    ------
    Refused
        No or unknown coordinate system, ground control points only, a grid that is absurd.
    """
    _refuse_points(structure)
    source = _source_grid(structure, options)
    if not options.changes_grid:
        return Placement(source, source, None, True, "no grid option was given")
    if not source.crs:
        raise Refused(
            f"{structure.name} has no coordinate system, so it cannot be placed on another grid",
            "say which one it has with --src-crs, for example --src-crs EPSG:32633",
        )
    placed = source.model_copy(update={"crs": crs_text(source.crs, "--src-crs")})
    dst_crs = crs_text(options.dst_crs, "--dst-crs") if options.dst_crs else placed.crs
    operation = None
    if options.coordinate_operation is None and same_crs(placed.crs, dst_crs):
        dst_crs = placed.crs
    else:
        operation = choose_operation(
            placed.crs,
            dst_crs,
            footprint(placed),
            options.coordinate_operation,
            options.strict_crs,
        )
        for warning in operation.warnings:
            notes.warn(warning)
    pipeline = operation.pipeline if operation else None
    target = target_grid(placed, dst_crs, pipeline, options.resolution, options.bounds)
    _refuse_absurd(target, options)
    if operation is None and _same_place(source, target):
        return Placement(source, source, None, True, "the target grid is the source's own")
    return Placement(placed, target, operation, False, _why(options))


def _refuse_points(structure: Structure) -> None:
    if structure.transform is not None:
        return
    for present, what, flag in (
        (structure.gcps > 0, f"{structure.gcps} ground control points", ""),
        (structure.rpcs, "rational polynomials", " -rpc"),
    ):
        if present:
            raise Refused(
                f"{structure.name} is placed by {what} alone, which is not supported yet",
                f"rectify it first: gdalwarp{flag} -t_srs EPSG:4326 INPUT OUTPUT.tif",
            )


def _source_grid(structure: Structure, options: PlanOptions) -> Grid:
    crs = crs_text(options.src_crs, "--src-crs") if options.src_crs else structure.crs or ""
    try:
        return Grid(
            crs=crs,
            transform=structure.transform or _PIXELS,
            width=structure.width,
            height=structure.height,
        )
    except ValidationError:
        raise Refused(
            f"the geotransform of {structure.name} places no pixels: {structure.transform}",
            "correct it first, for example with gdal_edit.py -a_ullr, or -unsetgt",
        ) from None


def _refuse_absurd(target: Grid, options: PlanOptions) -> None:
    tiles = -(-target.width // options.tile_size) * -(-target.height // options.tile_size)
    if max(target.width, target.height) > _LARGEST_SIDE or tiles > MOST_TILES:
        raise Refused(
            f"the target grid would have {target.width} x {target.height} pixels, "
            f"{tiles} output tiles",
            "give a coarser --resolution, smaller --bounds or a larger --tile-size",
        )


def _same_place(source: Grid, target: Grid) -> bool:
    """Return whether two grids of one system put every pixel at the same place."""
    if (source.width, source.height) != (target.width, target.height):
        return False
    _, dx, rx, _, ry, dy = source.transform
    pixel = min(abs(dx) + abs(rx), abs(ry) + abs(dy))
    corners = [(0, 0), (source.width, 0), (0, source.height), (source.width, source.height)]
    for col, row in corners:
        (x, y), (u, v) = source.position(col, row), target.position(col, row)
        if max(abs(x - u), abs(y - v)) > _SAME_CORNER * pixel:
            return False
    return True


def _why(options: PlanOptions) -> str:
    named = [
        name
        for name, value in (
            ("--dst-crs", options.dst_crs),
            ("--resolution", options.resolution),
            ("--bounds", options.bounds),
        )
        if value is not None
    ]
    return f"{' and '.join(named)} asked for another grid"
