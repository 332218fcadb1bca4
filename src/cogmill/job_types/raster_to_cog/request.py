"""What a person asks for, as the inputs of raster-to-cog, and what the plan says that it takes.

Parents call it: it opens no raster and loads no GDAL.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final

from pydantic import JsonValue

from cogmill.errors import Refused
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.plan_summary import PlanSummary
from cogmill.settings import PARENT_MEMORY, Settings
from cogmill.storage.location import Location
from cogmill.storage.store import Storage

#: Endings of raster formats that people convert to, and that are no ending of one COG.
_OTHER_FORMATS: Final = frozenset(
    [
        ".vrt",
        ".jp2",
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".img",
        ".nc",
        ".hdf",
        ".h5",
        ".gpkg",
        ".mbtiles",
        ".asc",
        ".bil",
        ".dem",
        ".ecw",
        ".sid",
        ".grd",
        # Not endings of one COG here: it would be a folder all the same.
        ".gtiff",
        ".gtif",
        ".cog",
    ]
)


def raster_inputs(
    source: str,
    destination: str | None,
    options: Mapping[str, Any],
    storage: Storage,
    *,
    overwrite: bool = False,
) -> Inputs:
    """Return validated inputs with absolute locations.

    Parameters
    ----------
    source, destination : str
        As typed: relative to the current folder or absolute. No destination asks for a plan alone.
    options : mapping
        Fields of `PlanOptions`; None means not given.

    Raises
    ------
    Refused
        A location or an option is wrong.
    """
    given = {name: value for name, value in options.items() if value is not None}
    # Before the locations: a typing error is told even where the disk does not answer.
    checked = PlanOptions.parse(given)
    asked = {name: getattr(checked, name) for name in PlanOptions.model_fields}
    target = None if destination is None else Location.parse(destination)
    if target is not None:
        _refuse_other_format(target)
    return Inputs(
        **{**asked, "like": _absolute(checked.like), "rpc_dem": _absolute(checked.rpc_dem)},
        source=Location.parse(source),
        destination=None if target is None else storage.resolve_destination(target),
        overwrite=overwrite,
    )


def _refuse_other_format(target: Location) -> None:
    """Refuse a folder that is named like a file of a raster format: it is hardly meant."""
    suffix = posixpath.splitext(target.name)[1].lower()
    if not target.is_collection and suffix in _OTHER_FORMATS:
        raise Refused(
            f"{target} is named like a raster of another format; one COG ends in .tif or .tiff",
            f"write {target.parent.join(target.stem)}.tif for one COG, or {target}/ for a folder "
            "of tiles with a mosaic.vrt",
        )


def _absolute(place: str | None) -> str | None:
    return None if place is None else str(Location.parse(place))


def plan_summary(prepared: JsonValue) -> PlanSummary | None:
    """Return what preflight prepared for people's programs; None for other job types."""
    match prepared:
        case {"summary": dict(summary)}:
            return PlanSummary.model_validate(summary)
    return None


def stage_pixels(summary: PlanSummary | None) -> dict[str, float]:
    """Return the pixels that each stage works through, by its name; none for other job types."""
    if summary is None:
        return {}
    pixels: dict[str, float] = {"tiles": summary.target_grid.width * summary.target_grid.height}
    if summary.strategy == "two-stage":
        pixels["pieces"] = summary.structure.width * summary.structure.height
    return pixels


def largest_task(prepared: JsonValue) -> int:
    """Return what the largest task of a job was predicted to need in bytes; 0 where none says."""
    summary = plan_summary(prepared)
    return 0 if summary is None else summary.cost[summary.strategy].peak_memory_bytes


def most_children(settings: Settings, prepared: JsonValue) -> int:
    """Return how many children may work at once on tasks as large as the job's largest.

    See `widest_stage` for how many find work: of several jobs, each brings some.

    Parameters
    ----------
    settings : Settings
        How much memory there is, and how many children at most.
    prepared : JSON
        What preflight prepared for the job.
    """
    needed = largest_task(prepared)
    if not needed:
        return settings.workers
    return min(settings.workers, max((settings.memory - PARENT_MEMORY) // needed, 1))


def widest_stage(prepared: JsonValue) -> int | None:
    """Return how many tasks of a job can run at once at most; None where the plan does not say.

    Parameters
    ----------
    prepared : JSON
        What preflight prepared for the job.
    """
    summary = plan_summary(prepared)
    if summary is None or summary.tiles.fragments:
        return None
    pieces = summary.tiles.pieces if summary.strategy == "two-stage" else 0
    return max(summary.tiles.output, pieces, 1)
