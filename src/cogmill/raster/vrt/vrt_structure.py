"""What a VRT is made of: as `structure` for a GeoTIFF, but GDAL will read its members.

Where its blocks lie, what they pack to and what must be fetched for a window is an estimate from
the members' own blocks. What reading them takes of the memory is counted from those too, as an
upper bound: each member that GDAL keeps open may hold a whole decoded block or strip.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from cogmill.errors import Refused
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.gdal import OPEN_MEMBERS
from cogmill.raster.inspect.metadata import damaged_header, gdal_meaning
from cogmill.raster.inspect.source_file import VrtSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.tiff.block_table import (
    DAMAGE,
    REDUCED_BIT,
    BlockTable,
    ImageLayout,
    check_within,
    image_layout,
    opened_tiff,
    tiff_page,
)
from cogmill.raster.tiff.header import ByteSource, RecordingFile
from cogmill.raster.tiff.magic import check_magic
from cogmill.raster.tiff.nodata import source_nodata
from cogmill.raster.vrt.vrt_checking import FindMember, checked_document
from cogmill.raster.vrt.vrt_document import MemberShape, VrtDocument, renamed_text
from cogmill.raster.warp.warp_spec import GDAL_TYPES

#: What GDAL takes for no, in upper case.
_FALSE: Final = frozenset({"0", "NO", "FALSE", "OFF"})
#: GDAL's blocks of a VRT that says nothing else.
_BLOCK: Final = 128
_MOST_BLOCKS: Final = 1 << 20
#: Of a side in pixels.
_MOST_DIGITS: Final = 10
#: Of a block that is decoded, GDAL holds what the codec makes, the block with all its bands, and
#: the same band by band in its cache.
_COPIES: Final = 3
#: What the codec of an open file keeps, in decoded blocks: WebP and LERC the block itself, LERC its
#: mask and what is unpacked once more, a progressive JPEG its coefficients of 16 bits.
_KEPT_BY_CODEC: Final = {"webp": 1, "lerc": 2, "jpeg": 2}
#: A value that is computed on, and a band that is computed of others, are 64-bit floats, or pairs.
_COMPUTED: Final = 16


@dataclass(frozen=True, slots=True)
class _Raster:
    """A member that is no VRT.

    Attributes
    ----------
    known : MemberShape
        What GDAL need not ask again.
    block : tuple of (int, int)
        Width and height of its blocks; of strips the width is that of the raster.
    striped, apart : bool
        Whether it has strips, and whether each band has blocks of its own.
    encoded : int
        Bytes of its blocks, overviews left out.
    largest : int
        What GDAL holds of it at most, idle.
    longest : int
        What decoding takes beside that.
    size : int
        Of its file in bytes.
    files : tuple of str
        It and what lies beside it, as GDAL names them.
    """

    known: MemberShape
    block: tuple[int, int]
    striped: bool
    apart: bool
    encoded: int
    largest: int
    longest: int
    size: int
    files: tuple[str, ...]


def inspect_vrt(data: ByteSource, find: FindMember, cache_bytes: int) -> Structure:
    """Return the structure of a VRT, or refuse it.

    Parameters
    ----------
    data : ByteSource
        The VRT.
    find : callable
        Looks up what a VRT names, or refuses it: see `vrt_checking`.
    cache_bytes : int
        GDAL's block cache, as `gdal.environment` bounds it.

    Returns
    -------
    Structure
        As of a GeoTIFF; ``contributing_files`` are the VRT, all that it is made of, and what lies
        beside these.

    Raises
    ------
    Refused
        It or a member cannot be read, or its pixels would depend on how it is read.
    StorageUnavailable
        When the store does not answer.
    """
    found = checked_document(data, find)
    rasters = {path: _raster(member, path) for path, member in found.rasters.items()}
    known = {path: raster.known for path, raster in rasters.items()}
    _check_placed(found, {**known, **found.known})
    _check_functions(found, known, data.name)
    text = found.text(known)
    meaning = gdal_meaning(data.name, renamed_text(text), "VRT")
    types = {band.get("dataType", "Byte") for band in found.root.findall("VRTRasterBand")}
    if len(types) != 1:
        raise Refused(
            f"the bands of {data.name} are of several types ({', '.join(sorted(types))})",
            "make one raster of one type first: gdal_translate -ot TYPE INPUT OUTPUT.tif",
        )
    size = (meaning.pop("width"), meaning.pop("height"))
    image = _image(found, rasters, size, (meaning["bands"], meaning["dtype"]))
    said = _nodata(found)
    meaning["nodata"] = source_nodata(data.name, meaning["dtype"], meaning["nodata"], said)
    masked = meaning.pop("masked")
    return Structure.model_validate(
        meaning
        | {
            "name": data.name,
            "size_bytes": sum(part.size for part in found.virtual)
            + sum(raster.size for raster in rasters.values()),
            "file": _file(found, text, list(rasters.values()), cache_bytes),
            "image": image,
            "mask": _mask(image) if masked else None,
            "sparse_blocks": 0,
            "contributing_files": _files(found, rasters),
        }
    )


def _raster(data: ByteSource, path: str) -> _Raster:
    """Return what reading a member takes, from its tags and from GDAL."""
    check_magic(data)
    try:
        with opened_tiff(RecordingFile(data)) as tiff:
            indices = range(len(tiff.pages))
            own = [i for i in indices if not int(tiff_page(tiff, i).subfiletype) & REDUCED_BIT]
            layouts = [image_layout(tiff_page(tiff, i), i, data.name) for i in own]
    except DAMAGE as error:
        raise damaged_header(data.name, error) from error
    if not layouts:
        raise Refused(f"{data.name} holds no image of full size", "name a GeoTIFF in the VRT")
    for layout in layouts:
        check_within(layout, data.name, data.size)
    known, files = _known(data.name, path)
    image = layouts[0]
    counts = [layout.blocks.byte_counts for layout in layouts]
    return _Raster(
        known=known,
        block=(min(image.block_width, image.width), min(image.block_height, image.height)),
        striped=image.striped,
        apart=image.planar == "band",
        encoded=sum(int(count.sum()) for count in counts),
        largest=sum(
            layout.largest_block_bytes * (1 + _KEPT_BY_CODEC.get(layout.compression, 0))
            + int(count.max())
            for layout, count in zip(layouts, counts, strict=True)
        ),
        longest=max(layout.largest_block_bytes for layout in layouts) * (_COPIES - 1),
        size=data.size,
        files=files,
    )


def _known(name: str, path: str) -> tuple[MemberShape, tuple[str, ...]]:
    try:
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path, driver="GTiff") as dataset,
        ):
            height, width = dataset.block_shapes[0]
            types = tuple(GDAL_TYPES.get(dtype, "Byte") for dtype in dataset.dtypes)
            known = MemberShape(dataset.width, dataset.height, width, height, types)
            return known, tuple(dataset.files)
    except (RasterioError, UnicodeDecodeError) as error:
        raise damaged_header(name, error) from error


def _check_placed(found: VrtDocument, known: Mapping[str, MemberShape]) -> None:
    """Refuse pixels and bands that members do not have: GDAL may read them as nodata."""
    for placed in found.placed:
        has, band = known[placed.path], placed.band.removeprefix("mask").lstrip(",") or "1"
        there = band.isascii() and band.isdecimal() and 1 <= int(band) <= len(has.types)
        right, bottom = placed.window.col_stop, placed.window.row_stop
        if not there or right > has.width or bottom > has.height:
            what = f"band {placed.band}" if not there else f"pixels up to {right} x {bottom}"
            raise Refused(
                f"{placed.holder} reads {what} of {placed.path}, which has {len(has.types)} "
                f"bands of {has.width} x {has.height}",
                "make the VRT again from its members: gdalbuildvrt",
            )


def _check_functions(found: VrtDocument, known: Mapping[str, MemberShape], name: str) -> None:
    """Refuse functions that GDAL does not have, or that fail on these sources.

    A function may fail without a word, and who reads pixels is then given zeros. Checksums tell.
    """
    for text in found.computed(known):
        try:
            with (
                warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
                rasterio.open(renamed_text(text), driver="VRT") as dataset,
            ):
                dataset.checksum(1, window=RasterioWindow(0, 0, 1, 1))
        except RasterioError as error:
            function = ElementTree.fromstring(text).findtext("VRTRasterBand/PixelFunctionType", "")
            raise Refused(
                f"{name} computes its pixels by the function {function!r}, which fails on "
                "its sources, or is none of GDAL's own",
                "correct the VRT, or make one raster with gdal_calc.py",
            ) from error


def _nodata(found: VrtDocument) -> str:
    """Return the first nodata value that a band says, if it is not hidden: then it only fills."""
    for band in found.root.findall("VRTRasterBand"):
        if band.find("NoDataValue") is not None:
            hidden = band.findtext("HideNoDataValue", "0").strip().upper() not in _FALSE
            return "" if hidden else band.findtext("NoDataValue", "").strip()
    return ""


def _image(
    found: VrtDocument,
    rasters: dict[str, _Raster],
    size: tuple[int, int],
    pixel: tuple[int, str],
) -> ImageLayout:
    """Return how the VRT is best cut: as its members are where they agree, else as it says."""
    (width, height), (bands, dtype) = size, pixel
    across, down = _block(found, rasters, size)
    apart = len({*found.bands}) > 1 or any(raster.apart for raster in rasters.values())
    planes = bands if apart else 1
    count = ceil_div(width, across) * ceil_div(height, down) * planes
    # At least one byte each: a block of none would be one that was never written.
    each = max(sum(raster.encoded for raster in rasters.values()) // count, 1)
    return ImageLayout(
        width=width,
        height=height,
        block_width=across,
        block_height=down,
        striped=across == width and all(raster.striped for raster in rasters.values()),
        planar="band" if apart and bands > 1 else "pixel",
        samples=bands,
        dtype=dtype,
        bits=8 * np.dtype(dtype).itemsize,
        compression="vrt",
        predictor=1,
        blocks=BlockTable.of(np.arange(count) * each, np.full(count, each)),
        ifd=0,
    )


def _block(
    found: VrtDocument, rasters: dict[str, _Raster], size: tuple[int, int]
) -> tuple[int, int]:
    """Return width and height of a block of the VRT."""
    width, height = size
    blocks = {raster.block for raster in rasters.values()}
    if {raster.striped for raster in rasters.values()} == {True}:
        # Strips of members beside each other are as wide as the widest of these.
        blocks = {(max(w for w, _ in blocks), h) for _, h in blocks}
    if len(blocks) == 1:
        ((across, down),) = blocks
    else:
        across, down = (_said(found.root, tag) for tag in ("BlockXSize", "BlockYSize"))
    across, down = max(min(across, width), 1), max(min(down, height), 1)
    # Several together are as good an estimate, and a few bytes may say that a VRT is endless.
    while ceil_div(width, across) * ceil_div(height, down) > _MOST_BLOCKS:
        across, down = min(2 * across, width), min(2 * down, height)
    return across, down


def _said(root: Element, tag: str) -> int:
    """Return a side of a VRT's blocks; GDAL's own where the text is no number that it can be."""
    text = root.findtext(tag, "").strip()
    side = int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0
    return side or _BLOCK


def _mask(image: ImageLayout) -> ImageLayout:
    """Return the layout of a VRT's mask, whose bytes are among those of its members."""
    per_plane = image.blocks_across * image.blocks_down
    none = np.zeros(per_plane, np.int64)
    changes = {"samples": 1, "planar": "pixel", "dtype": "bool", "bits": 8}
    return image.model_copy(update={**changes, "blocks": BlockTable.of(none, none)})


def _file(found: VrtDocument, text: str, rasters: Sequence[_Raster], cache_bytes: int) -> VrtSource:
    idle = sorted((raster.largest for raster in rasters), reverse=True)[:OPEN_MEMBERS]
    working = max((raster.longest for raster in rasters), default=0)
    computing = _COMPUTED * (1 + found.sources) if found.computes or found.sources else 0
    return VrtSource(
        members=len(rasters),
        document=VrtSource.packed(text),
        decoding_bytes=cache_bytes + sum(idle) + working,
        pixel_scratch=computing,
    )


def _files(found: VrtDocument, rasters: dict[str, _Raster]) -> tuple[str, ...]:
    names: dict[str, None] = {data.name: None for data in found.virtual}
    for path, raster in rasters.items():
        names[found.rasters[path].name] = None
        names |= dict.fromkeys(file for file in raster.files if file != path)
    return tuple(names)
