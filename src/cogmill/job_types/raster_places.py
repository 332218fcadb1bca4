"""Where a job writes: its staging areas, its final names, and what else lies there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import JsonValue

from cogmill.core_machine.contracts import Previous
from cogmill.errors import Refused
from cogmill.job_types.raster_stages import Outputs
from cogmill.job_types.tools import Tools
from cogmill.storage.location import Location
from cogmill.storage.staging import AREA_PREFIX, StagedObject

if TYPE_CHECKING:
    from cogmill.job_types.raster_to_cog import Inputs

RECORD = "publishing.json"
"""Written in the area before the first commit into the destination: what publish will make."""


def beside(destination: Location, job_id: str) -> Location:
    """Return the area where the job's final objects are staged, on the destination's file system."""
    folder = destination if destination.is_collection else destination.parent
    return folder.join(f"{AREA_PREFIX}{job_id[:16]}/")


def intermediates(destination: Location, job_id: str, tools: Tools) -> Location:
    """Return the area where the job's intermediates lie."""
    if tools.staging is None:
        return beside(destination, job_id)
    return Location.parse(tools.staging).as_collection().join(f"{AREA_PREFIX}{job_id[:16]}/")


def write_record(area: Location, staged: Iterable[StagedObject], tools: Tools) -> None:
    """Record what a publish is about to make, so that it can be finished or withdrawn."""
    entries: JsonValue = [entry.model_dump(mode="json") for entry in staged]
    record = tools.storage.stage(area.join(RECORD), [json.dumps(entries).encode()], area)
    tools.storage.commit(record)


def read_record(area: Location, tools: Tools) -> list[StagedObject]:
    """Return what an interrupted publish recorded; nothing when none began."""
    location = area.join(RECORD)
    if tools.storage.info(location) is None:
        return []
    return [StagedObject.model_validate(entry) for entry in json.loads(tools.storage.read(location))]


def check_destination(
    inputs: Inputs, source: Location, previous: Previous | None, tools: Tools
) -> None:
    """Refuse a destination that is not ours to write, or that cannot be written.

    Raises
    ------
    Refused
        It holds the source, or foreign files, or is not writable.
    """
    storage = tools.storage
    destination = storage.resolve_destination(Location.parse(inputs.destination))
    real_source, real_destination = storage.canonical(source), storage.canonical(destination)
    if real_source == real_destination or real_destination.contains(real_source):
        raise Refused(
            f"the source {source} lies in the destination {destination}",
            "write somewhere else",
        )
    storage.check_writable(destination)
    if inputs.overwrite:
        return
    ours = _ours(destination, previous, tools)
    for found in _present(destination, tools):
        if ours.get(str(found[0])) != found[1]:
            raise Refused(
                f"the destination holds {found[0]}, which this job did not write",
                "name an empty place, or add --overwrite",
            )


def _present(destination: Location, tools: Tools) -> Iterable[tuple[Location, int]]:
    if destination.is_collection:
        return ((info.location, info.size) for info in tools.storage.list(destination))
    info = tools.storage.info(destination)
    return () if info is None else ((info.location, info.size),)


def _ours(destination: Location, previous: Previous | None, tools: Tools) -> dict[str, int]:
    """Return what earlier generations of this lineage wrote, by location, with sizes."""
    if previous is None:
        return {}
    ours: dict[str, int] = {}
    if previous.outputs is not None:
        files = Outputs.model_validate(previous.outputs).files
        ours = {file.location: file.size for file in files}
    for staged in read_record(beside(destination, previous.job_id), tools):
        ours[str(staged.final)] = staged.size
    return ours
