"""Objects in the memory of one process: for tests, and for programs that embed cogmill.

Two processes never see the same object, so a job whose tasks run in children cannot use it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from cogmill.errors import Refused
from cogmill.storage.location import Location
from cogmill.storage.staging import (
    StagedLeftover,
    StagedObject,
    Tally,
    demand_area,
    is_hidden,
)
from cogmill.storage.store import (
    GdalAddress,
    ObjectInfo,
    ObjectMissing,
    StagedBytesLost,
    demand_object,
    demand_whole,
)


class _Object(NamedTuple):
    data: bytes
    version: str


class _Staged(NamedTuple):
    data: bytes
    area: Location


class MemoryReader:
    """One version of an object; it stays readable after the object is replaced or removed."""

    def __init__(self, info: ObjectInfo, data: bytes) -> None:
        self.info = info
        self._data = data

    @property
    def name(self) -> str:
        """The location's text."""
        return str(self.info.location)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.info.size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each ``(offset, length)``, in that order."""
        return [
            demand_whole(self.name, (at, length), self._data[at : at + length])
            for at, length in ranges
        ]

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the reader."""
        self.close()


class MemoryStore:
    """A `Store` that forgets everything with its process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[Location, _Object] = {}
        self._staged: dict[str, _Staged] = {}

    def info(self, location: Location) -> ObjectInfo | None:
        """Return what lies there, ``None`` when no object does."""
        found = self._objects.get(location)
        return None if found is None else _info(location, found)

    def open(self, location: Location) -> MemoryReader:
        """Open an object as it is now."""
        demand_object(location)
        found = self._objects.get(location)
        if found is None:
            if self.is_folder(location):
                raise Refused(f"{location} is a folder", "name one file in it")
            raise ObjectMissing(location)
        return MemoryReader(_info(location, found), found.data)

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """List the objects in a collection and below, by name."""
        with self._lock:
            found = sorted(self._objects.items())
        for location, held in found:
            if prefix.as_collection().contains(location):
                parts = prefix.as_collection().relative(location).split("/")
                if not any(map(is_hidden, parts)):
                    yield _info(location, held)

    def is_folder(self, location: Location) -> bool:
        """Return whether some object lies below that name: folders exist no other way here."""
        folder = location.as_collection()
        with self._lock:
            return any(folder.contains(each) for each in self._objects if each != location)

    def delete(self, location: Location) -> None:
        """Remove one object; a missing one is fine."""
        demand_object(location)
        with self._lock:
            self._objects.pop(location, None)

    def delete_prefix(self, area: Location) -> None:
        """Remove an area or a collection in one: objects and staged bytes."""
        demand_area(area)
        with self._lock:
            for location in [each for each in self._objects if area.contains(each)]:
                del self._objects[location]
            for handle in [key for key, held in self._staged.items() if area.contains(held.area)]:
                del self._staged[handle]

    def stage(self, final: Location, chunks: Iterable[bytes], area: Location) -> StagedObject:
        """Hold bytes that nobody sees yet."""
        demand_object(final)
        demand_area(area)
        held, tally = bytearray(), Tally()
        for chunk in chunks:
            tally.add(chunk)
            held += chunk
        handle = uuid.uuid4().hex
        with self._lock:
            self._staged[handle] = _Staged(bytes(held), area)
        return StagedObject(final=final, handle=handle, size=tally.size, sha256=tally.sha256)

    def commit(self, staged: StagedObject) -> ObjectInfo:
        """Make staged bytes the object, whole or not at all."""
        with self._lock:
            current = self._objects.get(staged.final)
            held = self._staged.get(staged.handle)
            if current is None or not _matches(current.data, staged):
                if held is None or not _matches(held.data, staged):
                    raise StagedBytesLost(
                        f"the bytes staged for {staged.final} are gone or damaged",
                        "run the job again",
                    )
                current = _Object(held.data, uuid.uuid4().hex)
                self._objects[staged.final] = current
            self._staged.pop(staged.handle, None)
            return _info(staged.final, current)

    def can_commit(self, staged: StagedObject) -> bool:
        """Return whether the bytes are held, staged or committed."""
        with self._lock:
            held = self._staged.get(staged.handle)
            current = self._objects.get(staged.final)
        return any(found is not None and _matches(found.data, staged) for found in (held, current))

    def abort(self, staged: StagedObject) -> None:
        """Forget staged bytes; repeated, or after a commit, it does nothing."""
        with self._lock:
            self._staged.pop(staged.handle, None)

    def leftovers(self, area: Location) -> Iterator[StagedLeftover]:
        """List what is staged in an area, by handle."""
        demand_area(area)
        with self._lock:
            found = sorted(self._staged.items())
        for handle, held in found:
            if area.contains(held.area):
                yield StagedLeftover(handle=handle, size=len(held.data))

    def check_writable(self, location: Location) -> None:
        """Refuse an object below another object, as a disk does; anything else can be written."""
        above = location.parent
        while above.name:
            if above.parent.join(above.name) in self._objects:
                raise Refused(f"{above} is a file, so nothing can lie in it", "name a folder")
            above = above.parent

    def canonical(self, location: Location) -> Location:
        """Return the location: there are no links here."""
        return location

    def gdal_address(self, location: Location) -> GdalAddress:
        """Return no path: GDAL is handed the bytes."""
        return GdalAddress(path=None)


def _info(location: Location, held: _Object) -> ObjectInfo:
    return ObjectInfo(location=location, size=len(held.data), version=held.version)


def _matches(data: bytes, staged: StagedObject) -> bool:
    tally = Tally()
    tally.add(data)
    return tally.matches(staged)
