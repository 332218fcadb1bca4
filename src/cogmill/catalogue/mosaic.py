"""Two indexes of a mosaic: a GDAL VRT, which opens as one raster, and a GeoJSON of the tiles.

Both name the tiles relative to themselves and are sorted, so the folder may move and the bytes
follow from the result alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final, Self
from xml.etree import ElementTree as ET

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cogmill.catalogue.manifest import Rectangle, ResultGrid, relative_name

VRT_NAME: Final = "mosaic.vrt"
GEOJSON_NAME: Final = "mosaic.geojson"

_FROZEN: Final = ConfigDict(frozen=True, extra="forbid")

_GDAL_TYPE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "uint8": "Byte",
        "int8": "Int8",
        "uint16": "UInt16",
        "int16": "Int16",
        "uint32": "UInt32",
        "int32": "Int32",
        "uint64": "UInt64",
        "int64": "Int64",
        "float32": "Float32",
        "float64": "Float64",
        "complex_int16": "CInt16",
        "complex64": "CFloat32",
        "complex128": "CFloat64",
    }
)
#: rasterio's names that GDAL spells in a way of its own; all others begin with a capital.
_GDAL_COLOUR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Y": "YCbCr_Y",
        "Cb": "YCbCr_Cb",
        "Cr": "YCbCr_Cr",
        "rededge": "RedEdge",
        "nir": "NIR",
        "swir": "SWIR",
        "mwir": "MWIR",
        "lwir": "LWIR",
        "tir": "TIR",
        "other_ir": "OtherIR",
        "sar_ka": "SAR_Ka",
        "sar_k": "SAR_K",
        "sar_ku": "SAR_Ku",
        "sar_x": "SAR_X",
        "sar_c": "SAR_C",
        "sar_s": "SAR_S",
        "sar_l": "SAR_L",
        "sar_p": "SAR_P",
    }
)
#: XML 1.0 has no way to write these, escaped or not.
_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
#: Decimals of a degree: a tenth of a millimetre, beyond what differs between two PROJ builds.
_DEGREE_DECIMALS: Final = 9


class MosaicBand(BaseModel):
    """One band, the same in every tile.

    Parameters
    ----------
    dtype : str
        NumPy's name, such as ``uint8``.
    color_interpretation : str
        rasterio's name, such as ``gray``.
    nodata : int, float or None
        The value without meaning; NaN is one.
    scale, offset : float
        ``value = pixel * scale + offset``; not written when they change nothing.
    unit, description : str
        As in the tiles; empty for none.
    tags : mapping of str to str
        Of the band.
    """

    model_config = _FROZEN

    dtype: str
    color_interpretation: str = "undefined"
    nodata: int | float | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    description: str = ""
    tags: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("dtype")
    @classmethod
    def _is_known(cls, dtype: str) -> str:
        if dtype not in _GDAL_TYPE:
            raise ValueError(f"GDAL has no pixel type {dtype!r}")
        return dtype


class MosaicTile(BaseModel):
    """One COG of the mosaic: its name relative to the index, and the pixels that it holds."""

    model_config = _FROZEN

    name: str
    window: Rectangle

    @field_validator("name")
    @classmethod
    def _stays_below(cls, name: str) -> str:
        return relative_name(name)


class MosaicIndex(BaseModel):
    """All that an index says; tiles of empty pixels are simply not among `tiles`.

    Parameters
    ----------
    grid : ResultGrid
        Of the whole.
    bands : tuple of MosaicBand
        In order.
    tiles : tuple of MosaicTile
        Sorted by name, whatever the order given.
    block : int
        Edge of the tiles' internal blocks in pixels.
    overview_factors : tuple of int
        Of the levels that every tile carries, such as ``(2, 4, 8)``. Readers that warp choose a
        level by this list; decimated reads find the tiles' levels with or without it. Where the
        grid's size is no multiple of a factor, GDAL shows that level up to one of its pixels off,
        since it scales by the ratio of the two sizes.
    has_mask : bool
        Whether the tiles carry an internal mask.
    palette : tuple of (red, green, blue, alpha) or None
        Of the first band, 0 to 255.
    tags : mapping of str to str
        Of the dataset, ``AREA_OR_POINT`` among them.
    """

    model_config = _FROZEN

    grid: ResultGrid
    bands: tuple[MosaicBand, ...] = Field(min_length=1)
    tiles: tuple[MosaicTile, ...]
    block: int = Field(default=512, gt=0)
    overview_factors: tuple[int, ...] = ()
    has_mask: bool = False
    palette: tuple[tuple[int, int, int, int], ...] | None = None
    tags: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("tiles")
    @classmethod
    def _sorted(cls, tiles: tuple[MosaicTile, ...]) -> tuple[MosaicTile, ...]:
        return tuple(sorted(tiles, key=lambda each: each.name))

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for tile in self.tiles:
            if not self.grid.holds(tile.window):
                raise ValueError(f"{tile.name} does not lie in the grid")
        return self


class TileOutline(BaseModel):
    """Where a tile lies: the closed or open outline in degrees, ``(longitude, latitude)``, WGS 84.

    A tile's edges are curves in degrees: the caller gives as many points as it wants them followed,
    and none where the tile has no place on Earth: then the index names it without a geometry.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    outline: tuple[tuple[float, float], ...]

    @field_validator("name")
    @classmethod
    def _stays_below(cls, name: str) -> str:
        return relative_name(name)

    @field_validator("outline")
    @classmethod
    def _is_polygon(
        cls, outline: tuple[tuple[float, float], ...]
    ) -> tuple[tuple[float, float], ...]:
        if len(outline) in (1, 2):
            raise ValueError("an outline has three points at least, or none")
        return outline


