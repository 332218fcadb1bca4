"""Where an object or a folder of objects is: one absolute text for every kind of store.

A location is a value. It never asks the disk anything, so it means the same in every process, and
it carries no credential. Unicode, spaces, ``%``, ``#`` and ``?`` are ordinary characters of a name:
nothing is decoded or encoded.

Symbolic links are not seen: ``..`` is collapsed in the text, as a shell's ``cd`` does it.
Comparisons that must look through links go through `Storage.canonical` first.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Final

from pydantic import ConfigDict, RootModel, field_validator

from cogmill.errors import Refused

FILE: Final = "file"
MEMORY: Final = "memory"

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_ONE_COG: Final = (".tif", ".tiff")
#: GDAL's own file systems, and names of one raster of several in a file of another format.
_GDAL_FOLDER: Final = re.compile(r"/vsi[a-z0-9]+(_streaming)?[/?]")
_GDAL_PAGE: Final = re.compile(r"GTIFF_DIR:(?:off:)?(\d+):(.+)", re.DOTALL)
_GDAL_PART: Final = re.compile(r"(NETCDF|HDF5|HDF5Image|HDF4_[A-Z]+|GPKG|ZARR|SENTINEL\d_\w+):.+")


class Location(RootModel[str]):
    """An object (``/data/a.tif``) or, with a slash at the end, a collection (``/data/tiles/``).

    As JSON it is its text. ``Location(text)`` demands a text that is absolute and normalised
    already, such as one that cogmill stored; what a person typed goes through `parse`.
    """

    model_config = ConfigDict(frozen=True)

    @field_validator("root")
    @classmethod
    def _is_normal(cls, text: str) -> str:
        if not text or _normal(text) != text:
            raise ValueError(f"not an absolute, normalised location: {text!r}")
        return text

    @classmethod
    def parse(cls, text: str, base: str | None = None) -> Location:
        """Understand what a person typed.

        Parameters
        ----------
        text : str
            A path, absolute or relative to `base`, or ``memory://...``. ``~`` is a character like
            any other: the shell expands it.
        base : str, optional
            The absolute folder that relative paths begin in; the current one when not given.

        Raises
        ------
        Refused
            An empty text, a NUL, a name that is not Unicode, a scheme that no store answers to.
        """
        _demand_storable(text)
        _refuse_gdal_name(text)
        if _SCHEME.match(text):
            return cls(_normal(text))
        return cls(_normal(text if text.startswith("/") else f"{base or _here()}/{text}"))

    @property
    def scheme(self) -> str:
        """The kind of store: ``file`` or ``memory``."""
        return _split(self.root)[0]

    @property
    def path(self) -> str:
        """The absolute path within the store; for ``file`` the path on disk."""
        return _split(self.root)[1]

    @property
    def is_collection(self) -> bool:
        """Whether this names a folder or prefix instead of one object."""
        return self.root.endswith("/")

    @property
    def is_one_cog(self) -> bool:
        """Whether a destination of this name is one COG instead of a mosaic of tiles."""
        return self.name.lower().endswith(_ONE_COG) and not self.is_collection

    @property
    def name(self) -> str:
        """The last part, without a slash; empty for a root."""
        return posixpath.basename(self.path.rstrip("/"))

    @property
    def stem(self) -> str:
        """The name without its last extension."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> Location:
        """The collection that this lies in; a root is its own parent."""
        folder = posixpath.dirname(self.path.rstrip("/")) or "/"
        return self._at(folder).as_collection()

    def as_collection(self) -> Location:
        """Return the same place, named as a folder."""
        return self if self.is_collection else Location(self.root + "/")

    def join(self, name: str) -> Location:
        """Return what lies in this collection under a relative name, such as ``pieces/0001.tif``.

        Raises
        ------
        Refused
            This is no collection, or the name is empty, absolute, or climbs out of it.
        """
        _demand_storable(name)
        if not self.is_collection:
            raise Refused(f"{self} is no folder", "end the folder's name with a slash")
        joined = self._at(posixpath.join(self.path, name))
        if not self.contains(joined) or joined == self or name.startswith("/"):
            raise Refused(f"{name!r} does not lie in {self}", "give a relative name without '..'")
        return joined

    def contains(self, other: Location) -> bool:
        """Return whether `other` is this place or lies in it."""
        if not self.is_collection:
            return other == self
        return other.as_collection().root.startswith(self.root)

    def relative(self, other: Location) -> str:
        """Return the name that `other` has within this collection; the inverse of `join`.

        Raises
        ------
        Refused
            `other` does not lie in this collection.
        """
        if not self.is_collection or not self.contains(other):
            raise Refused(f"{other} does not lie in {self}", "name a place inside the folder")
        return other.root[len(self.root) :]

    def __str__(self) -> str:
        """Return the text that `parse` understands."""
        return self.root

    def __lt__(self, other: Location) -> bool:
        """Order by the text's code points, which is the order of listings."""
        return self.root < other.root

    def _at(self, path: str) -> Location:
        return Location(_normal(_text(self.scheme, path)))


def _demand_storable(text: str) -> None:
    if not text:
        raise Refused("an empty text names no file", "give a path")
    if "\0" in text:
        raise Refused(f"{text!r} holds a NUL character", "give a path without it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(
            f"the name {text!r} is not valid UTF-8, so it cannot be recorded", "rename the file"
        ) from None


def _refuse_gdal_name(text: str) -> None:
    """Refuse what GDAL understands and no store does, instead of a file that does not exist."""
    if (page := _GDAL_PAGE.fullmatch(text)) is not None:
        raise Refused(
            f"{text} names one image of a file as GDAL does", f"give {page[2]} and --page {page[1]}"
        )
    if _GDAL_FOLDER.match(text) or _GDAL_PART.fullmatch(text):
        raise Refused(
            f"{text} is a name of GDAL's own, not a file",
            f"make a file of it first: gdal_translate '{text}' INPUT.tif",
        )


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise Refused(
            "the current folder no longer exists", "give absolute paths, or change the folder"
        ) from None


def _split(text: str) -> tuple[str, str]:
    found = _SCHEME.match(text)
    if found is None:
        return FILE, text
    return found[1].lower(), "/" + found[2]


def _text(scheme: str, path: str) -> str:
    return path if scheme == FILE else f"{scheme}://{path.lstrip('/')}"


def _normal(text: str) -> str:
    """Return the one spelling of a location; a relative path keeps looking unlike its result."""
    scheme, path = _split(text)
    if _SCHEME.match(text) and scheme != MEMORY:
        raise Refused(
            f"no store answers to {scheme}:// ({text})", "write a path on disk, such as /data/a.tif"
        )
    folder = path.endswith(("/", "/.", "/.."))
    # A path may begin with two slashes in POSIX and mean something else: it never does here.
    normal = posixpath.normpath("/" + path.lstrip("/"))
    return _text(scheme, normal + "/" if folder and normal != "/" else normal)
