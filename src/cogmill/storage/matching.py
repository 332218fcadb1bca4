"""Patterns of names, as a shell has them, on every store: ``*``, ``?`` and ``[...]`` in each part.

A star never crosses a slash, and never stands for a leading dot.
"""

from __future__ import annotations

import glob
from fnmatch import fnmatchcase

from cogmill.storage.location import FILE, Location
from cogmill.storage.store import Storage


def is_pattern(text: str) -> bool:
    """Return whether a name holds a character that a pattern is made of."""
    return glob.has_magic(text)


def matching(pattern: Location, storage: Storage) -> list[Location]:
    """Return the objects whose locations a pattern matches, by name; folders are none.

    Parameters
    ----------
    pattern : Location
        As typed: to a location each of its characters is ordinary.
    storage : Storage
        Where it may lie.
    """
    if pattern.scheme == FILE:
        # Not a listing, which goes down into all folders.
        places = (Location.parse(name) for name in glob.iglob(pattern.path))
        return sorted(place for place in places if storage.info(place) is not None)
    parts = pattern.path.split("/")
    return sorted(
        found.location
        for found in storage.list(_plain_folder(pattern))
        if _fits(found.location.path.split("/"), parts)
    )


def _plain_folder(pattern: Location) -> Location:
    """Return the innermost folder above every part that is a pattern."""
    folder = pattern.parent
    while is_pattern(folder.path) and folder.path != "/":
        folder = folder.parent
    return folder


def _fits(names: list[str], parts: list[str]) -> bool:
    return len(names) == len(parts) and all(
        fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))
        for name, part in zip(names, parts, strict=True)
    )
