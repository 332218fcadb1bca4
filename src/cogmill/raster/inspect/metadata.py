"""What GDAL says of a raster: where it lies, what its values mean. Tags are `tiff`'s business."""

from __future__ import annotations

import warnings
from typing import Any, Final

import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from cogmill.errors import Refused
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.geometry.control import Rational

_IDENTITY: Final = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_NAMED_VALUES: Final = (b"<CategoryNames>", b"<GDALRasterAttributeTable")
_NOT_KEPT: Final = (
    "IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "LocationInfo", "xml:VRT"
)  # fmt: skip


def gdal_meaning(name: str, gdal_path: str, driver: str = "GTiff") -> dict[str, Any]:
    """Return what GDAL says of a file, by the names of `Structure`'s fields.

    Parameters
    ----------
    name : str
        What messages call the file.
    gdal_path : str
        The same for GDAL.
    driver : str
        GDAL's name of the format.

    Raises
    ------
    Refused
        When GDAL cannot read it, or says what a COG cannot hold.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(gdal_path, driver=driver) as dataset:
                return _georeference(dataset) | _bands(dataset, name)
    except (RasterioError, UnicodeDecodeError) as error:
        raise damaged_header(name, error) from error


def _georeference(dataset: Any) -> dict[str, Any]:
    transform = tuple(float(value) for value in dataset.transform.to_gdal())
    tags = dataset.tags()
    factors = dataset.overviews(1)
    return {
        "crs": dataset.crs.to_wkt(version="WKT2_2019") if dataset.crs else None,
        "transform": None if transform == _IDENTITY else transform,
        **_points(dataset),
        "tags": _kept(tags),
        "tag_domains": _domains(dataset),
        "categories": _named_values(dataset),
        "area_or_point": tags.get("AREA_OR_POINT", "Area"),
        "overviews": tuple(
            (ceil_div(dataset.width, f), ceil_div(dataset.height, f)) for f in factors
        ),
        "contributing_files": tuple(dataset.files),
    }


def _points(dataset: Any) -> dict[str, Any]:
    """Return ground control points and rational polynomials."""
    points, crs = dataset.gcps
    return {
        "gcps": tuple((p.col, p.row, p.x, p.y, p.z or 0.0) for p in points),
        "gcps_crs": crs.to_wkt(version="WKT2_2019") if crs else None,
        "rpcs": _rational(dataset),
    }


def _rational(dataset: Any) -> Rational | None:
    """Return rational polynomials, None too where they are not whole: a raster may need none."""
    try:
        found = dataset.rpcs
        # Their errors, which rasterio hands out too, place nothing.
        values = {} if found is None else found.to_dict()
        return Rational.model_validate({k: v for k, v in values.items() if k[:4] != "err_"})
    except (KeyError, ValueError):  # what rasterio says of text that is no number, and Pydantic
        return None


def _domains(dataset: Any) -> tuple[str, ...]:
    found = {*dataset.tag_namespaces()}
    for band in dataset.indexes:
        found |= {*dataset.tag_namespaces(band)}
    return tuple(sorted(found - {*_NOT_KEPT}))


def _named_values(dataset: Any) -> bool:
    """Return whether GDAL knows category names or attributes; rasterio does not hand them out."""
    with MemoryFile(ext="vrt") as memory:
        rasterio.shutil.copy(dataset, memory.name, driver="VRT")
        text = bytes(memory.read())
    return any(element in text for element in _NAMED_VALUES)


def _bands(dataset: Any, name: str) -> dict[str, Any]:
    colours = dataset.colorinterp
    alpha = colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colours else None
    return {
        "dtype": dataset.dtypes[0],
        "width": dataset.width,
        "height": dataset.height,
        "bands": dataset.count,
        "nodata": tuple(None if v is None else float(v) for v in dataset.nodatavals),
        "alpha_band": alpha,
        "color_interpretation": tuple(colour.name for colour in colours),
        "palette": _palette(dataset),
        "scales": tuple(dataset.scales),
        "offsets": tuple(dataset.offsets),
        "units": tuple(unit or None for unit in dataset.units),
        "descriptions": tuple(text or None for text in dataset.descriptions),
        "band_tags": tuple(_kept(dataset.tags(band)) for band in dataset.indexes),
        "masked": _masked(dataset, name),
    }


def _palette(dataset: Any) -> tuple[tuple[int, int, int, int], ...] | None:
    if ColorInterp.palette not in dataset.colorinterp[:1]:
        return None
    colours = dataset.colormap(1)
    return tuple(colours[index] for index in sorted(colours))


def _masked(dataset: Any, name: str) -> bool:
    """Return whether GDAL masks all bands alike by something that is neither alpha nor nodata."""
    for flags in dataset.mask_flag_enums:
        if not flags:
            raise Refused(
                f"{name} has a mask for each band", "give the raster one mask for all bands"
            )
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.nodata in flags:
        raise Refused(
            f"{name} marks invalid pixels by values of all bands together (NODATA_VALUES)",
            "make a mask of them first: gdal_translate -b mask, or gdalwarp -dstalpha",
        )
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _kept(tags: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in sorted(tags.items())
        if key != "AREA_OR_POINT" and not key.startswith("STATISTICS_")
    }


def damaged_header(name: str, error: Exception) -> Refused:
    """Return the refusal of a header that cannot be read."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Refused(
        f"the header of {name} cannot be read ({said})",
        "the file is damaged or cut off; copy or fetch it again",
    )
