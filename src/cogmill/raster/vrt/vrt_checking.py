"""Whether a VRT's pixels can be read exactly, and what it is made of.

GDAL composes the pixels of a VRT (`vrt_reading`), but only of one whose pixels do not depend on how
it is read: members at their own resolution, on whole pixels, computed on pixel by pixel. All else
is refused by the element's name. What is unknown is refused too: GDAL would heed it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from cogmill.errors import Refused
from cogmill.raster.gdal import OPEN_MEMBERS
from cogmill.raster.geometry.grid import Window
from cogmill.raster.tiff.header import ByteSource, read_exactly
from cogmill.raster.vrt.vrt_document import (
    SOURCE_ELEMENTS,
    MemberShape,
    PlacedBand,
    VrtDocument,
)
from cogmill.raster.warp.warp_spec import GDAL_TYPES

#: VRTs in VRTs: GDAL holds one of its few open members for each level.
_DEEPEST: Final = OPEN_MEMBERS - 1
#: GDAL's own tools write offsets with noise in their last digits.
_NOISE: Final = 1e-4
_TRANSLATE: Final = "make one raster of it first: gdal_translate INPUT OUTPUT.tif"
_OF_SOURCES: Final = frozenset(
    {
        "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA",
        "UseMaskBand", "ScaleOffset", "ScaleRatio", "LUT", "ColorTableComponent",
    }
)  # fmt: skip
_OF_BANDS: Final = frozenset(
    {
        "Description", "UnitType", "Offset", "Scale", "CategoryNames", "ColorTable",
        "GDALRasterAttributeTable", "NoDataValue", "HideNoDataValue", "ColorInterp", "Metadata",
        "PixelFunctionType", "PixelFunctionLanguage", "PixelFunctionArguments",
        "SourceTransferType", "MaskBand",
    }
)  # fmt: skip
_OF_DATASETS: Final = frozenset(
    {"SRS", "GeoTransform", "GCPList", "Metadata", "MaskBand", "VRTRasterBand",
     "BlockXSize", "BlockYSize"}
)  # fmt: skip
#: Never read: overviews are resampled, statistics are not trusted.
_DROPPED: Final = frozenset({"OverviewList", "Overview", "Histograms"})
_BANDS: Final = frozenset({"VRTSourcedRasterBand", "VRTDerivedRasterBand"})


@dataclass(frozen=True, slots=True)
class NamedMember:
    """A file that a VRT names.

    Attributes
    ----------
    name : str
        As it is written there.
    relative : bool
        Whether that is from the VRT's folder.
    holder : str
        What the VRT is called.
    """

    name: str
    relative: bool
    holder: str


@dataclass(frozen=True, slots=True)
class FoundMember:
    """A file that was looked up.

    Attributes
    ----------
    data : ByteSource
        Its bytes, under the name that names it for good.
    gdal_path : str
        The same for GDAL.
    virtual : bool
        Whether it is a VRT.
    """

    data: ByteSource
    gdal_path: str
    virtual: bool


FindMember = Callable[[NamedMember], FoundMember]


def checked_document(data: ByteSource, find: FindMember) -> VrtDocument:
    """Read a VRT and all VRTs in it.

    Parameters
    ----------
    data : ByteSource
        The VRT.
    find : callable
        Looks up what a VRT names, or refuses it.

    Raises
    ------
    Refused
        It cannot be understood, its pixels would depend on how it is read, or `find` refuses.
    """
    found = VrtDocument(root=_parsed(data))
    found.root = _Checked(found, cache(find)).dataset(data, found.root, depth=1)
    return found


def _parsed(data: ByteSource) -> Element:
    (text,) = read_exactly(data, [(0, data.size)])
    damaged = "write it again: gdalbuildvrt or gdal_translate -of VRT"
    if b"<!" in text.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise Refused(f"the VRT {data.name} declares a document type or entities", damaged)
    try:
        return ElementTree.fromstring(text.lstrip(b"\xef\xbb\xbf \t\r\n"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Refused(f"the VRT {data.name} is no XML ({error})", damaged) from error


class _Checked:
    """Walks through a VRT, and notes in a `VrtDocument` what it is made of."""

    def __init__(self, into: VrtDocument, find: FindMember) -> None:
        self._into = into
        self._find = find
        self._seen: dict[str, int] = {}

    def dataset(self, data: ByteSource, root: Element, depth: int) -> Element:
        """Return a VRT with all names resolved."""
        if depth > _DEEPEST:
            raise Refused(f"{data.name} is a VRT {_DEEPEST} VRTs deep in another", _TRANSLATE)
        self._into.virtual.append(data)
        kind = _subclass(root, "VRTDataset")
        if root.tag != "VRTDataset" or kind != "VRTDataset":
            raise _depends(data, f"a {kind if root.tag == 'VRTDataset' else root.tag}")
        known = _known(root)
        if min(known.width, known.height) < 1 or not {*known.types} <= {*GDAL_TYPES.values()}:
            raise Refused(
                f"{data.name} is a VRT of {known.width} x {known.height} pixels and bands of "
                f"{', '.join(known.types) or 'no type'}, which cannot be held",
                "write it again: gdalbuildvrt or gdal_translate -of VRT",
            )
        made = Element("VRTDataset", dict(root.attrib))
        for part in root:
            if part.tag in _DROPPED:
                continue
            _demand(part, _OF_DATASETS, data)
            match part.tag:
                case "VRTRasterBand":
                    made.append(self._band(part, data, root, depth))
                case "MaskBand":
                    made.append(self._mask(part, data, root, depth))
                case _:
                    made.append(part)
        return made

    def _mask(self, part: Element, data: ByteSource, root: Element, depth: int) -> Element:
        made = Element("MaskBand")
        for band in part:
            _demand(band, frozenset({"VRTRasterBand"}), data)
            made.append(self._band(band, data, root, depth, mask=True))
        return made

    def _band(
        self, band: Element, data: ByteSource, root: Element, depth: int, *, mask: bool = False
    ) -> Element:
        kind = _subclass(band, "VRTSourcedRasterBand")
        if kind not in _BANDS:
            raise _depends(data, f"a band of {kind}")
        language = band.findtext("PixelFunctionLanguage", "C").strip()
        if language.upper() != "C":
            raise Refused(
                f"{data.name} computes its pixels by a function in {language}, which is not run",
                _TRANSLATE,
            )
        made = Element("VRTRasterBand", dict(band.attrib))
        names: set[str] = set()
        for part in band:
            if part.tag in _DROPPED:
                continue
            _demand(part, _OF_BANDS | SOURCE_ELEMENTS, data)
            if part.tag in SOURCE_ELEMENTS:
                source, name = self._source(part, data, root, depth)
                made.append(source)
                names.add(name)
            elif part.tag == "MaskBand":
                made.append(self._mask(part, data, root, depth))
            else:
                made.append(part)
        if kind == "VRTDerivedRasterBand":
            count = sum(part.tag in SOURCE_ELEMENTS for part in band)
            self._into.sources = max(self._into.sources, count)
        if depth == 1 and not mask:
            self._into.bands.append(frozenset(names))
        return made

    def _source(
        self, source: Element, data: ByteSource, root: Element, depth: int
    ) -> tuple[Element, str]:
        """Return a source that names its member for GDAL, and that member's name."""
        for part in source:
            _demand(part, _OF_SOURCES, data)
        named = source.find("SourceFilename")
        if named is None or not (named.text or "").strip():
            raise Refused(f"{data.name} has a source without SourceFilename", _TRANSLATE)
        relative = named.get("relativeToVRT", named.get("relativetoVRT", "0")).strip() == "1"
        found = self._find(NamedMember((named.text or "").strip(), relative, data.name))
        window, at = _rectangles(source, root, data, found.data.name)
        self._into.computes |= source.tag == "ComplexSource"
        path = found.gdal_path
        if found.virtual and self._seen.get(path, 0) <= depth:
            # Again where it lies deeper: how deep all of it lies is what is limited.
            self._into.inner[path] = self.dataset(found.data, _parsed(found.data), depth + 1)
            self._into.known[path] = _known(self._into.inner[path])
            self._seen[path] = depth + 1
        if path not in self._into.inner:
            self._into.rasters[path] = found.data
        number = source.findtext("SourceBand", "1").strip()
        self._into.placed.append(PlacedBand(data.name, path, window, number))
        made = Element(source.tag)
        name = Element("SourceFilename", {"relativeToVRT": "0"})
        name.text = path
        made.append(name)
        replaced = ("SourceFilename", "SourceProperties", "SrcRect", "DstRect")
        made.extend(part for part in source if part.tag not in replaced)
        made.extend([_rectangle("SrcRect", window), _rectangle("DstRect", at)])
        return made, found.data.name


