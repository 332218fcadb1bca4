"""What a file is that is no TIFF, by its first bytes: a remedy must name the tool that helps."""

from __future__ import annotations

from typing import Final

from cogmill.errors import Refused
from cogmill.raster.tiff.header import ByteSource

MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LOOKED_AT: Final = 512
_VRT: Final = b"<vrtdataset"
_CONVERT: Final = "convert it first: gdal_translate INPUT OUTPUT.tif"
_CHOOSE: Final = (
    "gdalinfo lists what it holds; take one out first: gdal_translate SUBDATASET OUTPUT.tif"
)
_FETCH: Final = "fetch the raster itself; the address may want a login or another path"
#: First bytes, what they begin, and what to do.
_BEGINNINGS: Final = (
    (b"\x89PNG\r\n", "a PNG image", _CONVERT),
    (b"\xff\xd8\xff", "a JPEG image", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image", _CONVERT),
    (b"GIF8", "a GIF image", _CONVERT),
    (b"PK\x03\x04", "a zip archive", "unpack it first: unzip INPUT"),
    (b"\x1f\x8b", "packed by gzip", "unpack it first: gunzip INPUT"),
    (b"CDF", "a netCDF file", _CHOOSE),
    (b"\x89HDF\r\n", "an HDF5 or netCDF file", _CHOOSE),
    (b"\x0e\x03\x13\x01", "an HDF4 file", _CHOOSE),
    (b"SQLite format 3\0", "a GeoPackage or another SQLite file", _CHOOSE),
    (b"%PDF", "a PDF document", _CONVERT),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the raster itself: git lfs pull"),
)
#: The same for text, in lower case and without the blanks before it.
_TEXTS: Final = (
    (b"<!doctype html", "a web page", _FETCH),
    (b"<html", "a web page", _FETCH),
    (b"<?xml", "XML, such as a store's error", _FETCH),
    (b"{", "JSON, such as a store's error", _FETCH),
)


def is_vrt(data: ByteSource) -> bool:
    """Return whether a file begins as a VRT does."""
    if not data.size:
        return False
    (start,) = data.read_ranges([(0, min(_LOOKED_AT, data.size))])
    text = _text(start).removeprefix(b"<?xml")
    return text.startswith(_VRT) or (text != _text(start) and _VRT in text)


def _text(start: bytes) -> bytes:
    """Return the beginning of a file as text is compared: in lower case, no blanks before it."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()


def check_magic(data: ByteSource) -> None:
    """Refuse a file that does not begin as a TIFF does.

    Parameters
    ----------
    data : ByteSource
        The file.

    Raises
    ------
    Refused
        With what it is, where that is known.
    """
    if not data.size:
        raise Refused(f"{data.name} is empty", "name a GeoTIFF; an upload may not have finished")
    (start,) = data.read_ranges([(0, min(_LOOKED_AT, data.size))])
    if start.startswith(MAGIC):
        return
    for begun, table in ((start, _BEGINNINGS), (_text(start), _TEXTS)):
        for beginning, what, remedy in table:
            if begun.startswith(beginning):
                raise Refused(f"{data.name} is not a TIFF but {what}", remedy)
    raise Refused(f"{data.name} is not a TIFF", _CONVERT)
