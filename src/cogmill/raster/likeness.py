"""The grid of a raster that another one shall lie on."""

from __future__ import annotations

import warnings

import rasterio
from pydantic import ValidationError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from cogmill.errors import Refused
from cogmill.raster.crs import crs_text
from cogmill.raster.grid import Grid


def grid_of(gdal_path: str, name: str) -> Grid:
    """Return the grid of a GeoTIFF, of which nothing but the header is read.

    Parameters
    ----------
    gdal_path : str
        The raster for GDAL.
    name : str
        What messages call it.

    Returns
    -------
    Grid
        System (as WKT), geotransform and size. North up or not.

    Raises
    ------
    Refused
        It is no GeoTIFF, or lies nowhere.
    """
    remedy = "name a georeferenced GeoTIFF with --like"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(gdal_path, driver="GTiff") as dataset:
                crs = dataset.crs.to_wkt(version="WKT2_2019") if dataset.crs else ""
                transform, size = dataset.transform, (dataset.width, dataset.height)
    except RasterioError as error:
        raise Refused(f"{name} cannot be read as a GeoTIFF: {error}", remedy) from error
    if not crs or transform.is_identity:
        raise Refused(f"{name} has no {'geotransform' if crs else 'coordinate system'}", remedy)
    try:
        return Grid(
            crs=crs_text(crs, "--like"),
            transform=transform.to_gdal(),
            width=size[0],
            height=size[1],
        )
    except ValidationError:
        raise Refused(f"the geotransform of {name} places no pixels", remedy) from None