def _subclass(element: Element, default: str) -> str:
    """Return what kind of dataset or band it is; GDAL heeds an attribute's name in any case."""
    named = {name.lower(): value for name, value in element.attrib.items()}
    return named.get("subclass", default)


def _demand(part: Element, known: frozenset[str], data: ByteSource) -> None:
    if part.tag not in known:
        raise _depends(data, f"{part.tag}")


def _depends(data: ByteSource, what: str) -> Refused:
    return Refused(
        f"{data.name} is a VRT with {what}, whose pixels may depend on how it is read", _TRANSLATE
    )


def _rectangles(
    source: Element, root: Element, data: ByteSource, member: str
) -> tuple[Window, Window]:
    """Return what of a member is read, and where it lies in the VRT, on whole pixels."""
    sides = [_sides(source.find(tag)) for tag in ("SrcRect", "DstRect")]
    if sides == [None, None]:
        size = [_number(root.get(name)) for name in ("rasterXSize", "rasterYSize")]
        sides = [(0.0, 0.0, *size), (0.0, 0.0, *size)]
    if None in sides:
        raise Refused(f"{data.name} does not say where in it {member} lies", _TRANSLATE)
    found = [[round(value) for value in each or ()] for each in sides]
    noise = [
        abs(value - whole)
        for each, rounded in zip(sides, found, strict=True)
        for value, whole in zip(each or (), rounded, strict=True)
    ]
    # Written so that a NaN is refused.
    if not max(noise) <= _NOISE or found[0][2:] != found[1][2:]:
        raise Refused(
            f"{data.name} resamples {member}, and its pixels may depend on how it is read",
            _TRANSLATE,
        )
    if min(*found[0][:2], *(side - 1 for side in found[0][2:])) < 0:
        raise Refused(f"{data.name} reads beyond the pixels of {member}", _TRANSLATE)
    window, at = (dict(zip(_SIDES, each, strict=True)) for each in found)
    return Window(**window), Window(**at)


_SIDES: Final = ("col_off", "row_off", "width", "height")
_RECTANGLE: Final = ("xOff", "yOff", "xSize", "ySize")


def _sides(rectangle: Element | None) -> tuple[float, ...] | None:
    if rectangle is None:
        return None
    return tuple(_number(rectangle.get(name)) for name in _RECTANGLE)


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return 0.5  # no whole pixel
    return value if abs(value) < 2**31 else 0.5


def _rectangle(tag: str, window: Window) -> Element:
    return Element(tag, dict(zip(_RECTANGLE, map(str, window.rectangle), strict=True)))


def _known(root: Element) -> MemberShape:
    """Return what a VRT says of itself."""
    width, height = (int(_number(root.get(name))) for name in ("rasterXSize", "rasterYSize"))
    types = tuple(band.get("dataType", "Byte") for band in root.findall("VRTRasterBand"))
    return MemberShape(width, height, min(width, 128), min(height, 128), types)
