"""Files on a disk that this host sees.

Staged bytes are hidden files in their area, named at random, and a commit renames one. Both are
forced to the disk, with the folders that name them, before they are answered.

Symbolic links are followed on the way to a file and when it is read. A commit to a name that is a
link replaces the link and leaves its target alone; a listing shows a link to a folder as one object
and does not descend.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cogmill.errors import PermanentError, Refused, StorageUnavailable
from cogmill.storage import folders
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

_STAGED: Final = re.compile(r"[0-9a-f]{32}\.staged")
_READ_BYTES: Final = 4 << 20
#: No patience makes a file of it: a socket, or one larger than its disk or user may have.
_NO_SUCH_FILE: Final = (
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EXDEV,
    errno.ENXIO,
    errno.EFBIG,
)


class LocalReader:
    """One version of a file: it reads the file that was opened even when another replaces it."""

    def __init__(self, location: Location, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self.info = _info(location, os.fstat(descriptor))

    @property
    def name(self) -> str:
        """The location's text."""
        return str(self.info.location)

    @property
    def size(self) -> int:
        """In bytes, when it was opened."""
        return self.info.size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each ``(offset, length)``, in that order."""
        return [
            demand_whole(self.name, (offset, length), self._read(offset, length))
            for offset, length in ranges
        ]

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def _read(self, offset: int, length: int) -> bytes:
        if self._descriptor is None:
            raise PermanentError(f"{self.name} was read after it was closed", "open it again")
        # A length that a damaged header claims must not become an allocation of that size.
        length = max(0, min(length, self.size - offset))
        parts: list[bytes] = []
        try:
            while length and (part := os.pread(self._descriptor, length, offset)):
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
        except OSError as error:
            raise _translated(error, self.name) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


class LocalStore:
    """A `Store` over the file systems of this host."""

    def info(self, location: Location) -> ObjectInfo | None:
        """Return what lies there, ``None`` when no file does; a folder is no object."""
        if location.is_collection:
            return None
        try:
            found = os.stat(location.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None  # No file can have this name: the sidecar of one that just fits.
            raise _translated(error, location) from error
        return None if stat.S_ISDIR(found.st_mode) else _info(location, found)

    def open(self, location: Location) -> LocalReader:
        """Open a file as it is now."""
        if self.is_folder(location):
            raise Refused(f"{location} is a folder", "name one file in it")
        demand_object(location)
        try:
            # A pipe without a writer would block here, and has no ranges to read.
            descriptor = os.open(location.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(location) from None
        except OSError as error:
            raise _translated(error, location) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Refused(f"{location} is no regular file", "name a file")
        return LocalReader(location, descriptor)

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """List the files in a folder and below, by name; a missing folder is empty."""
        top = prefix.as_collection()
        for location in sorted(top.join(name) for name in _files(top.path)):
            if not (_is_staged(location.path) or folders.is_record(location)):
                try:
                    yield _info(location, _stat(location.path))
                except FileNotFoundError:
                    # Removed since the folder was read: then it is not there.
                    continue

    def is_folder(self, location: Location) -> bool:
        """Return whether a folder of that name exists."""
        return os.path.isdir(location.path)

    def delete(self, location: Location) -> None:
        """Remove one file; a missing one is fine."""
        demand_object(location)
        try:
            Path(location.path).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _translated(error, location) from error

    def delete_prefix(self, area: Location) -> None:
        """Remove an area, or a folder in one, and the empty folders that were made for it."""
        demand_area(area)
        try:
            folders.remove(area)
        except OSError as error:
            raise _translated(error, area) from error

    def stage(self, final: Location, chunks: Iterable[bytes], area: Location) -> StagedObject:
        """Write a hidden file into the area and force it to the disk."""
        demand_object(final)
        demand_area(area)
        part = os.path.join(area.path, f"{uuid.uuid4().hex}.staged")
        tally = Tally()
        try:
            folders.make(area, area)
            folders.demand_one_file_system(area, final)
            _write(part, _tallied(chunks, tally))
        except OSError as error:
            raise _translated(error, final) from error
        return StagedObject(final=final, handle=part, size=tally.size, sha256=tally.sha256)

    def commit(self, staged: StagedObject) -> ObjectInfo:
        """Rename the hidden file, once its bytes are proved, and force the name to the disk."""
        try:
            if not _holds(staged.final.path, staged):
                self._publish(staged)
            _unlink(_part(staged))
            folders.sync(staged.final.parent.path)
            return _info(staged.final, os.stat(staged.final.path))
        except OSError as error:
            raise _translated(error, staged.final) from error

    def can_commit(self, staged: StagedObject) -> bool:
        """Return whether the bytes are in the hidden file or under the final name, whole."""
        try:
            return _holds(_part(staged), staged) or _holds(staged.final.path, staged)
        except OSError as error:
            raise _translated(error, staged.final) from error

    def abort(self, staged: StagedObject) -> None:
        """Remove the hidden file; repeated, or after a commit, it does nothing."""
        try:
            _unlink(_part(staged))
        except OSError as error:
            raise _translated(error, staged.final) from error

    def leftovers(self, area: Location) -> Iterator[StagedLeftover]:
        """List the hidden files of an area, by name."""
        demand_area(area)
        for name in sorted(_files(area.path)):
            path = area.join(name).path
            if _is_staged(path):
                try:
                    yield StagedLeftover(handle=path, size=os.stat(path).st_size)
                except FileNotFoundError:
                    continue

    def check_writable(self, location: Location) -> None:
        """Make a file in the nearest folder that exists, and remove it."""
        if not location.is_collection and self.is_folder(location):
            raise Refused(f"{location} is a folder", "name a file, or end it with a slash")
        folder = location if location.is_collection else location.parent
        try:
            above = folders.nearest(folder)
            # A name may be too long for the disk, in a folder that is still to be made too.
            for path in (location.path, Path(above.path, location.name)):
                with contextlib.suppress(FileNotFoundError):
                    os.stat(path)
            probe = Path(above.path, f".cogmill-probe-{uuid.uuid4().hex}")
            try:
                os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise Refused(
                f"{location} cannot be written ({reason})",
                "name a folder on a disk with room that this user may write to",
            ) from error

    def canonical(self, location: Location) -> Location:
        """Return the location with symbolic links followed, as far as it exists."""
        real = Location.parse(os.path.realpath(location.path))
        return real.as_collection() if location.is_collection else real

    def gdal_address(self, location: Location) -> GdalAddress:
        """Return the path: GDAL opens files by itself."""
        return GdalAddress(path=location.path)

    def _publish(self, staged: StagedObject) -> None:
        """Prove the hidden file, then give it the final name: no reader ever sees wrong bytes."""
        part = _part(staged)
        renamed = False
        if _holds(part, staged):
            folders.make(staged.final.parent, Location.parse(part).parent)
            with contextlib.suppress(FileNotFoundError):
                os.replace(part, staged.final.path)
                renamed = True
        # Another process may have committed the same staged object since we looked.
        if not renamed and not _holds(staged.final.path, staged):
            raise StagedBytesLost(
                f"the bytes staged for {staged.final} are gone or damaged", "run the job again"
            )


def _info(location: Location, found: os.stat_result) -> ObjectInfo:
    version = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
    return ObjectInfo(location=location, size=found.st_size, version=version)


def _stat(path: str) -> os.stat_result:
    """Return the status of what a link leads to, or of the link where it leads nowhere."""
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)


def _files(top: str) -> Iterator[str]:
    """Yield what lies below a folder and is no folder, by relative name; areas are left out."""
    for folder, below, files in os.walk(top, onerror=_unless_missing):
        links = [name for name in below if os.path.islink(os.path.join(folder, name))]
        below[:] = [name for name in below if not is_hidden(name)]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(folder, name), top)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise _translated(error, error.filename) from error


def _is_staged(path: str) -> bool:
    folder, name = os.path.split(path)
    return bool(_STAGED.fullmatch(name)) and any(map(is_hidden, folder.split("/")))


def _part(staged: StagedObject) -> str:
    """Return the path of the hidden file: a handle that names any other is never touched."""
    if not _is_staged(staged.handle):
        raise PermanentError(f"{staged.handle} is no staged file of cogmill", "run the job again")
    return staged.handle


def _tallied(chunks: Iterable[bytes], tally: Tally) -> Iterator[bytes]:
    for chunk in chunks:
        tally.add(chunk)
        yield chunk
        # It can be large: the next one is made when this one is no longer in memory.
        del chunk


def _write(path: str, chunks: Iterable[bytes]) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
                del chunk, view
            os.fsync(file.fileno())
        folders.sync(os.path.dirname(path))
    except BaseException:
        _unlink(path)
        raise


def _holds(path: str, staged: StagedObject) -> bool:
    """Return whether a file is, byte for byte, what was staged."""
    tally = Tally()
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != staged.size:
                return False
            while chunk := file.read(_READ_BYTES):
                tally.add(chunk)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    return tally.matches(staged)


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _translated(error: OSError, where: Location | str) -> Exception:
    """Return the error that tells whether trying again can help."""
    reason = os.strerror(error.errno or 0)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageUnavailable(
            f"no room left to write {where} ({reason})", f"free room on the disk of {where}"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refused(f"{where} is not accessible ({reason})", "give this user permission")
    if error.errno in _NO_SUCH_FILE:
        return Refused(f"{where} cannot be such a file ({reason})", "name another place")
    return StorageUnavailable(f"{where} cannot be reached ({reason})", "check the disk")