def mosaic_vrt(index: MosaicIndex) -> bytes:
    """Return a GDAL VRT that shows the tiles as one raster.

    Where a tile is missing it shows nodata, an empty mask, a transparent alpha, or else 0.
    Opening it opens no tile: it says what GDAL would look for in them.
    """
    grid = index.grid
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    if grid.crs is not None:
        _child(root, "SRS", grid.crs)
    _child(root, "GeoTransform", ", ".join(_number(value) for value in grid.transform))
    _metadata(root, index.tags)
    for number, band in enumerate(index.bands, start=1):
        element = _band_element(root, band.dtype, index.block, number)
        _describe(element, band)
        if number == 1 and index.palette is not None:
            _colour_table(element, index.palette)
        _sources(element, index, str(number), band.dtype)
    if index.has_mask:
        mask = _band_element(ET.SubElement(root, "MaskBand"), "uint8", index.block)
        _sources(mask, index, "mask,1", "uint8")
    if index.overview_factors:
        levels = " ".join(map(str, index.overview_factors))
        _child(root, "OverviewList", levels, resampling="nearest")
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode").encode() + b"\n"


def mosaic_geojson(outlines: Sequence[TileOutline]) -> bytes:
    """Return a FeatureCollection (RFC 7946) with a polygon for each tile, by name.

    The name is the property ``location``, as in an index that gdaltindex makes.
    """
    features = [
        {
            "type": "Feature",
            "properties": {"location": each.name},
            "geometry": {"type": "Polygon", "coordinates": [_ring(each.outline)]}
            if each.outline
            else None,
        }
        for each in sorted(outlines, key=lambda each: each.name)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    # One line a feature: a person compares two indexes line by line.
    text = json.dumps(collection, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (text.replace('{"type":"Feature",', '\n{"type":"Feature",') + "\n").encode()


def _band_element(parent: ET.Element, dtype: str, block: int, number: int = 0) -> ET.Element:
    attributes = {"dataType": _GDAL_TYPE[dtype]}
    if number:
        attributes["band"] = str(number)
    attributes |= {"blockXSize": str(block), "blockYSize": str(block)}
    return ET.SubElement(parent, "VRTRasterBand", attributes)


def _describe(element: ET.Element, band: MosaicBand) -> None:
    _metadata(element, band.tags)
    _child(element, "Description", band.description)
    if band.nodata is not None:
        _child(element, "NoDataValue", _number(band.nodata))
    _child(element, "UnitType", band.unit)
    if (band.offset, band.scale) != (0.0, 1.0):
        _child(element, "Offset", _number(band.offset))
        _child(element, "Scale", _number(band.scale))
    colour = band.color_interpretation
    if colour != "undefined":
        _child(element, "ColorInterp", _GDAL_COLOUR.get(colour, colour.capitalize()))


def _colour_table(element: ET.Element, palette: Sequence[tuple[int, int, int, int]]) -> None:
    table = ET.SubElement(element, "ColorTable")
    for colour in palette:
        entry = {f"c{index}": str(value) for index, value in enumerate(colour, start=1)}
        ET.SubElement(table, "Entry", entry)


def _sources(element: ET.Element, index: MosaicIndex, band: str, dtype: str) -> None:
    block = str(index.block)
    for tile in index.tiles:
        col, row, width, height = map(str, tile.window)
        source = ET.SubElement(element, "SimpleSource")
        # GDAL's XML reader drops spaces that a text begins with.
        name = f"./{tile.name}" if tile.name[0].isspace() else tile.name
        ET.SubElement(source, "SourceFilename", relativeToVRT="1").text = name
        _child(source, "SourceBand", band)
        ET.SubElement(
            source,
            "SourceProperties",
            RasterXSize=width,
            RasterYSize=height,
            DataType=_GDAL_TYPE[dtype],
            BlockXSize=block,
            BlockYSize=block,
        )
        ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
        ET.SubElement(source, "DstRect", xOff=col, yOff=row, xSize=width, ySize=height)


def _metadata(parent: ET.Element, tags: Mapping[str, str]) -> None:
    # The tiles keep every tag; here one that XML cannot write would make the index unreadable.
    writable = {
        key: value for key, value in sorted(tags.items()) if not _NOT_XML.search(key + value)
    }
    if writable:
        element = ET.SubElement(parent, "Metadata")
        for key, value in writable.items():
            _child(element, "MDI", value, key=key)


def _child(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    """Add an element with text; an empty text adds nothing."""
    if text:
        ET.SubElement(parent, tag, attributes).text = _NOT_XML.sub("", text)


def _number(value: int | float) -> str:
    """Return the shortest text that reads back as the same number."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "nan"
    whole = value.is_integer() and abs(value) < 2**53
    return str(int(value)) if whole else repr(value)


def _ring(outline: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Return the outline closed and counterclockwise, as RFC 7946 wants an outer ring."""
    # Adding 0.0 turns a rounded -0.0, which would depend on the last bit, into 0.0.
    points = [[round(axis, _DEGREE_DECIMALS) + 0.0 for axis in point] for point in outline]
    if points[0] == points[-1]:
        points.pop()
    ring = [*points, points[0]]
    return ring if _signed_area(ring) >= 0 else ring[::-1]


def _signed_area(ring: Sequence[Sequence[float]]) -> float:
    """Return the area by the shoelace formula, positive for a counterclockwise ring."""
    return math.fsum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2
