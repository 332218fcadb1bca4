"""One structure and the user's options become one plan.

Nothing is read of the raster: PROJ is asked for the grids and the coordinate operation, and GDAL
for the grid that gdalwarp would choose and the tags that a GeoTIFF can hold.

Each part of a plan has a module: `placing` (grids), `decisions` (validity, kernels, codec),
`cutting` and `reads` (geometry), `fitting` (memory), `costs`, `choosing` (the strategy, and why),
`raster_plan` (the result), `explain` and `plot` (for people).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from cogmill.errors import Refused
from cogmill.raster.codecs.block_codec import BlockCodec
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.tags import image_tags
from cogmill.raster.geometry.control import Elevation
from cogmill.raster.geometry.crs import lattice, transform_points
from cogmill.raster.geometry.grid import Grid, OutputTile, Window
from cogmill.raster.inspect.structure import Structure, page_address
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.choosing import choose_strategy
from cogmill.raster.plan.decisions import (
    Notes,
    at_overview,
    decide_codec,
    decide_colors,
    decide_overview_resampling,
    decide_resampling,
    decide_validity,
    lossy_validity,
    overview_for,
)
from cogmill.raster.plan.demands import Workload
from cogmill.raster.plan.placing import Placement, place_grids
from cogmill.raster.plan.raster_plan import RasterPlan, Validity
from cogmill.raster.plan.reads import (
    WorkRead,
    WorkSize,
    piece_codec_of,
    window_reads,
)
from cogmill.raster.tiff.pages import ReducedImage
from cogmill.raster.warp.commands import gdalwarp_commands
from cogmill.raster.warp.footprint import source_window
from cogmill.raster.warp.roundtrip import leaves_projection
from cogmill.raster.warp.scales import kernel_scales
from cogmill.raster.warp.warp_spec import KernelScales, WarpSpec

#: A scale from which on nearest leaves out most pixels.
_SKIPPED: Final = 0.5
#: Points along each side of a source whose outline is told in the target's system.
_OUTLINE_SIDE: Final = 33


def make_plan(
    structure: Structure,
    options: PlanOptions,
    stem: str,
    like: Grid | None = None,
    ground: Elevation | None = None,
    *,
    one_cog: bool = False,
) -> RasterPlan:
    """Return how one raster becomes COGs.

    Parameters
    ----------
    structure : Structure
        What inspection found.
    options : PlanOptions
        What the user asked for; `memory` is what one of `workers` children may use. Where that is
        too little and fewer may share it, the plan's own options say how many.
    stem : str
        Output names begin with it.
    like : Grid, optional
        The grid of the raster that ``options.like`` names.
    ground : Elevation, optional
        Of the DEM that ``options.rpc_dem`` names.
    one_cog : bool
        Whether the output tiles become ONE COG, whose upper levels must fit the memory too.

    Returns
    -------
    RasterPlan
        The same for the same arguments and the same PROJ data.

    Raises
    ------
    Refused
        The raster cannot be placed, the options contradict it, or nothing fits the memory.
    """
    notes = Notes()
    _warn_left_behind(structure, notes)
    placement = place_grids(structure, options, notes, like, ground)
    _warn_of_points(structure, placement, notes)
    codec = decide_codec(structure, options)
    validity = decide_validity(structure, options, not placement.copies, notes)
    validity = lossy_validity(structure, validity, codec, notes)
    image = _image(structure, placement.target, (validity, codec), notes)
    image_tags(image)  # Refuses what a GeoTIFF cannot say, before any work is done.
    kernel = None if placement.copies else decide_resampling(structure, options, notes)
    spec, scales = _warp(structure, placement, validity, kernel)
    overview = None
    by_points = placement.source.control is not None  # whose pixels are those of the raster itself
    if kernel is not None and scales is not None and options.ovr == "auto" and not by_points:
        overview = overview_for(structure, kernel, scales)
    if overview is not None:
        notes.warn(_instead(structure, overview))
        structure = at_overview(structure, overview)
        placement = replace(placement, source=_on(structure, placement.source))
        spec, scales = _warp(structure, placement, validity, kernel)
    _refuse_elsewhere(options, spec)
    _warn_of_the_warp(structure, options, spec, notes)
    _warn_of_scales(kernel, scales, notes)
    choice = choose_strategy(
        Workload(structure, options, placement.target, spec, image, kernel, one_cog)
    )
    if choice.warning:
        notes.warn(choice.warning)
    return RasterPlan(
        stem=stem,
        options=choice.options,
        structure=structure,
        strategy=choice.strategy,
        reason=f"{_begin(placement)}; {choice.strategy}, for {choice.reason}",
        source_grid=placement.source,
        target_grid=placement.target,
        warp=spec,
        scales=scales,
        operation=placement.operation,
        validity=validity,
        resampling=kernel or "nearest",
        overview_resampling=decide_overview_resampling(structure, options),
        image=image,
        work_rows=choice.fitted.size.rows,
        work_cols=choice.fitted.size.cols,
        fragments=choice.fitted.fragments,
        pieces=choice.fitted.pieces,
        streamed=choice.fitted.streamed,
        piece_codec=piece_codec_of(structure),
        memory=choice.fitted.memory,
        piece_memory=choice.fitted.piece_memory,
        costs=choice.costs,
        gdalwarp=_commands(spec, structure, validity),
        warnings=tuple(notes.warnings),
    )


def tile_reads(plan: RasterPlan, tile: OutputTile) -> tuple[WorkRead, ...]:
    """Return the work tiles of an output tile, each with the source window that it reads.

    The plan counts with it and the task works by it, so what is predicted is what is done.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    tile : OutputTile
        One of ``plan.tiles``.

    Returns
    -------
    tuple of (Window, Window or None)
        Work tile on the target grid and window of the source, None where it touches none; row by
        row, so that those with the same ``row_off`` together complete their rows of the tile.
    """
    size = WorkSize(plan.work_rows, plan.work_cols, plan.options.block)
    return window_reads(plan.warp, tile.window, size)


def work_read(plan: RasterPlan, work: Window) -> WorkRead:
    """Return a fragment, and the source window that it reads.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    work : Window
        The fragment on the target grid.
    """
    (read,) = window_reads(plan.warp, work, WorkSize(work.height, work.width, plan.options.block))
    return read


def _commands(spec: WarpSpec | None, structure: Structure, validity: Validity) -> tuple[str, ...]:
    """Return the gdalwarp commands that give the same pixels, where there are any.

    There are none where values are made a mask first; of one of several images of a file, GDAL sees
    neither mask nor overviews.
    """
    if spec is None or validity.becomes_mask or validity.dropped_band is not None:
        return ()
    hidden = structure.mask is not None or structure.read_overview is not None
    if structure.page is not None and hidden:
        return ()
    source = page_address(structure.name, structure.page)
    return gdalwarp_commands(spec, source, structure.read_overview)


def _instead(structure: Structure, overview: ReducedImage) -> str:
    image = overview.image
    return (
        f"the target is coarser, so the overview of {image.width} x {image.height} pixels is read "
        f"in place of {structure.width} x {structure.height}; --ovr none reads all of them"
    )


def _on(structure: Structure, grid: Grid) -> Grid:
    """Return the source's grid with the pixels of an overview."""
    update = {"width": structure.width, "height": structure.height}
    return grid.model_copy(update={**update, "transform": structure.transform or grid.transform})


