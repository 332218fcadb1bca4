"""TIFF tags: GDAL's own for what GeoTIFF and GDAL say of an image, and directories of them.

Which keys a CRS becomes, how metadata is spelt and which samples are extra is GDAL's knowledge: it
writes a file of one block with the same description, tifffile reads it, and the tags go over
unchanged: also those of a compression (subsampling of YCbCr, LERC's parameters, the quality). What
concerns size and blocks is ours, and the tables of JPEG are those of our encoder.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyproj
import tifffile
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from cogmill.errors import Refused
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.geometry.crs import authority_code, differ_in_words_alone

#: Tags that `file_layout` writes itself, and those that would tell a clock, a host or a program.
_NOT_HARVESTED: Final = frozenset(
    {254, 255, 256, 257, 259, 266, 273, 278, 279, 284, 317, 322, 323, 324, 325, 305, 306, 316}
)
#: What describes samples, and so stands in the directories of overviews as well.
_OF_SAMPLES: Final = frozenset({258, 262, 277, 320, 338, 339, 347, 530, 532, 42113, 50674})
_UNWANTED_ITEMS: Final = frozenset(
    {"AREA_OR_POINT", "TIFFTAG_SOFTWARE", "TIFFTAG_DATETIME", "TIFFTAG_HOSTCOMPUTER"}
)
_STATISTICS: Final = "STATISTICS_"

JPEG_TABLES: Final = 347
OFFSETS: Final = 324
BYTE_COUNTS: Final = 325
UNDEFINED: Final = 7
SHORT: Final = 3
LONG: Final = 4
LONG8: Final = 16
_FORMATS: Final = {SHORT: "H", LONG: "I", LONG8: "Q"}


@dataclass(frozen=True)
class Tag:
    """One tag of a directory.

    Attributes
    ----------
    code, type, count : int
        As TIFF numbers them.
    value : bytes
        Little-endian; for tables of blocks, which are written later, zeros are never made: empty.
    nbytes : int
        Length of the value in bytes.
    """

    code: int
    type: int
    count: int
    value: bytes
    nbytes: int

    @property
    def is_table(self) -> bool:
        """Whether it is a table of blocks, written when all other directories are."""
        return self.code in (OFFSETS, BYTE_COUNTS)


def number_tag(code: int, *values: int) -> Tag:
    """Return a tag of whole numbers, 16 bits wide where they fit."""
    kind = SHORT if max(values) < 1 << 16 else LONG
    data = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
    return Tag(code, kind, len(values), data, len(data))


def table_tag(code: int, count: int, kind: int) -> Tag:
    """Return a table of blocks whose values are written later."""
    return Tag(code, kind, count, b"", count * struct.calcsize(f"<{_FORMATS[kind]}"))


def image_tags(image: CogImage) -> tuple[Tag, ...]:
    """Return the tags that GDAL writes for the description of an image, as they stand in a file.

    Parameters
    ----------
    image : CogImage
        Size, blocks and compression do not matter.

    Raises
    ------
    Refused
        When a GeoTIFF cannot say what the image says; GDAL would write a sidecar for it.
    """
    data = _tiny_geotiff(image)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = {
            tag.code: Tag(
                tag.code,
                int(tag.dtype),
                tag.count,
                data[tag.valueoffset : tag.valueoffset + tag.valuebytecount],
                tag.valuebytecount,
            )
            for tag in file.pages.first.tags
            if tag.code not in _NOT_HARVESTED
        }
    tables = image.codec.jpeg_tables
    if tables is not None:
        found[JPEG_TABLES] = Tag(JPEG_TABLES, UNDEFINED, len(tables), tables, len(tables))
    return tuple(tag for _, tag in sorted(found.items()))


def overview_tags(tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """Return those of an image's tags that its overviews carry too."""
    return tuple(tag for tag in tags if tag.code in _OF_SAMPLES)


