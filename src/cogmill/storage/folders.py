"""Folders on disk: made, remembered as ours, and removed again when they are empty.

An area remembers, in a record beside its staged files, each folder that was made for it: the
destination, say. When the area goes, those that are empty by then go with it, and no other.
No mode is ever changed: a folder gets what the umask leaves, and one that exists keeps its own.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Final

from cogmill.errors import Refused
from cogmill.storage.location import Location
from cogmill.storage.staging import is_hidden

#: The file in an area that lists the folders made for it, one JSON string a line.
RECORD: Final = ".cogmill-folders"


def make(folder: Location, area: Location) -> None:
    """Make a folder and what is missing above it, durably, and note them down for the area."""
    missing: list[Location] = []
    above = folder
    while not os.path.isdir(above.path):
        missing.append(above)
        above = above.parent
    made = [each for each in reversed(missing) if _mkdir(each)]
    if made:
        lines = "".join(json.dumps(str(each)) + "\n" for each in made)
        # One write in append mode: what two workers note down at a time never mixes.
        with open(_record(area), "ab", buffering=0) as record:
            record.write(lines.encode())


def remove(area: Location) -> None:
    """Remove an area or a folder in it with all it holds, then empty folders made for the area."""
    made = _recorded(area)
    for folder, below, files in os.walk(area.path, topdown=False, onerror=_unless_missing):
        for name in files:
            Path(folder, name).unlink(missing_ok=True)
        for name in below:
            path = Path(folder, name)
            if path.is_symlink():
                path.unlink(missing_ok=True)
            else:
                _rmdir_if_empty(str(path))
    _rmdir_if_empty(area.path)
    for each in sorted(made, reverse=True):
        if each.contains(area) or area.parent.contains(each):
            _rmdir_if_empty(each.path)


def is_record(location: Location) -> bool:
    """Return whether a file is the record of an area, which is nobody's object."""
    return location.name == RECORD and is_hidden(location.parent.name)


def nearest(folder: Location) -> Location:
    """Return the folder, or the nearest one above it that exists.

    Raises
    ------
    NotADirectoryError
        Something that is no folder lies on the way.
    """
    while not os.path.lexists(folder.path.rstrip("/") or "/"):
        folder = folder.parent
    if not os.path.isdir(folder.path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder.path)
    return folder


def demand_one_file_system(area: Location, final: Location) -> None:
    """Demand that a commit can give staged bytes their name without copying them.

    Raises
    ------
    Refused
        The area lies on another file system than the final object.
    """
    if os.stat(area.path).st_dev != os.stat(nearest(final.parent).path).st_dev:
        raise Refused(
            f"{area} and {final} lie on two file systems", "stage on the disk of the destination"
        )


def sync(folder: str) -> None:
    """Force the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not know it; their servers order the names themselves.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _mkdir(folder: Location) -> bool:
    """Make one folder and return whether it was us: another worker may have been faster."""
    try:
        os.mkdir(folder.path)
    except FileExistsError:
        if not os.path.isdir(folder.path):
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder.path
            ) from None
        return False
    sync(folder.parent.path)
    return True


def _home(area: Location) -> Location:
    """Return the area that a folder lies in: what deeper folders are made is noted down there."""
    home = area
    while not is_hidden(home.name):
        home = home.parent
    return home


def _record(area: Location) -> Path:
    return Path(_home(area).path, RECORD)


def _recorded(area: Location) -> list[Location]:
    try:
        lines = _record(area).read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [location for line in lines if (location := _understood(line)) is not None]


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _understood(line: bytes) -> Location | None:
    try:
        return Location.parse(json.loads(line))
    except (ValueError, Refused):
        # A crash cut the line off: that folder stays, which harms nobody.
        return None


def _rmdir_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
            raise
