"""Look up in the stores the files that a VRT names, and open the reader of any source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cogmill.errors import Refused
from cogmill.job_types.tools import Tools
from cogmill.raster.inspect.source_file import VrtSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.read.source_blocks import PixelSource, SourceReader
from cogmill.raster.tiff.magic import is_vrt
from cogmill.raster.vrt.vrt_checking import FoundMember, NamedMember
from cogmill.raster.vrt.vrt_reading import opened_vrt
from cogmill.raster.vrt.vrt_structure import inspect_vrt
from cogmill.storage.location import Location
from cogmill.storage.store import RangeReader, Storage

MASK_SUFFIX: Final = ".msk"
_COPY: Final = "copy it beside the VRT and name it there, or make one raster first: gdal_translate"
#: What GDAL would take for one of its own names: a driver's prefix, a virtual file, a VRT's text.
_GDAL_NAME: Final = re.compile(r"/vsi|<|[A-Za-z][A-Za-z0-9_+.-]*:")


def inspected_vrt(source: Location, page: int | None, tools: Tools) -> Structure:
    """Return the structure of a VRT, all of whose members were found.

    Parameters
    ----------
    source : Location
        The VRT.
    page : int or None
        What was asked for: a VRT has none.
    tools : Tools
        For the stores and the size of GDAL's cache.

    Raises
    ------
    Refused
        A member is missing or out of reach, or the VRT is none that can be read exactly.
    """
    if page is not None:
        raise Refused(
            f"--page {page} chooses an image of a TIFF, and {source} is a VRT", "leave it out"
        )
    data = _Member(source, tools.storage)
    _refuse_mask(source, tools.storage)
    return inspect_vrt(data, lambda named: _found(named, tools.storage), tools.gdal_cache)


class _Member:
    """A file that is opened for each read: a VRT may have more members than a process files."""

    def __init__(self, location: Location, storage: Storage) -> None:
        with storage.open(location) as data:
            self.name, self.size = data.name, data.size
        self._location = location
        self._storage = storage

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each ``(offset, length)``."""
        with self._storage.open(self._location) as data:
            return data.read_ranges(ranges)


def _found(named: NamedMember, storage: Storage) -> FoundMember:
    location = _location(named, storage)
    if storage.info(location) is None:
        raise Refused(
            f"{named.holder} names {location}, which does not exist",
            "fetch it, or make the VRT again without it: gdalbuildvrt",
        )
    path = storage.gdal_address(location).path
    if path is None:
        raise Refused(f"GDAL cannot open {location}, which {named.holder} names", _COPY)
    member = _Member(location, storage)
    virtual = is_vrt(member)
    if virtual:
        _refuse_mask(location, storage)
    return FoundMember(member, path, virtual)


def _location(named: NamedMember, storage: Storage) -> Location:
    """Return where a file is that a VRT names."""
    holder = Location.parse(named.holder)
    # As GDAL does: from where the VRT itself lies, not a link to it.
    base = storage.canonical(holder).parent
    beside = named.relative and not named.name.startswith("/")
    if _GDAL_NAME.match(named.name) and not (
        beside and storage.info(Location.parse(named.name, base.path)) is not None
    ):
        raise Refused(f"{named.holder} names {named.name}, which is out of reach", _COPY)
    if not beside and not named.name.startswith("/"):
        raise Refused(
            f"{named.holder} names {named.name} from whatever folder GDAL is started in",
            "make it again from absolute names: gdalbuildvrt OUTPUT.vrt /FOLDER/*.tif",
        )
    return _walked(named.name, base, storage)


def _walked(name: str, base: Location, storage: Storage) -> Location:
    """Return what the file system finds: ``..`` leaves the folder to which a link leads."""
    at = Location.parse("/") if name.startswith("/") else base
    for part in name.split("/"):
        if part == "..":
            at = storage.canonical(at).parent
        elif part not in ("", "."):
            at = at.as_collection().join(part)
    return at


def _refuse_mask(location: Location, storage: Storage) -> None:
    beside = location.parent.join(location.name + MASK_SUFFIX)
    if storage.info(beside) is not None:
        raise Refused(f"{beside} masks a VRT from outside", "make one raster first: gdal_translate")


@contextmanager
def opened_reader(
    plan: RasterPlan, data: RangeReader, mask: RangeReader | None
) -> Iterator[PixelSource]:
    """Open the reader of a source whose files were opened as planned.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    data, mask : RangeReader, RangeReader or None
        The raster's file and the mask beside it; of a VRT only its members are read again.
    """
    match plan.structure.file:
        case VrtSource() as file:
            with opened_vrt(plan.structure, file) as reader:
                yield reader
        case _:
            yield SourceReader(plan.structure, data, mask)
