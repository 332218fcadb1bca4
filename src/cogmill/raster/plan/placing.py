"""Where source and target lie on the Earth, and whether pixels have to move at all."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import ValidationError

from cogmill.errors import Refused
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.geometry import seams
from cogmill.raster.geometry.control import (
    LEAST_POINTS,
    Control,
    Elevation,
    Rational,
    control_by_points,
)
from cogmill.raster.geometry.crs import (
    crs_text,
    height_warnings,
    lonlat_area,
    metres_per_unit,
    same_crs,
)
from cogmill.raster.geometry.datums import without_null_shift
from cogmill.raster.geometry.grid import PIXELS, Grid
from cogmill.raster.geometry.target import target_grid
from cogmill.raster.geometry.tiling import tiled_grid, tiling_crs
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.decisions import Notes
from cogmill.raster.warp.coordinate_operation import (
    CoordinateOperation,
    CrsPolicy,
    choose_operation,
)
from cogmill.raster.warp.roundtrip import refuse_folded

#: The system to which rational polynomials lead.
_WGS_84: Final = "EPSG:4326"
#: Grids whose corners differ by less than this part of a pixel are the same grid.
_SAME_CORNER: Final = 1e-6
#: More output tiles than this are a slip of the hand, not a plan.
MOST_TILES: Final = 50_000
_LARGEST_SIDE: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Placement:
    """The grids of source and target, and the operation between them.

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


def place_grids(
    structure: Structure,
    options: PlanOptions,
    notes: Notes,
    like: Grid | None = None,
    ground: Elevation | None = None,
) -> Placement:
    """Return both grids and the operation between them.

    Parameters
    ----------
    structure : Structure
        The source.
    options : PlanOptions
        Target system, resolution, bounds, tiling scheme, source system, operation.
    notes : Notes
        Gets warnings of the operation and the grid.
    like : Grid, optional
        The grid of the raster that ``options.like`` names.
    ground : Elevation, optional
        Of the DEM that ``options.rpc_dem`` names.

    Raises
    ------
    Refused
        No or unknown coordinate system, ground control points only, a grid that is absurd.
    """
    control = _control(structure, options, ground)
    source = _source_grid(structure, options, control)
    if not options.changes_grid:
        _refuse_absurd(source, options)
        return Placement(source, source, None, True, "no grid option was given")
    if control is None and structure.transform is None:
        raise Refused(
            f"nothing in or beside {structure.name} says where its pixels lie, so they cannot be "
            "placed on another grid",
            "give it a geotransform first (gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM INPUT), or "
            "a world file beside it (INPUT.tfw, .tifw or .wld; GDAL does not read .tfwx)",
        )
    if not source.crs:
        raise Refused(
            f"{structure.name} has no coordinate system, so it cannot be placed on another grid",
            "say which one it has with --src-crs, for example --src-crs EPSG:32633",
        )
    src_crs, note = without_null_shift(crs_text(source.crs, "--src-crs"))
    if note is not None:
        notes.warn(note)
    placed = source.model_copy(update={"crs": src_crs})
    dst_crs = _target_crs(placed.crs, options, like)
    operation = None
    if options.coordinate_operation is None and same_crs(placed.crs, dst_crs):
        dst_crs = placed.crs
    else:
        operation = _operation(placed, dst_crs, options)
        for warning in operation.warnings:
            notes.warn(warning)
        for warning in height_warnings(placed.crs, dst_crs):
            notes.warn(warning)
    pipeline = operation.pipeline if operation else None
    target = _target(placed, dst_crs, pipeline, options, like)
    _refuse_absurd(target, options)
    operation = operation or _whole_turns(placed, target)
    refuse_folded(placed, target, pipeline, structure.name)
    if operation is None and control is None and _same_place(source, target):
        return Placement(source, source, None, True, "the target grid is the source's own")
    if operation is not None:
        _say_where_it_ends(placed, target, options, notes)
    return Placement(placed, target, operation, False, _why(options))


def _target_crs(source_crs: str, options: PlanOptions, like: Grid | None) -> str:
    """Return the system of the target as WKT."""
    if like is not None:
        return like.crs
    tiling = options.tiling
    if tiling is None:
        return crs_text(options.dst_crs, "--dst-crs") if options.dst_crs else source_crs
    crs = tiling_crs(tiling)
    if options.dst_crs is not None and not same_crs(crs_text(options.dst_crs, "--dst-crs"), crs):
        raise Refused(
            f"--dst-crs {options.dst_crs} is not the system of the tiling scheme {tiling.scheme}",
            "leave out --dst-crs, or the tiling scheme",
        )
    return crs


def _operation(placed: Grid, dst_crs: str, options: PlanOptions) -> CoordinateOperation:
    operation = choose_operation(
        (placed.crs, dst_crs),
        lonlat_area(placed),
        _pixel_metres(placed),
        CrsPolicy(options.coordinate_operation, options.strict_crs, options.allow_ballpark),
    )
    pipeline = seams.pipeline_around_seam(placed, operation.pipeline)
    if placed.control is None:
        seams.refuse_doubled(placed, dst_crs, pipeline)
    return operation.model_copy(update={"pipeline": pipeline})


def _whole_turns(placed: Grid, target: Grid) -> CoordinateOperation | None:
    """Return what turns longitudes to the source's; gdalwarp does so in one system, too."""
    pipeline = seams.pipeline_of_whole_turns(placed, target)
    if pipeline is None:
        return None
    return CoordinateOperation(pipeline=pipeline, name="whole turns of longitude", accuracy_m=0.0)


