"""Publishing commits what tasks have staged, what names the result last; clean-up undoes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from cogmill.catalogue.manifest import MANIFEST_NAME, Manifest, ManifestFile, ResultGrid
from cogmill.catalogue.mosaic import (
    GEOJSON_NAME,
    VRT_NAME,
    MosaicBand,
    MosaicIndex,
    MosaicTile,
    TileOutline,
    mosaic_geojson,
    mosaic_vrt,
)
from cogmill.core_machine.contracts import JobView
from cogmill.errors import VerificationFailed
from cogmill.job_types.raster_to_cog import places
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.outputs import OutputFile, Outputs
from cogmill.job_types.raster_to_cog.pixel_tasks import joined_tiles
from cogmill.job_types.raster_to_cog.prepared import plan_of, prepared_of
from cogmill.job_types.raster_to_cog.results import Publication, TileResult
from cogmill.job_types.tools import Tools
from cogmill.raster import gdal
from cogmill.raster.cog.fragments import ASSEMBLED_LEVELS
from cogmill.raster.cog.joining import one_cog
from cogmill.raster.cog.tags import wanted_items
from cogmill.raster.cog.tile_encoding import TILE_OVERVIEWS
from cogmill.raster.cog.verify import verify_cog_header, verify_levels
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.outline import window_outline
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedObject, Tally


def publish_outputs(job: JobView[Inputs], shared: Publication, tools: Tools) -> Outputs:
    """Make the result visible; see `PublishTask`."""
    target = job.inputs.target
    plan = plan_of(job)
    with gdal.environment(tools.gdal_cache):
        if target.is_collection:
            staged = _publish_mosaic(job, plan, shared.tiles, tools)
        else:
            staged = [_publish_one_cog(job, plan, shared, tools)]
    main = target.join(VRT_NAME) if target.is_collection else target
    return Outputs(
        main=main,
        files=tuple(
            OutputFile(
                location=entry.final,
                size=entry.size,
                sha256=entry.sha256,
                version=_version(entry.final, tools),
            )
            for entry in staged
        ),
        empty_tiles=sum(tile.staged is None for tile in shared.tiles),
        counted=shared.counted,
        pieces_counted=shared.pieces_counted,
    )


def outputs_intact(outputs: Outputs, tools: Tools) -> bool:
    """Whether every output is there as it was written; one that was touched is read to tell."""
    for file in outputs.files:
        staged = StagedObject(final=file.location, handle="-", size=file.size, sha256=file.sha256)
        if _version(staged.final, tools) != file.version and not _holds(staged, tools):
            return False
    return True


def _version(location: Location, tools: Tools) -> str:
    info = tools.storage.info(location)
    return "" if info is None else info.version


def clean_up(job: JobView[Inputs], successful: bool, tools: Tools) -> None:
    """Remove the staging areas; after a failure, withdraw what a cut-off publish had made."""
    target = job.inputs.target
    area = places.final_area(target, job.id)
    if not successful:
        for staged in reversed(places.read_publish_record(area, tools)):
            tools.storage.abort(staged)
            if _holds(staged, tools):
                tools.storage.delete(staged.final)
    tools.storage.delete_prefix(places.intermediate_area(target, job.id, tools))
    tools.storage.delete_prefix(area)


def _holds(staged: StagedObject, tools: Tools) -> bool:
    """Whether the final name holds the very bytes that this job wrote."""
    info = tools.storage.info(staged.final)
    if info is None or info.size != staged.size:
        return False
    tally = Tally()
    with tools.storage.open(staged.final) as reader:
        for first in range(0, staged.size, _CHUNK):
            length = min(_CHUNK, staged.size - first)
            tally.add(reader.read_ranges([(first, length)])[0])
    return tally.matches(staged)


def _publish_mosaic(
    job: JobView[Inputs], plan: RasterPlan, tiles: Sequence[TileResult], tools: Tools
) -> list[StagedObject]:
    target = job.inputs.target
    area = places.final_area(target, job.id)
    written = {(tile.row, tile.col): tile.staged for tile in tiles if tile.staged is not None}

    def stage(name: str, data: bytes) -> StagedObject:
        return tools.storage.stage(target.join(name), [data], area)

    assembled = {(tile.row, tile.col) for tile in tiles if tile.assembled}
    windows = {staged.final.name: plan.tile(*place).window for place, staged in written.items()}
    indexes = _indexes(plan, windows, stage)
    manifest = Manifest(
        kind="mosaic",
        grid=_grid(plan),
        tile_size=plan.tile_size,
        files=(
            *(_entry(staged, windows[staged.final.name]) for staged in written.values()),
            *(_entry(staged, None) for staged in indexes),
        ),
        empty_tiles=len(tiles) - len(written),
    )
    everything = [*written.values(), stage(MANIFEST_NAME, manifest.to_bytes()), *indexes]
    places.write_publish_record(area, everything, tools)
    # A zombie that wakes behind its successor finds its own manifest, and must leave it there.
    if not _holds(everything[len(written)], tools):
        _withdraw_older(job, everything, everything[len(written) :], tools)
    for place, staged in written.items():
        tools.storage.commit(staged)
        path = tools.storage.gdal_address(staged.final).path
        if path is not None:
            image = plan.tile_image(plan.tile(*place))
            verify_cog_header(path, image, TILE_OVERVIEWS)
            if place in assembled:
                verify_levels(path, image, ASSEMBLED_LEVELS)
    for staged in everything[len(written) :]:
        tools.storage.commit(staged)
    return sorted(everything, key=lambda staged: str(staged.final))


def _withdraw_older(
    job: JobView[Inputs], made: list[StagedObject], indexes: list[StagedObject], tools: Tools
) -> None:
    """Remove what names an older result, since tiles change next, then what is not made again."""
    for index in reversed(indexes):
        tools.storage.delete(index.final)
    again = {staged.final for staged in made}
    for name, version in prepared_of(job).older.items():
        info = None if name in again else tools.storage.info(name)
        if info is not None and info.version == version:
            tools.storage.delete(info.location)


def _publish_one_cog(
    job: JobView[Inputs], plan: RasterPlan, shared: Publication, tools: Tools
) -> StagedObject:
    target = job.inputs.target
    area = places.final_area(target, job.id)
    (overviews,) = shared.overviews
    # Those of a tile were proved with its pixels, but for one that was put together.
    proved = 0 if any(tile.assembled for tile in shared.tiles) else TILE_OVERVIEWS
    with (
        joined_tiles(plan, shared.tiles, tools) as parts,
        tools.storage.open(overviews.staged.final) as reader,
    ):
        cog = one_cog(
            parts,
            overviews.blocks,
            lambda offset, length: reader.read_ranges([(offset, length)])[0],
        )
        staged = tools.storage.stage(target, cog.chunks(), area)
    places.write_publish_record(area, [staged], tools)
    tools.storage.commit(staged)
    path = tools.storage.gdal_address(target).path
    if path is not None:
        try:
            verify_cog_header(path, plan.image, len(cog.levels) - 1)
            verify_levels(path, plan.image, range(proved + 1, len(cog.levels)))
        except VerificationFailed:
            tools.storage.delete(target)
            raise
    return staged


def _indexes(
    plan: RasterPlan, windows: dict[str, Window], stage: Callable[[str, bytes], StagedObject]
) -> list[StagedObject]:
    image = plan.image
    nodata = image.nodata_value
    if nodata is None and len(windows) < len(plan.tiles) and np.isnan(image.fill):
        # Every pixel of a tile that was not written was NaN; else the VRT would show 0 there.
        nodata = math.nan
    bands = tuple(
        MosaicBand(
            dtype=image.dtype,
            color_interpretation=image.color_interpretation[band]
            if image.color_interpretation
            else "undefined",
            nodata=nodata,
            scale=image.scales[band] if image.scales else 1.0,
            offset=image.offsets[band] if image.offsets else 0.0,
            unit=(image.units[band] or "") if image.units else "",
            description=(image.descriptions[band] or "") if image.descriptions else "",
            tags=wanted_items(image.band_tags[band]) if image.band_tags else {},
        )
        for band in range(image.bands)
    )
    index = MosaicIndex(
        grid=_grid(plan),
        bands=bands,
        tiles=tuple(
            MosaicTile(name=name, window=window.rectangle) for name, window in windows.items()
        ),
        block=image.block,
        overview_factors=tuple(2**level for level in range(1, TILE_OVERVIEWS + 1)),
        has_mask=image.has_mask,
        palette=image.palette,
        tags={**wanted_items(image.tags), "AREA_OR_POINT": image.area_or_point},
    )
    staged = [stage(VRT_NAME, mosaic_vrt(index))]
    if plan.target_grid.crs:
        outlines = [
            TileOutline(name=name, outline=window_outline(plan.target_grid, window))
            for name, window in windows.items()
        ]
        staged.append(stage(GEOJSON_NAME, mosaic_geojson(outlines)))
    return staged


def _grid(plan: RasterPlan) -> ResultGrid:
    grid = plan.target_grid
    return ResultGrid(
        crs=grid.crs or None, transform=grid.transform, width=grid.width, height=grid.height
    )


def _entry(staged: StagedObject, window: Window | None) -> ManifestFile:
    return ManifestFile(
        name=staged.final.name,
        size=staged.size,
        sha256=staged.sha256,
        window=None if window is None else window.rectangle,
    )


_CHUNK = 8 << 20
