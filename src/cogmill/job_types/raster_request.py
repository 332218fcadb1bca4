"""What a person asks for, as the inputs of raster-to-cog: absolute places and checked options.

Parents call it: it opens no raster and loads no GDAL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cogmill.job_types.raster_to_cog import Inputs
from cogmill.storage.location import Location
from cogmill.storage.store import Storage


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
    checked = Inputs.parse({**given, "source": source, "destination": destination or ""})
    resolved = ""
    if destination is not None:
        resolved = str(storage.resolve_destination(Location.parse(destination)))
    return checked.model_copy(
        update={
            "source": str(Location.parse(source)),
            "like": _absolute(checked.like),
            "rpc_dem": _absolute(checked.rpc_dem),
            "destination": resolved,
            "overwrite": overwrite,
        }
    )


def _absolute(place: str | None) -> str | None:
    return None if place is None else str(Location.parse(place))
