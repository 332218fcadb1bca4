"""What a source is made of, read from the TIFF's own tags in a few small reads.

tifffile reads the tags, since they alone say where strips and blocks lie (GDAL shows a one-strip
8-bit file as one-row blocks); GDAL says what the pixels mean.
"""

from __future__ import annotations

from typing import Any, Final

import tifffile
from pydantic import BaseModel, ConfigDict

from cogmill.errors import Refused
from cogmill.raster.geometry.control import ControlPoint, Rational
from cogmill.raster.geometry.grid import GeoTransform
from cogmill.raster.inspect.metadata import damaged_header, gdal_meaning
from cogmill.raster.inspect.source_file import SourceFile, TiffSource
from cogmill.raster.tiff.block_table import (
    DAMAGE,
    ImageLayout,
    check_within,
    image_layout,
    leave_tables_out,
    opened_tiff,
    tiff_page,
)
from cogmill.raster.tiff.header import ByteSource, RecordingFile
from cogmill.raster.tiff.magic import check_magic
from cogmill.raster.tiff.nodata import source_nodata
from cogmill.raster.tiff.pages import ReducedImage, chosen_pages, reduced_images

_NODATA_TAG: Final = 42113


class Structure(BaseModel):
    """A source: how its pixels are stored and what they mean. Plain JSON, part of the plan.

    Attributes
    ----------
    name : str
        What messages call the source.
    size_bytes : int
        Of the raster's file; of a VRT, and of all that it is made of.
    file : TiffSource or VrtSource
        Where the pixels come from.
    image, mask : ImageLayout, ImageLayout or None
        The pixels; the mask that all bands share. Those of a VRT have no blocks in a file: theirs
        are those of its members where these agree, and their byte counts are an estimate.
    dtype : str
        NumPy name of one sample.
    bands : int
        Alpha included.
    crs : str or None
        As WKT2.
    transform : tuple of float or None
        Pixel to CRS as GDAL's six: x0, dx, rx, y0, ry, dy.
    nodata : tuple of (float or None)
        One a band.
    alpha_band : int or None
        Counted from 1.
    premultiplied : bool
        True where colours are multiplied by it already.
    white_is_zero : bool
        True where gray is darker the higher it is (TIFF's tag 262 is 0); values are as stored.
    color_interpretation : tuple of str
        One a band, by rasterio's names.
    palette : tuple of (int, int, int, int) or None
        RGBA, 0 to 255, of the first band.
    scales, offsets : tuple of float
        One a band: value = pixel * scale + offset.
    units, descriptions : tuple of (str or None)
        One a band.
    tags, band_tags : dict, tuple of dict
        GDAL's default domain without statistics, which are never trusted nor copied.
    tag_domains : tuple of str
        Further domains of metadata, of dataset and bands, by name, which are not carried.
    categories : bool
        True where a sidecar names the values, or has a table of their attributes: they are labels.
    area_or_point : str
        ``Area`` or ``Point``.
    overviews : tuple of (int, int)
        Width and height of each.
    reduced : tuple of ReducedImage
        Those in the raster's own file that can be read in its place.
    read_overview : int or None
        Which of them this is, as GDAL counts; None: the raster itself.
    gcps : tuple of ControlPoint
        Ground control points.
    gcps_crs : str or None
        Their system, as WKT2.
    rpcs : Rational or None
        Rational polynomials.
    sparse_blocks : int
        Blocks of the image that were never written: they read as nodata, or 0.
    contributing_files : tuple of str
        As GDAL names them, the raster first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    size_bytes: int
    file: SourceFile
    image: ImageLayout
    mask: ImageLayout | None = None
    dtype: str
    bands: int
    crs: str | None
    transform: GeoTransform | None
    nodata: tuple[float | None, ...]
    alpha_band: int | None
    premultiplied: bool = False
    white_is_zero: bool = False
    color_interpretation: tuple[str, ...]
    palette: tuple[tuple[int, int, int, int], ...] | None
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str | None, ...]
    descriptions: tuple[str | None, ...]
    tags: dict[str, str]
    band_tags: tuple[dict[str, str], ...]
    tag_domains: tuple[str, ...]
    categories: bool = False
    area_or_point: str
    overviews: tuple[tuple[int, int], ...]
    reduced: tuple[ReducedImage, ...] = ()
    read_overview: int | None = None
    gcps: tuple[ControlPoint, ...] = ()
    gcps_crs: str | None = None
    rpcs: Rational | None = None
    sparse_blocks: int
    contributing_files: tuple[str, ...]

    @property
    def width(self) -> int:
        """Return the width of the raster in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Return the height of the raster in pixels."""
        return self.image.height

    @property
    def tiff(self) -> TiffSource:
        """Return the one TIFF that this is.

        Raises
        ------
        ValueError
            It is a VRT.
        """
        if not isinstance(self.file, TiffSource):
            raise ValueError(f"{self.name} is a VRT, of which GDAL reads the pixels")
        return self.file

    @property
    def mask_source(self) -> str | None:
        """Return where the mask is: ``internal``, ``sidecar`` or ``vrt``; None where is none."""
        if self.mask is None:
            return None
        return self.file.mask_source if isinstance(self.file, TiffSource) else self.file.kind

    @property
    def page(self) -> int | None:
        """Return which of several images of a file this is, as GDAL counts its directories."""
        return self.file.page if isinstance(self.file, TiffSource) else None


def inspect_tiff(
    data: ByteSource,
    gdal_path: str,
    mask_data: ByteSource | None = None,
    number: int | None = None,
) -> Structure:
    """Return the structure of a GeoTIFF, or refuse it.

    Parameters
    ----------
    data : ByteSource
        The raster.
    gdal_path : str
        The same raster for GDAL.
    mask_data : ByteSource, optional
        The ``.msk`` file beside it, where there is one.
    number : int, optional
        Which image of the file, as GDAL counts its directories, from 1; by default the only one.

    Returns
    -------
    Structure
        No CRS, ground control points and the like are reported, not judged: that is the plan's.

    Raises
    ------
    Refused
        When it is empty, no TIFF, damaged, cut off, holds several images of which none is chosen,
        or is stored in a way that is not decoded.
    StorageUnavailable
        When the store does not answer.
    """
    check_magic(data)
    stored = _stored(data, number)
    meaning = gdal_meaning(data.name, page_address(gdal_path, stored["file"].page))
    stored["image"] = _agreed(stored["image"], meaning, data.name)
    stored["reduced"] = tuple(_typed(found, stored["image"]) for found in stored["reduced"])
    meaning["nodata"] = source_nodata(
        data.name, meaning["dtype"], meaning["nodata"], stored.pop("nodata_text")
    )
    # A file beside it that GDAL takes for no mask is none. Of several images it is the first one's,
    # of which GDAL is silent once that is chosen.
    beside = stored.pop("first_of_several") and mask_data is not None
    if (meaning.pop("masked") or beside) and stored["mask"] is None:
        if mask_data is None:
            raise Refused(
                f"{data.name} has a mask that is not in the file", f"hand over {data.name}.msk too"
            )
        stored["mask"], beside_it = _sidecar(mask_data, stored["image"])
        stored["file"] = stored["file"].model_copy(update=beside_it)
        stored["reduced"] = ()  # their masks would be in the sidecar, if anywhere
    overviews = stored.pop("overviews") or meaning.pop("overviews")
    return Structure.model_validate(
        {"name": data.name, "size_bytes": data.size} | meaning | stored | {"overviews": overviews}
    )


def _agreed(image: ImageLayout, meaning: dict[str, Any], name: str) -> ImageLayout:
    """Return the image with GDAL's type of one sample, once both see the same pixels."""
    stored = (image.samples, image.width, image.height)
    seen = (meaning["bands"], meaning.pop("width"), meaning.pop("height"))
    if stored != seen:
        raise Refused(
            f"{name} stores bands, width and height of {stored}, of which GDAL makes {seen}",
            "convert it first: gdal_translate INPUT OUTPUT.tif",
        )
    return image.model_copy(update={"dtype": meaning["dtype"]})


