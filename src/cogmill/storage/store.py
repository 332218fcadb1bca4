"""The one interface to bytes: what every store offers, and the router that callers hold.

Every store passes ``tests/contract/test_store_contract.py``. No method renames anything: a store
without renaming (an object store) keeps the same promises with an upload that it finishes late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from cogmill import failpoints
from cogmill.errors import PermanentError, Refused, StorageUnavailable
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedLeftover, StagedObject


class ObjectMissing(PermanentError):
    """No object lies there. Check its name, or that nobody removed it since it was planned."""

    code = "object-missing"

    def __init__(self, location: Location | str) -> None:
        super().__init__(
            f"{location} does not exist", "check the name, and whether someone removed it"
        )


class StagedBytesLost(PermanentError):
    """Staged bytes are gone or damaged, and the final object is not theirs. Write them again."""

    code = "staged-bytes-lost"


class ObjectInfo(BaseModel):
    """An object as a listing shows it.

    Parameters
    ----------
    location : Location
        Which object.
    size : int
        In bytes.
    version : str
        Changes whenever the bytes may have changed: a version id, a strong ETag, or on disk
        ``size-mtime_ns-inode``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Location
    size: int
    version: str


class GdalAddress(BaseModel):
    """How GDAL opens an object by itself.

    Parameters
    ----------
    path : str or None
        What ``rasterio.open`` takes. ``None`` where GDAL cannot reach the store: then the bytes are
        read through the store and handed over.
    options : dict of str to str
        GDAL configuration for this path. It holds no secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None
    options: Mapping[str, str] = Field(default_factory=dict)


class RangeReader(Protocol):
    """One version of one object, open for reading; close it, or use it in a ``with`` statement."""

    @property
    def name(self) -> str:
        """The location's text."""
        ...

    @property
    def size(self) -> int:
        """In bytes, when it was opened."""
        ...

    @property
    def info(self) -> ObjectInfo:
        """What was opened: its version is that of the bytes read, even if they are replaced."""
        ...

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each ``(offset, length)``, in that order.

        Raises
        ------
        StorageUnavailable
            The store did not answer, or a range came back short.
        """
        ...

    def close(self) -> None:
        """Let go of it; closing twice is fine."""
        ...

    def __enter__(self) -> Self:
        """Return the reader."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the reader."""
        ...


class Store(Protocol):
    """Objects of one scheme. Errors of a file system or SDK never leave it untranslated."""

    def info(self, location: Location) -> ObjectInfo | None:
        """Return what lies there, ``None`` when no object does."""
        ...

    def open(self, location: Location) -> RangeReader:
        """Open an object; raise `ObjectMissing`, `Refused` or `StorageUnavailable`."""
        ...

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """List the objects in a collection and below, by name; missing means empty.

        Staged bytes are never shown, nor areas, unless `prefix` is one or lies in one.
        """
        ...

    def is_folder(self, location: Location) -> bool:
        """Return whether a collection of that name exists, with or without a slash at the end."""
        ...

    def delete(self, location: Location) -> None:
        """Remove one object; a missing one is fine."""
        ...

    def delete_prefix(self, area: Location) -> None:
        """Remove an area or a collection in one: objects, staged bytes, and folders made for it.

        Raises
        ------
        Refused
            The prefix is no staging area: nothing else is ever removed wholesale.
        """
        ...

    def stage(self, final: Location, chunks: Iterable[bytes], area: Location) -> StagedObject:
        """Write bytes durably where nobody sees them; memory does not grow with their number.

        Parameters
        ----------
        final : Location
            The object that a commit will make.
        chunks : iterable of bytes
            The bytes, in order. When it raises, nothing stays staged.
        area : Location
            The staging area, on the same file system as `final`.

        Raises
        ------
        Refused
            The place cannot be written to, whoever tries again.
        StorageUnavailable
            No room, or no answer.
        """
        ...

    def commit(self, staged: StagedObject) -> ObjectInfo:
        """Make staged bytes the object, whole or not at all, and prove size and checksum.

        Safe to repeat, by any process: where the object already has those bytes it is left alone.
        Another object under the name is replaced.

        Raises
        ------
        StagedBytesLost
            The bytes are neither staged nor committed, or no longer what was staged.
        """
        ...

    def can_commit(self, staged: StagedObject) -> bool:
        """Return whether the bytes are there, whole, staged or committed; it reads them."""
        ...

    def abort(self, staged: StagedObject) -> None:
        """Forget staged bytes; repeated, or after a commit, it does nothing."""
        ...

    def leftovers(self, area: Location) -> Iterator[StagedLeftover]:
        """List what is staged in an area and was neither committed nor aborted, by handle."""
        ...

    def check_writable(self, location: Location) -> None:
        """Try to write there and leave nothing behind; raise `Refused` when it cannot be."""
        ...

    def canonical(self, location: Location) -> Location:
        """Return the location with symbolic links followed, for comparing two of them."""
        ...

    def gdal_address(self, location: Location) -> GdalAddress:
        """Return how GDAL opens the object."""
        ...


