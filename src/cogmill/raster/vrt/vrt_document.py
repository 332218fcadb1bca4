"""A VRT as a document for GDAL: every name in it absolute, every VRT in it written out.

Nothing in it has the same name each time that it is opened. GDAL keeps what it opened in a pool, by
name, options and the address of who asked, which the next VRT may have again. A VRT in a VRT keeps
that pool alive for ever; who then finds in it a file that was replaced reads the old one, and one
that could not be opened reads as 0, and nothing is said.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Comment, Element, SubElement

from cogmill.errors import Refused
from cogmill.raster.geometry.grid import Window
from cogmill.raster.tiff.header import ByteSource

#: The elements that name a member.
SOURCE_ELEMENTS: Final = frozenset({"SimpleSource", "ComplexSource"})
#: In the text of every VRT of a document and in the options of every raster; see `renamed_text`.
_MARK: Final = "cogmill-opens-this-vrt"
#: Values of GTiff's option GEOREF_SOURCES: any list of them opens a file. Members lie where the VRT
#: says, so the lists are free to count with.
_DIGITS: Final = ("PAM", "INTERNAL", "TABFILE", "WORLDFILE")
_OPENINGS: Final = count()
#: Characters of all VRTs in one, each as often as it is named there: tasks parse them all.
_LONGEST: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class MemberShape:
    """What GDAL shall take for granted of a member, so that it opens none before it reads it.

    Attributes
    ----------
    width, height, block_width, block_height : int
        In pixels.
    types : tuple of str
        GDAL's name of each band's.
    """

    width: int
    height: int
    block_width: int
    block_height: int
    types: tuple[str, ...]

    def element(self, band: str) -> Element:
        """Return it as a VRT says it of a source that reads this band."""
        number = int(band) if band.isdecimal() else 0
        kind = self.types[number - 1] if 1 <= number <= len(self.types) else "Byte"
        said = {
            "RasterXSize": self.width, "RasterYSize": self.height, "DataType": kind,
            "BlockXSize": self.block_width, "BlockYSize": self.block_height,
        }  # fmt: skip
        return Element("SourceProperties", {name: str(value) for name, value in said.items()})

    def hollow(self) -> Element:
        """Return a VRT that is like the member, and made of nothing."""
        made = Element(
            "VRTDataset", {"rasterXSize": str(self.width), "rasterYSize": str(self.height)}
        )
        for kind in self.types:
            SubElement(made, "VRTRasterBand", {"dataType": kind})
        return made


@dataclass(frozen=True, slots=True)
class PlacedBand:
    """What is read of one band of a member.

    Attributes
    ----------
    holder : str
        The VRT that says so.
    path : str
        The member, for GDAL.
    window : Window
        What of the member is read.
    band : str
        A number, or ``mask`` and perhaps a number.
    """

    holder: str
    path: str
    window: Window
    band: str


@dataclass(slots=True)
class VrtDocument:
    """A checked VRT.

    Attributes
    ----------
    root : Element
        Every name is for GDAL.
    inner : dict of str to Element
        The VRTs in it likewise, by that name.
    known : dict of str to MemberShape
        What these say of themselves.
    rasters : dict of str to ByteSource
        Members that are no VRT, by their path for GDAL.
    virtual : list of ByteSource
        The VRT and those in it.
    placed : list of PlacedBand
        What is read of each raster, and of each VRT in another.
    bands : list of frozenset of str
        The members, VRTs in it by their names, that each band is made of.
    sources : int
        The most sources of a band that computes from all of them at a time.
    computes : bool
        Whether any source's values are computed on.
    """

    root: Element
    inner: dict[str, Element] = field(default_factory=dict)
    known: dict[str, MemberShape] = field(default_factory=dict)
    rasters: dict[str, ByteSource] = field(default_factory=dict)
    virtual: list[ByteSource] = field(default_factory=list)
    placed: list[PlacedBand] = field(default_factory=list)
    bands: list[frozenset[str]] = field(default_factory=list)
    sources: int = 0
    computes: bool = False

    def text(self, known: Mapping[str, MemberShape]) -> str:
        """Return it for GDAL, which opens what `renamed_text` makes of it.

        Parameters
        ----------
        known : mapping of str to MemberShape
            What is known of each raster, by its path.

        Raises
        ------
        Refused
            Its VRTs name each other so often that written out they are endless.
        """
        return self._text(self.root, {**known, **self.known}, {})

    def computed(self, known: Mapping[str, MemberShape]) -> Iterator[str]:
        """Yield a VRT of each band that is computed of others, over rasters without any pixels.

        Parameters
        ----------
        known : mapping of str to MemberShape
            What is known of each raster, by its path.
        """
        hollow = {path: each.hollow() for path, each in {**known, **self.known}.items()}
        alone = VrtDocument(root=self.root, inner=hollow, virtual=self.virtual)
        for root in (self.root, *self.inner.values()):
            for band in root.iter("VRTRasterBand"):
                if band.find("PixelFunctionType") is not None:
                    made = Element("VRTDataset", {"rasterXSize": "1", "rasterYSize": "1"})
                    made.append(band)
                    yield alone._text(made, {**known, **self.known}, {})

    def _text(self, root: Element, known: Mapping[str, MemberShape], texts: dict[str, str]) -> str:
        """Return a VRT written out; `texts` are those of VRTs in it, as far as they are known."""
        made, length = copy.deepcopy(root), 0
        made.insert(0, Comment(_MARK))
        for source in made.iter():
            if source.tag not in SOURCE_ELEMENTS:
                continue
            name = source.find("SourceFilename")
            if name is None or name.text is None:
                continue
            source.append(known[name.text].element(source.findtext("SourceBand", "1")))
            if name.text in self.inner:
                path = name.text
                if path not in texts:
                    texts[path] = self._text(self.inner[path], known, texts)
                name.text = texts[path]
                length += len(name.text)
                if length > _LONGEST:
                    raise Refused(
                        f"{self.virtual[0].name} names {path} too often to be written out",
                        "name the rasters themselves in one VRT: gdalbuildvrt",
                    )
            else:
                option = SubElement(SubElement(source, "OpenOptions"), "OOI")
                option.set("key", "GEOREF_SOURCES")
                option.text = _MARK
        return ElementTree.tostring(made, encoding="unicode")


def renamed_text(text: str) -> str:
    """Return a document in which nothing has a name or options that this process used before."""
    left = next(_OPENINGS)
    digits: list[str] = []
    while left or not digits:
        left, digit = divmod(left, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return text.replace(_MARK, ",".join(digits))