def _typed(found: ReducedImage, image: ImageLayout) -> ReducedImage:
    typed = found.image.model_copy(update={"dtype": image.dtype})
    return found.model_copy(update={"image": typed})


def page_address(gdal_path: str, number: int | None) -> str:
    """Return one of several images of a file as GDAL opens it; None: the only one."""
    return gdal_path if number is None else f"GTIFF_DIR:{number}:{gdal_path}"


def _stored(data: ByteSource, number: int | None) -> dict[str, Any]:
    """Return what the tags of the raster's own file say of one image."""
    file = RecordingFile(data)
    try:
        with opened_tiff(file) as tiff:
            pages = chosen_pages(tiff, number, data.name)
            ifd = pages.image
            image = image_layout(tiff_page(tiff, ifd), ifd, data.name)
            mask = None
            if pages.masks:
                mask = image_layout(tiff_page(tiff, pages.masks[0]), pages.masks[0], data.name)
                _check_mask(mask, image, data.name)
            reduced = reduced_images(tiff, pages, image, mask, data.size)
            leave_tables_out(file, tiff)
            nodata = tiff_page(tiff, ifd).tags.valueof(_NODATA_TAG, "")
            associated = tifffile.EXTRASAMPLE.ASSOCALPHA in tiff_page(tiff, ifd).extrasamples
            inverted = int(tiff_page(tiff, ifd).photometric) == tifffile.PHOTOMETRIC.MINISWHITE
            little, big = tiff.byteorder == "<", tiff.is_bigtiff
    except DAMAGE as error:
        raise damaged_header(data.name, error) from error
    for layout in (image, mask):
        if layout is not None:
            check_within(layout, data.name, data.size)
    return {
        "image": image,
        "mask": mask,
        "file": TiffSource(
            byte_order="little" if little else "big",
            bigtiff=big,
            page=pages.number,
            mask_source="internal" if mask else None,
            header=file.record(),
        ),
        "first_of_several": pages.first and pages.number is not None,
        "overviews": pages.overviews,
        "reduced": reduced,
        "sparse_blocks": int(image.blocks.sparse.sum()),
        "premultiplied": associated,
        "white_is_zero": inverted,
        "nodata_text": str(nodata).strip(),
    }


def _sidecar(data: ByteSource, image: ImageLayout) -> tuple[ImageLayout, dict[str, Any]]:
    """Return what the tags of a ``.msk`` file say, and what `TiffSource` says of it."""
    check_magic(data)
    file = RecordingFile(data)
    try:
        with opened_tiff(file) as tiff:
            mask = image_layout(tiff_page(tiff, 0), 0, data.name)
            leave_tables_out(file, tiff)
    except DAMAGE as error:
        raise damaged_header(data.name, error) from error
    check_within(mask, data.name, data.size)
    if mask.samples != 1:
        raise Refused(
            f"{data.name} masks each band on its own", "give the raster one mask for all bands"
        )
    _check_mask(mask, image, data.name.removesuffix(".msk"))
    return mask, {
        "mask_source": "sidecar",
        "mask_size_bytes": data.size,
        "mask_header": file.record(),
    }


def _check_mask(mask: ImageLayout, image: ImageLayout, name: str) -> None:
    if (mask.width, mask.height, mask.samples) != (image.width, image.height, 1):
        raise Refused(
            f"the mask of {name} is {mask.samples} x {mask.width} x {mask.height} for pixels of "
            f"{image.width} x {image.height}",
            "give the raster one mask of its own size",
        )