def _begin(placement: Placement) -> str:
    done = "pixels are copied exactly" if placement.copies else "pixels are reprojected"
    return f"{done}, for {placement.why}"


def _image(
    structure: Structure, grid: Grid, decided: tuple[Validity, BlockCodec], notes: Notes
) -> CogImage:
    validity, codec = decided
    bands = [n for n in range(1, structure.bands + 1) if n != validity.dropped_band]

    def of_bands(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[band - 1] for band in bands) if values else ()

    return CogImage(
        grid=grid,
        bands=len(bands),
        codec=codec,
        interleave="pixel" if codec.samples == len(bands) else "band",
        nodata=validity.target_nodata,
        has_mask=validity.target_mask,
        color_interpretation=decide_colors(structure, codec, bands, notes),
        palette=structure.palette,
        scales=of_bands(structure.scales),
        offsets=of_bands(structure.offsets),
        units=of_bands(structure.units),
        descriptions=of_bands(structure.descriptions),
        tags=structure.tags,
        band_tags=of_bands(structure.band_tags),
        white_is_zero=structure.white_is_zero and structure.palette is None,
        area_or_point="Point" if structure.area_or_point == "Point" else "Area",
    )


def _refuse_elsewhere(options: PlanOptions, spec: WarpSpec | None) -> None:
    """Refuse a grid in which there is nothing of the source: a result of no file helps nobody."""
    if (options.bounds or options.like) is None or spec is None:
        return
    if source_window(spec, spec.target.window) is not None:
        return
    if options.bounds is None:
        raise Refused(
            f"the grid of {options.like} does not touch the source", "name another with --like"
        )
    given = " ".join(f"{each:g}" for each in options.bounds)
    raise Refused(
        f"--bounds {given} does not touch the source",
        f"give bounds in units of the target's coordinate system{_where_it_lies(spec)}",
    )