def _pixel_metres(placed: Grid) -> float:
    """Return the shorter side of the pixel in the middle of a raster, in metres."""
    col, row = placed.width / 2, placed.height / 2
    xs, ys = placed.position_arrays(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    sides = np.hypot(xs[1:] - xs[0], ys[1:] - ys[0])
    # Sides that vanish beside the coordinates are refused for what they are, not divided by.
    return max(float(sides.min()) * metres_per_unit(placed.crs), sys.float_info.min)


def _target(
    placed: Grid, dst_crs: str, pipeline: str | None, options: PlanOptions, like: Grid | None
) -> Grid:
    if like is not None:
        return like.model_copy(update={"crs": dst_crs})
    tiling = options.tiling
    whole = target_grid(
        placed, dst_crs, pipeline, options.resolution, options.bounds, options.align
    )
    if tiling is None:
        return whole
    if options.bounds is not None:
        # Bounds choose blocks, and must not bend the pixel that chooses the zoom level.
        pixel = target_grid(placed, dst_crs, pipeline).transform[1]
        whole = target_grid(placed, dst_crs, pipeline, (pixel, pixel), options.bounds)
    elif seams.crosses_seam(whole):
        raise Refused(
            f"the raster lies across the edge of the tiling scheme {tiling.scheme}",
            "make one COG for each side of it, with --bounds",
        )
    return tiled_grid(whole, tiling, options.block)[0]


def _say_where_it_ends(placed: Grid, target: Grid, options: PlanOptions, notes: Notes) -> None:
    """Warn of a grid beyond the antimeridian, and of poles that it does not hold."""
    if seams.crosses_seam(target):
        notes.warn(
            "the target grid goes on beyond the antimeridian (180 degrees) so that it is in one "
            "piece; make one output for each side with --bounds where a reader does not take that"
        )
    cut = seams.within_mercator(placed, target.crs)
    if cut.height < placed.height and options.bounds is None:
        notes.warn(
            f"{placed.height - cut.height} rows beyond {seams.MERCATOR_LATITUDE:.2f} degrees of "
            "latitude are left out, for Mercator's projection puts the poles at infinity"
        )


def _control(
    structure: Structure, options: PlanOptions, ground: Elevation | None
) -> Control | None:
    """Return what places the raster in a transform's stead, where that was asked for."""
    if options.gcps is not None:
        if not structure.gcps:
            raise Refused(
                f"{structure.name} has no ground control points, of which --gcps speaks",
                "leave out --gcps",
            )
        return control_by_points(structure.gcps, options.gcps, structure.name)
    option = "--rpc-height" if options.rpc_dem is None else "--rpc-dem"
    if options.rpc_height is not None or options.rpc_dem is not None:
        if structure.rpcs is None:
            raise Refused(
                f"{structure.name} has no whole rational polynomials, of which {option} speaks",
                f"leave out {option}",
            )
        if options.src_crs is not None:
            raise Refused(
                "rational polynomials lead to longitude and latitude on WGS 84, and --src-crs "
                "names a system",
                "leave out --src-crs",
            )
        height = options.rpc_height if ground is None else ground.middle
        if height is None:
            raise ValueError("the ground of --rpc-dem is not known")
        return structure.rpcs.model_copy(update={"height": height, "elevation": ground})
    _refuse_points(structure)
    return None


def _refuse_points(structure: Structure) -> None:
    if structure.transform is not None:
        return
    if 0 < len(structure.gcps) < LEAST_POINTS:
        raise Refused(
            f"{structure.name} has no size of its pixels, and of tie points no more than "
            f"{len(structure.gcps)}",
            "give it a transform first: gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM INPUT",
        )
    if structure.gcps:
        raise Refused(
            f"{structure.name} is placed by {len(structure.gcps)} ground control points alone, "
            "and it must be chosen what is made of them",
            "add --gcps 1 (or 2, 3: polynomials of that order), or --gcps tps (a thin-plate "
            "spline)",
        )
    if structure.rpcs is not None:
        raise Refused(
            f"{structure.name} is placed by rational polynomials alone, and the heights of the "
            "ground are not known",
            "add --rpc-dem DEM.tif, or --rpc-height METRES (above the ellipsoid)",
        )


def _source_grid(structure: Structure, options: PlanOptions, control: Control | None) -> Grid:
    crs = structure.crs or ""
    if control is not None:
        crs = _WGS_84 if isinstance(control, Rational) else structure.gcps_crs or ""
    if options.src_crs:
        crs = crs_text(options.src_crs, "--src-crs")
    try:
        return Grid(
            crs=crs,
            transform=PIXELS if control is not None else structure.transform or PIXELS,
            width=structure.width,
            height=structure.height,
            control=control,
        )
    except ValidationError:
        raise Refused(
            f"the geotransform of {structure.name} places no pixels: {structure.transform}",
            "correct it first, for example with gdal_edit.py -a_ullr, or -unsetgt",
        ) from None


def _refuse_absurd(target: Grid, options: PlanOptions) -> None:
    tiles = ceil_div(target.width, options.tile_size) * ceil_div(target.height, options.tile_size)
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
    return f"{' and '.join(options.grid_named)} asked for another grid"