class Storage:
    """Every store behind one face: each location goes to the store of its scheme.

    Parameters
    ----------
    stores : mapping of str to Store
        By scheme.
    """

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = MappingProxyType(dict(stores))

    def info(self, location: Location) -> ObjectInfo | None:
        """Return what lies there, ``None`` when no object does."""
        return self._store(location).info(location)

    def open(self, location: Location) -> RangeReader:
        """Open an object; see `Store.open`."""
        return self._store(location).open(location)

    def read(self, location: Location) -> bytes:
        """Return all bytes of a small object, such as a manifest."""
        with self.open(location) as reader:
            return reader.read_ranges([(0, reader.size)])[0]

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """List the objects in a collection and below; see `Store.list`."""
        return self._store(prefix).list(prefix)

    def is_folder(self, location: Location) -> bool:
        """Return whether a collection of that name exists."""
        return self._store(location).is_folder(location)

    def delete(self, location: Location) -> None:
        """Remove one object; a missing one is fine."""
        failpoints.reach("storage.delete")
        self._store(location).delete(location)

    def delete_prefix(self, area: Location) -> None:
        """Remove a staging area and all in it; see `Store.delete_prefix`."""
        failpoints.reach("storage.delete_prefix")
        self._store(area).delete_prefix(area)

    def stage(self, final: Location, chunks: Iterable[bytes], area: Location) -> StagedObject:
        """Write bytes where nobody sees them; see `Store.stage`."""
        if final.scheme != area.scheme:
            raise Refused(
                f"{final} cannot be staged in {area}", "stage in the store of the destination"
            )
        failpoints.reach("storage.stage")
        staged = self._store(final).stage(final, chunks, area)
        failpoints.reach("storage.staged")
        return staged

    def commit(self, staged: StagedObject) -> ObjectInfo:
        """Make staged bytes the object; see `Store.commit`."""
        failpoints.reach("storage.commit")
        made = self._store(staged.final).commit(staged)
        failpoints.reach("storage.committed")
        return made

    def can_commit(self, staged: StagedObject) -> bool:
        """Return whether a commit would succeed; see `Store.can_commit`."""
        return self._store(staged.final).can_commit(staged)

    def abort(self, staged: StagedObject) -> None:
        """Forget staged bytes."""
        self._store(staged.final).abort(staged)

    def leftovers(self, area: Location) -> Iterator[StagedLeftover]:
        """List what is staged in an area."""
        return self._store(area).leftovers(area)

    def check_writable(self, location: Location) -> None:
        """Raise `Refused` when nothing can be written there; leave nothing behind."""
        self._store(location).check_writable(location)

    def canonical(self, location: Location) -> Location:
        """Return the location with symbolic links followed."""
        return self._store(location).canonical(location)

    def gdal_address(self, location: Location) -> GdalAddress:
        """Return how GDAL opens the object."""
        return self._store(location).gdal_address(location)

    def resolve_destination(self, location: Location) -> Location:
        """Return the destination as one COG or, ending in a slash, as the folder of a mosaic.

        Raises
        ------
        Refused
            A folder is in the place of the one COG, or a file in the place of the folder.
        """
        if location.is_one_cog:
            if self.is_folder(location):
                raise Refused(
                    f"{location} is a folder, and a name that ends in .tif is one COG",
                    f"write {location}/ to fill it with tiles, or name a file",
                )
            return location
        as_object = self._without_slash(location)
        if as_object is not None and self.info(as_object) is not None:
            raise Refused(f"{as_object} is a file", "name a folder, or a file that ends in .tif")
        return location.as_collection()

    def _without_slash(self, location: Location) -> Location | None:
        return location.parent.join(location.name) if location.name else None

    def _store(self, location: Location) -> Store:
        found = self._stores.get(location.scheme)
        if found is None:
            raise Refused(
                f"no store is set up for {location.scheme} ({location})", "write a path on disk"
            )
        return found


def demand_object(location: Location) -> None:
    """Demand the name of an object where a folder would make no sense.

    Raises
    ------
    Refused
        The location ends with a slash.
    """
    if location.is_collection:
        raise Refused(f"{location} is a folder", "name one file in it")


def demand_whole(name: str, wanted: tuple[int, int], got: bytes) -> bytes:
    """Return what a range read gave, when it is all that was asked for.

    Raises
    ------
    StorageUnavailable
        Bytes are missing: the object shrank, or the store answered short.
    """
    offset, length = wanted
    if len(got) != length:
        raise StorageUnavailable(
            f"{name} answered {len(got)} of the {length} bytes at {offset}",
            "check that nobody is replacing the file while it is read",
        )
    return got