def _where_it_lies(spec: WarpSpec) -> str:
    """Return where the source lies in the target's system, as far as its outline has places."""
    cols, rows = lattice((0, 0, spec.source.width, spec.source.height), _OUTLINE_SIDE)
    xs, ys = spec.source.position_arrays(cols, rows)
    if spec.coordinate_operation is not None:
        xs, ys = transform_points(spec.ends, spec.coordinate_operation, xs, ys)
    found = np.isfinite(xs) & np.isfinite(ys)
    if not found.any():
        return ""
    sides = xs[found].min(), ys[found].min(), xs[found].max(), ys[found].max()
    return f"; there it lies within {' '.join(f'{side:g}' for side in sides)}"


def _warn_left_behind(structure: Structure, notes: Notes) -> None:
    if structure.tag_domains:
        notes.warn(f"metadata of {', '.join(structure.tag_domains)} is not carried over")
    if structure.image.subsampled:
        notes.warn(
            "the JPEG's subsampled colours are made whole by libjpeg-turbo; "
            "other decoders differ by a few levels"
        )
    if structure.premultiplied:
        notes.warn("colours are multiplied by the alpha band, and the output will not say so")
    if structure.white_is_zero and structure.palette is None:
        notes.warn("0 is white (MinIsWhite): the COGs say so, the index of a mosaic cannot")
    if structure.categories:
        notes.warn("category names and attributes of values are not carried over")


def _warn_of_points(structure: Structure, placement: Placement, notes: Notes) -> None:
    if placement.source.control is not None:
        return
    if structure.transform is not None and (structure.gcps or structure.rpcs):
        notes.warn("ground control points and rational polynomials are not carried over")


def _warn_of_the_warp(
    structure: Structure, options: PlanOptions, spec: WarpSpec | None, notes: Notes
) -> None:
    if spec is not None and structure.dtype in ("int64", "uint64"):
        notes.warn("GDAL warps 64-bit integers as floats: those beyond 2^52 are rounded")
    for name, value in (
        ("--resampling", options.resampling),
        ("--coordinate-operation", options.coordinate_operation),
    ):
        if spec is None and value is not None:
            notes.warn(f"{name} is not used, for pixels are copied where they are")


def _warn_of_scales(kernel: str | None, scales: KernelScales | None, notes: Notes) -> None:
    if scales is None:
        return
    if kernel == "nearest" and scales.median <= _SKIPPED:
        notes.warn(
            f"the target is coarser, and nearest takes one source pixel of "
            f"{scales.median**-2:.0f}; --resampling average (mode for classes) takes all of them"
        )
    elif scales.uneven:
        notes.warn(
            f"the kernel is made for the median scale {scales.median:.3g}, and some place has "
            f"{scales.minimum:.3g}: detail there is sampled, not averaged"
        )


def _warp(
    structure: Structure, placement: Placement, validity: Validity, kernel: str | None
) -> tuple[WarpSpec | None, KernelScales | None]:
    """Return how pixels are moved, with the kernel's scales fixed; None where they are copied."""
    if kernel is None:
        return None, None
    # What becomes a mask is one before the warp.
    by_values = not validity.becomes_mask
    spec = WarpSpec(
        source=placement.source,
        target=placement.target,
        resampling=kernel,
        coordinate_operation=placement.operation.pipeline if placement.operation else None,
        dtype=structure.dtype,
        bands=structure.bands - bool(validity.alpha_band or validity.dropped_band),
        source_nodata=validity.source_nodata if by_values else None,
        target_nodata=validity.target_nodata,
        source_alpha=validity.kind == "alpha" and by_values,
        source_mask=validity.kind == "mask" or not by_values,
        target_mask=validity.target_mask,
    )
    scales = kernel_scales(spec)
    fixed = {
        "xscale": scales.xscale,
        "yscale": scales.yscale,
        "within_projection": leaves_projection(spec),
    }
    return spec.model_copy(update=fixed), scales
