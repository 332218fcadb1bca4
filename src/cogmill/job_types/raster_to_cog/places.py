"""Where a job writes: its staging areas, its final names, and what else lies there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pydantic import JsonValue

from cogmill.catalogue.manifest import MANIFEST_NAME, parse_manifest
from cogmill.core_machine.contracts import JobView, Previous
from cogmill.errors import DestinationTaken, Refused
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.outputs import Outputs
from cogmill.job_types.tools import Tools
from cogmill.raster.tile_names import tile_file_name
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedObject, staging_area
from cogmill.storage.store import ObjectInfo

NOTE_SUFFIX = ".aux.xml"
COMPANION_SUFFIXES = (".msk", ".ovr")
PUBLISH_RECORD = "publishing.json"
"""Written in the area before the first commit into the destination: what publish will make."""


def final_area(target: Location, job_id: str) -> Location:
    """Return the area where the job's final objects are staged, beside their final names."""
    folder = target if target.is_collection else target.parent
    return staging_area(folder, job_id[:16])


def intermediate_area(target: Location, job_id: str, tools: Tools) -> Location:
    """Return the area where the job's intermediates lie."""
    if tools.staging is None:
        return final_area(target, job_id)
    return staging_area(Location.parse(tools.staging).as_collection(), job_id[:16])


def commit_intermediate(
    job: JobView[Inputs], stem: str, chunks: Iterable[bytes], tools: Tools
) -> StagedObject:
    """Stage and commit an intermediate in the job's area, under a name of this attempt."""
    area = intermediate_area(job.inputs.target, job.id, tools)
    staged = tools.storage.stage(area.join(f"{stem}.{job.attempt}"), chunks, area)
    tools.storage.commit(staged)
    return staged


def write_publish_record(area: Location, staged: Iterable[StagedObject], tools: Tools) -> None:
    """Record what a publish is about to make, so that it can be finished or withdrawn."""
    entries: JsonValue = [entry.model_dump(mode="json") for entry in staged]
    record = tools.storage.stage(area.join(PUBLISH_RECORD), [json.dumps(entries).encode()], area)
    tools.storage.commit(record)


def read_publish_record(area: Location, tools: Tools) -> list[StagedObject]:
    """Return what an interrupted publish recorded; nothing when none began."""
    location = area.join(PUBLISH_RECORD)
    if tools.storage.info(location) is None:
        return []
    entries = json.loads(tools.storage.read(location))
    return [StagedObject.model_validate(entry) for entry in entries]


def check_destination(
    destination: Location,
    sources: Sequence[Location],
    previous: Previous | None,
    tools: Tools,
    *,
    overwrite: bool,
) -> dict[Location, str]:
    """Refuse a destination that is not ours to write, or that cannot be written.

    Parameters
    ----------
    destination : Location
        Where the result goes.
    sources : sequence of Location
        The source, and every file that its pixels and meaning come from.
    previous : Previous or None
        The newest generation of the same lineage.
    tools : Tools
        For the stores.
    overwrite : bool
        Whether foreign files in it may be replaced.

    Returns
    -------
    dict of Location to str
        The objects of an older result that lie there, by location, with their versions: what the
        new result does not write again goes when it is published.

    Raises
    ------
    DestinationTaken
        It holds foreign files.
    Refused
        It holds the source, or it or the staging area is not writable.
    """
    storage = tools.storage
    target = storage.resolve_destination(destination)
    real_destination = storage.canonical(target)
    for source in sources:
        if real_destination.contains(storage.canonical(source)):
            raise Refused(
                f"the source {source} lies in the destination {target}", "write somewhere else"
            )
    storage.check_writable(target)
    if target.is_collection:
        # The name of a tile is longer than the source's, and a disk may have no room for it.
        storage.check_writable(target.join(tile_file_name(sources[0].stem, 0, 0)))
    if tools.staging is not None:
        storage.check_writable(Location.parse(tools.staging).as_collection())
    _refuse_companions(target, tools)
    ours = _ours(target, previous, tools)
    if overwrite:
        ours = _listed(target, tools) | ours
    older: dict[Location, str] = {}
    for found in _present(target, tools):
        if ours.get(found.location) == found.size:
            older[found.location] = found.version
        elif not (overwrite or _is_note_on(found.location, ours)):
            raise DestinationTaken(
                f"the destination holds {found.location}, which this job did not write",
                "name an empty place, or add --overwrite",
                str(storage.canonical(destination)),
            )
    return older


def _refuse_companions(target: Location, tools: Tools) -> None:
    """Refuse files beside one COG that GDAL would read as its mask or its overviews."""
    for suffix in () if target.is_collection else COMPANION_SUFFIXES:
        companion = target.parent.join(target.name + suffix)
        if tools.storage.info(companion) is not None:
            raise Refused(
                f"{companion} would be read as part of {target}", "move it away, or remove it"
            )


def _present(target: Location, tools: Tools) -> Iterable[ObjectInfo]:
    if target.is_collection:
        return tools.storage.list(target)
    info = tools.storage.info(target)
    return () if info is None else (info,)


def _is_note_on(location: Location, ours: dict[Location, int]) -> bool:
    """Whether QGIS or GDAL left statistics beside a file of ours: looking at it is no offence."""
    name = location.name
    return (
        name.endswith(NOTE_SUFFIX) and location.parent.join(name.removesuffix(NOTE_SUFFIX)) in ours
    )


def _listed(target: Location, tools: Tools) -> dict[Location, int]:
    """Return what the manifest that lies in a destination lists, by location, with sizes."""
    if not target.is_collection or tools.storage.info(target.join(MANIFEST_NAME)) is None:
        return {}
    try:
        manifest = parse_manifest(tools.storage.read(target.join(MANIFEST_NAME)))
    except Refused:
        return {}  # Not cogmill's, or beyond it: what it lists is nobody's to remove.
    return {target.join(file.name): file.size for file in manifest.files}


def _ours(target: Location, previous: Previous | None, tools: Tools) -> dict[Location, int]:
    """Return what earlier generations of this lineage wrote, by location, with sizes."""
    if previous is None:
        return {}
    ours: dict[Location, int] = {}
    if previous.outputs is not None:
        files = Outputs.model_validate(previous.outputs).files
        ours = {file.location: file.size for file in files}
    for job_id in previous.unclean:
        for staged in read_publish_record(final_area(target, job_id), tools):
            ours[staged.final] = staged.size
    return ours