def wanted_items(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that is written: no statistics, software, host or time."""
    return {
        key: value
        for key, value in sorted(tags.items())
        if key not in _UNWANTED_ITEMS and not key.startswith(_STATISTICS)
    }


@contextmanager
def ungeoreferenced_is_no_news() -> Iterator[None]:
    """Keep rasterio from warning of images without a transform."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def crs_of(image: CogImage) -> CRS | None:
    """Return the coordinate system of an image as GDAL knows it, None where it has none.

    Raises
    ------
    Refused
        When GDAL does not know it.
    """
    if not image.grid.crs:
        return None
    try:
        if (code := authority_code(image.grid.crs)) is not None:
            with suppress(CRSError):  # GDAL's database may not have it: then by its words
                known = CRS.from_authority(*code)
                if differ_in_words_alone(*map(pyproj.CRS.from_user_input, (known, image.grid.crs))):
                    return known
        crs = CRS.from_user_input(image.grid.crs)
        # WKT with a code for the whole names no parts, and GDAL then looks for a vertical datum by
        # a text that many have: asked for by the code, the system knows its parts.
        authority = crs.to_authority(confidence_threshold=100)
        known = CRS.from_authority(*authority) if authority else crs
        return known if known == crs else crs
    except CRSError as error:
        raise Refused(
            f"GDAL does not know the coordinate system {image.grid.crs[:60]!r}: {error}",
            "name another with --dst-crs or --src-crs",
        ) from error


def _tiny_geotiff(image: CogImage) -> bytes:
    profile = {
        "driver": "GTiff",
        "width": 1,
        "height": 1,
        "count": image.bands,
        "dtype": image.dtype,
        "nodata": image.nodata_value,
        "photometric": _photometric(image),
        "alpha": "NO" if image.alpha is None else "UNSPECIFIED",
        "interleave": image.interleave,
        "endianness": "LITTLE",
        **_compression(image),
    }
    crs, transform = crs_of(image), Affine.from_gdal(*image.grid.transform)
    if crs is not None:
        profile["crs"] = crs
    if transform != Affine.identity():
        profile["transform"] = transform
    try:
        with ungeoreferenced_is_no_news(), MemoryFile() as memory:
            with memory.open(**profile) as dataset:
                _describe(dataset, image)
            data = bytes(memory.getbuffer())
        with (
            ungeoreferenced_is_no_news(),
            MemoryFile(data) as memory,
            memory.open() as dataset,
        ):
            _check_said(dataset, image)
    except (RasterioError, ValueError) as error:
        raise Refused(
            f"a GeoTIFF cannot be described so: {error}", "report it with the source's gdalinfo"
        ) from error
    return data


def _compression(image: CogImage) -> dict[str, Any]:
    """Return GDAL's options of a compression that says more of itself than its number."""
    codec = image.codec
    if codec.compression == "jpeg":
        return {"compress": "JPEG", "jpeg_quality": codec.quality}
    if codec.compression == "webp":
        return {
            "compress": "WEBP",
            "webp_lossless": "NO" if codec.lossy else "YES",
            "webp_level": codec.quality,
        }
    if codec.max_z_error is not None:
        return {"compress": codec.compression.upper(), "max_z_error": repr(codec.max_z_error)}
    return {}


def _photometric(image: CogImage) -> str:
    if image.palette is not None:
        return "PALETTE"
    if image.white_is_zero:
        return "MINISWHITE"
    if image.codec.compression == "jpeg" and image.bands == 3:
        return "YCBCR"
    return "RGB" if image.color_interpretation[:3] == ("red", "green", "blue") else "MINISBLACK"


def _describe(dataset: Any, image: CogImage) -> None:
    if image.palette is not None:
        dataset.write_colormap(1, dict(enumerate(image.palette)))
    elif image.color_interpretation and not image.white_is_zero:
        dataset.colorinterp = [ColorInterp[name] for name in image.color_interpretation]
    if any(scale != 1 for scale in image.scales):
        dataset.scales = image.scales
    if any(offset != 0 for offset in image.offsets):
        dataset.offsets = image.offsets
    if any(image.units):
        dataset.units = [unit or "" for unit in image.units]
    if any(image.descriptions):
        dataset.descriptions = [text or "" for text in image.descriptions]
    dataset.update_tags(AREA_OR_POINT=image.area_or_point, **wanted_items(image.tags))
    for band, items in enumerate(image.band_tags, start=1):
        dataset.update_tags(band, **wanted_items(items))


def _check_said(dataset: Any, image: CogImage) -> None:
    """Refuse what GeoTIFF loses, before any work is done."""
    crs = crs_of(image)
    if crs is not None and dataset.crs != crs:
        raise Refused(
            f"a GeoTIFF cannot hold the coordinate system {crs.to_string()[:60]!r}",
            "name one with an EPSG code with --dst-crs or --src-crs",
        )
    said = {key: value for key, value in dataset.tags().items() if key != "AREA_OR_POINT"}
    lost = sorted(set(wanted_items(image.tags).items()) - set(said.items()))
    for band, items in enumerate(image.band_tags, start=1):
        lost += sorted(set(wanted_items(items).items()) - set(dataset.tags(band).items()))
    if lost:
        raise Refused(
            f"a GeoTIFF cannot hold the metadata item {lost[0][0]!r}", "remove it from the source"
        )
    names = tuple(color.name for color in dataset.colorinterp)
    wanted = image.color_interpretation
    if wanted[:1] == ("undefined",):
        wanted = ("gray", *wanted[1:])  # A TIFF says of its first sample what black is.
    if image.white_is_zero:
        wanted = ()  # GDAL calls such a band gray or undefined, by its type.
    if image.palette is None and wanted not in ((), names):
        raise Refused(
            f"a GeoTIFF cannot hold the colours {', '.join(image.color_interpretation)}",
            "change the colour interpretation of the source",
        )
    for name in ("scales", "offsets"):
        expected = getattr(image, name)
        if expected and not np.array_equal(getattr(dataset, name), expected, equal_nan=True):
            raise Refused(f"a GeoTIFF cannot hold the {name} {expected}", "change the source")
