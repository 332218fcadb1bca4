"""The two steps of every write: staged bytes that nobody sees, then one commit.

Staged bytes belong to an *area*, a folder whose name begins with ``.cogmill-``, or one within. What
a dead attempt left behind is found by its area, so nobody needs to remember a handle to clean up.
"""

from __future__ import annotations

import hashlib
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from cogmill.errors import Refused
from cogmill.storage.location import Location

AREA_PREFIX: Final = ".cogmill-"


class StagedObject(BaseModel):
    """Bytes that lie in a store and are not yet visible; plain data, for any process to commit.

    Parameters
    ----------
    final : Location
        The object that a commit makes.
    handle : str
        Where the store keeps the bytes; only the store reads it. It is no secret.
    size : int
        In bytes.
    sha256 : str
        Of the bytes, 64 lower-case hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    final: Location
    handle: str = Field(min_length=1)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class StagedLeftover(BaseModel):
    """Staged bytes that a listing of their area found, committed by nobody so far.

    Parameters
    ----------
    handle : str
        As in `StagedObject`.
    size : int
        Bytes that the store holds for it now; an attempt may still be writing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: str
    size: int


class Tally:
    """Counts and hashes the bytes that pass by, so that nobody reads them a second time."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
        self.size += len(chunk)
        self._digest.update(chunk)

    @property
    def sha256(self) -> str:
        """The checksum of all bytes so far."""
        return self._digest.hexdigest()

    def matches(self, staged: StagedObject) -> bool:
        """Return whether these were the bytes that were staged."""
        return (self.size, self.sha256) == (staged.size, staged.sha256)


def staging_area(parent: Location, lineage: str) -> Location:
    """Return the area of one lineage in a folder: beside a destination, or where the user said."""
    return parent.as_collection().join(f"{AREA_PREFIX}{lineage}/")


def demand_area(area: Location) -> None:
    """Demand a place that only cogmill writes to, before anything is written or removed there.

    Raises
    ------
    Refused
        The location is no collection in, or itself, an area.
    """
    if not area.is_collection or not any(map(is_hidden, area.path.split("/"))):
        raise Refused(
            f"{area} is no staging area of cogmill",
            f"name a folder that begins with {AREA_PREFIX} and end it with a slash",
        )


def is_hidden(part: str) -> bool:
    """Return whether a part of a path is cogmill's own, left out of listings from above it."""
    return part.startswith(AREA_PREFIX)
