"""Preflight, before anything is recorded: inspect the source, check the destination, and plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pydantic import JsonValue

from cogmill.core_machine.contracts import Preflight, Previous
from cogmill.errors import Refused, SourceChanged
from cogmill.job_types.raster_to_cog import places
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.members import MASK_SUFFIX, inspected_vrt
from cogmill.job_types.raster_to_cog.prepared import Prepared
from cogmill.job_types.tools import Tools
from cogmill.raster import gdal
from cogmill.raster.geometry.control import Elevation
from cogmill.raster.geometry.elevation import elevation_of
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.geometry.target import reference_grid
from cogmill.raster.inspect.structure import Structure, inspect_tiff
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan import explain, planning
from cogmill.raster.tiff.magic import is_vrt
from cogmill.storage.location import FILE, Location
from cogmill.storage.store import ObjectInfo, RangeReader
from cogmill.version import VERSION

PLAN_MEMORY = 384 * 2**20
"""What a plan task needs: the process itself and the indexes of earlier stages."""


def engine_text() -> str:
    """Return everything whose version may change a byte, as one canonical text."""
    return json.dumps({"cogmill": VERSION, **gdal.versions()}, sort_keys=True)


def preflight_raster(inputs: Inputs, previous: Previous | None, tools: Tools) -> Preflight:
    """Inspect, check the destination, and plan; see `JobType.preflight`.

    An empty destination asks for the plan alone.
    """
    source = inputs.source
    with gdal.environment(tools.gdal_cache):
        if tools.storage.is_folder(source):
            raise Refused(f"{source} is a folder", "name one raster file in it")
        if tools.storage.info(source) is None:
            raise Refused(f"{source} does not exist", "check the name")
        structure = _inspected(source, inputs.page, tools)
        ground, heights = _ground(inputs, structure, tools)
        contributing = _contributing(source, structure, heights, tools)
        older: dict[Location, str] = {}
        if inputs.destination is not None:
            older = places.check_destination(
                inputs.destination,
                [source, *contributing],
                previous,
                tools,
                overwrite=inputs.overwrite,
            )
        like = _like(inputs, tools)
        options, stem = _options(inputs, tools), _stem(inputs, source)
        whole = inputs.destination is not None and inputs.destination.is_one_cog
        plan = planning.make_plan(structure, options, stem, like, ground, one_cog=whole)
    prepared = Prepared(
        plan=plan,
        contributing=contributing,
        summary=explain.summarize_plan(plan),
        explained=tuple(explain.explain_plan(plan)),
        older=older,
    )
    local = any(
        location.scheme == FILE for location in (*contributing, inputs.destination or source)
    )
    return Preflight(
        source_identity=_identity(contributing, like),
        prepared=prepared.model_dump(mode="json"),
        reach=tools.host if local else "any",
        owns=_owned(inputs, tools),
        plan_memory=min(PLAN_MEMORY, tools.child_memory),
        plan_identity=plan.identity,
        event=explain.plan_event(plan),
    )


def _inspected(source: Location, page: int | None, tools: Tools) -> Structure:
    with opened_source(source, tools) as (data, mask):
        if is_vrt(data):
            return inspected_vrt(source, page, tools)
        path = tools.storage.gdal_address(source).path
        if path is None:
            raise Refused(f"GDAL cannot open {source}", "copy the file to disk first")
        return inspect_tiff(data, path, mask, page)


def _like(inputs: Inputs, tools: Tools) -> Grid | None:
    """Return the grid of the raster that ``--like`` names."""
    if inputs.like is None:
        return None
    return reference_grid(_path(inputs.like, "--like", tools), inputs.like)


def _ground(
    inputs: Inputs, structure: Structure, tools: Tools
) -> tuple[Elevation | None, tuple[str, ...]]:
    """Return the heights of the DEM that ``--rpc-dem`` names, and its files."""
    if inputs.rpc_dem is None or structure.rpcs is None:
        return None, ()
    size = structure.width, structure.height
    path = _path(inputs.rpc_dem, "--rpc-dem", tools)
    return elevation_of(path, inputs.rpc_dem, structure.rpcs, size)


def _path(place: str, option: str, tools: Tools) -> str:
    """Return a raster that an option names as GDAL opens it."""
    location = Location.parse(place)
    if tools.storage.info(location) is None:
        raise Refused(f"{location} does not exist", f"check the name that {option} was given")
    path = tools.storage.gdal_address(location).path
    if path is None:
        raise Refused(f"GDAL cannot open {location}", "copy the file to disk first")
    return path


def _identity(contributing: dict[Location, str], like: Grid | None) -> str:
    """Return who the source is; a reference counts by its grid, whatever else is written to it."""
    known: dict[str, JsonValue] = {str(name): version for name, version in contributing.items()}
    if like is not None:
        known["--like"] = like.model_dump(mode="json")
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _owned(inputs: Inputs, tools: Tools) -> str | None:
    """Return the destination by the name that all ways to it share, links followed."""
    if inputs.destination is None:
        return None
    return str(tools.storage.canonical(inputs.destination))


@contextmanager
def opened_source(
    source: Location, tools: Tools
) -> Iterator[tuple[RangeReader, RangeReader | None]]:
    """Open the raster, and the mask beside it where there is one."""
    with ExitStack() as files:
        data = files.enter_context(tools.storage.open(source))
        beside = _mask_of(source)
        mask = None
        if tools.storage.info(beside) is not None:
            mask = files.enter_context(tools.storage.open(beside))
        yield data, mask


@contextmanager
def opened_as_planned(
    source: Location, prepared: Prepared, tools: Tools
) -> Iterator[tuple[RangeReader, RangeReader | None]]:
    """Open the raster as it was planned.

    Raises
    ------
    SourceChanged
        A contributing file is another one now.
    """
    for location in prepared.contributing:
        _demand_planned(tools.storage.info(location), location, prepared)
    with ExitStack() as files:
        data = files.enter_context(tools.storage.open(source))
        # Of what was opened: the name may have got another file since it was asked about.
        _demand_planned(data.info, source, prepared)
        mask = None
        if prepared.plan.structure.mask_source == "sidecar":
            mask = files.enter_context(tools.storage.open(_mask_of(source)))
            _demand_planned(mask.info, _mask_of(source), prepared)
        yield data, mask
        # A file that was written in place while it was read shows only now.
        for location in prepared.contributing:
            _demand_planned(tools.storage.info(location), location, prepared)


def _demand_planned(info: ObjectInfo | None, name: Location, prepared: Prepared) -> None:
    if info is None or info.version != prepared.contributing[name]:
        raise SourceChanged(
            f"{name} changed while the job ran" if info else f"{name} is gone",
            "run the job again for the new source",
        )


def _mask_of(source: Location) -> Location:
    return source.parent.join(source.name + MASK_SUFFIX)


def _contributing(
    source: Location, structure: Structure, heights: tuple[str, ...], tools: Tools
) -> dict[Location, str]:
    found: dict[Location, str] = {}
    names = {str(source), *structure.contributing_files, *heights}
    if structure.mask_source == "sidecar":
        names.add(str(_mask_of(source)))
    for name in names:
        location = Location.parse(name)
        info = tools.storage.info(location)
        if info is None:
            raise SourceChanged(f"{location} vanished while it was inspected", "try again")
        found[location] = info.version
    return dict(sorted(found.items()))


def _options(inputs: Inputs, tools: Tools) -> PlanOptions:
    named = {name: getattr(inputs, name) for name in PlanOptions.model_fields}
    return PlanOptions(**{**named, "memory": tools.child_memory, "workers": tools.workers})


def _stem(inputs: Inputs, source: Location) -> str:
    destination = inputs.destination or source
    return destination.stem if destination.is_one_cog else source.stem
