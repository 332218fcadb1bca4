"""The sources of the acceptance tests: a UTM zone's edge, so that they skew, and awkward layouts.

Sizes are no multiple of anything, and what is nodata runs across every seam.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import tifffile
from affine import Affine
from tests.harness.rasters import Case

Array = npt.NDArray[Any]

WIDTH, HEIGHT = 1203, 1117
SEED = 20260
#: About 4.5 degrees west of the zone's central meridian: a row crosses many of EPSG:3857's.
UTM = Affine(10, 0, 180000, 0, -10, 5650000)
#: Three by three output tiles of such a source, and then some.
SMALL = ("--blocksize", "64", "--tile-size", "512")


def strips(rows: int, **options: Any) -> dict[str, Any]:
    return {"tiled": False, "blockysize": rows, **options}


def tiles(side: int, **options: Any) -> dict[str, Any]:
    return {"tiled": True, "blockxsize": side, "blockysize": side, **options}


LAYOUTS: dict[str, Case] = {
    "striped uint8 x3": Case(
        bands=3, options=strips(16, compress="deflate", predictor=2, photometric="rgb"), nodata=0
    ),
    "tiled float32 with nodata": Case(
        "float32", 1, tiles(128, compress="deflate", predictor=3), nodata=-9999
    ),
    "striped uint16 x4": Case("uint16", 4, strips(11, compress="lzw", predictor=2)),
    "planar int16": Case(
        "int16", 3, strips(13, interleave="band", compress="deflate", predictor=2), nodata=-32768
    ),
    "one-strip uint8": Case(options=strips(HEIGHT, compress="deflate")),
}


@dataclass(frozen=True)
class Raster:
    """A source, and where it lies."""

    case: Case
    width: int = WIDTH
    height: int = HEIGHT
    crs: str | None = "EPSG:32633"
    transform: Affine = UTM
    colors: tuple[str, ...] = ()
    palette: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)

    def sized(self, width: int, height: int) -> Raster:
        """Return the same in another size; one strip stays one strip."""
        options = dict(self.case.options)
        if options.get("blockysize") == self.height:
            options["blockysize"] = height
        return replace(self, width=width, height=height, case=replace(self.case, options=options))


def holes(height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return which pixels mean nothing: a ragged collar, and bands that cross every seam."""
    rows, cols = np.mgrid[:height, :width]
    ragged = 9 + 5 * np.sin(rows / 17) + 4 * np.cos(cols / 23)
    collar = np.minimum.reduce([rows, cols, height - 1 - rows, width - 1 - cols]) < ragged
    return collar | ((rows * 3 + cols * 2) % 700 < 60) | ((rows - cols) % 389 < 3)


def picture(raster: Raster) -> Array:
    """Return pixels, (band, row, col): waves under noise, holes where the case has a nodata."""
    case, shape = raster.case, (raster.height, raster.width)
    random = np.random.default_rng(SEED)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    low, high = _range(case, raster)
    bands = []
    for band in range(case.bands):
        waves = np.sin(rows / (31 + band)) * np.cos(cols / (43 - band)) / 2 + 0.5
        values = low + (high - low) * (0.8 * waves + 0.2 * random.random(shape))
        values = values if np.dtype(case.dtype).kind == "f" else np.rint(values)
        bands.append(values.astype(case.dtype))
    pixels = np.stack(bands)
    if case.nodata is not None:
        for band in range(case.bands):
            # Each band has holes of its own too.
            own = holes(*shape) | ((rows + 5 * band - cols) % 211 < 2)
            pixels[band][own] = case.nodata
    return pixels


def _range(case: Case, raster: Raster) -> tuple[float, float]:
    if raster.palette:
        return 0, max(raster.palette)
    if np.dtype(case.dtype).kind == "f":
        return -500.0, 3000.0
    info = np.iinfo(case.dtype)
    return info.min + 1, info.max


def make(path: Path, raster: Raster, pixels: Array | None = None) -> Path:
    """Write a source with GDAL and return its path."""
    case = raster.case
    if pixels is None:
        pixels = picture(raster)
    profile = {
        "driver": "GTiff",
        "dtype": case.dtype,
        "count": case.bands,
        "height": raster.height,
        "width": raster.width,
        "crs": raster.crs,
        "transform": raster.transform,
        "nodata": case.nodata,
        **case.options,
    }
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=case.mask == "internal"),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        if raster.colors:
            named = [rasterio.enums.ColorInterp[name] for name in raster.colors]
            dataset.colorinterp = named
        if raster.palette:
            dataset.write_colormap(1, raster.palette)
        dataset.write(pixels)
        if case.mask:
            dataset.write_mask(~holes(raster.height, raster.width))
    return path


PALETTE = {value: (value * 8, 255 - value * 8, value * 5 % 256, 255) for value in range(32)}

#: Inputs that nobody tried while the engine was written.
AWKWARD: dict[str, Raster] = {
    "rgb with alpha": Raster(
        Case(bands=4, options=strips(9, compress="deflate", photometric="rgb", alpha="yes")),
        colors=("red", "green", "blue", "alpha"),
    ),
    "internal mask": Raster(
        Case(bands=3, options=strips(16, compress="lzw", photometric="rgb"), mask="internal")
    ),
    "palette": Raster(Case(options=strips(32, compress="lzw")), palette=PALETTE),
}


def make_awkward(path: Path, name: str) -> Path:
    """Write one of `AWKWARD`; an alpha band has holes, half-transparent ones too."""
    raster = AWKWARD[name]
    pixels = picture(raster)
    if "alpha" in raster.colors:
        missing = holes(raster.height, raster.width)
        pixels[3] = np.where(missing, 0, np.where(pixels[0] > 200, 128, 255))
    return make(path, raster, pixels)


def unwritten(
    path: Path, size: tuple[int, int], strip_rows: int, bands: int = 3, dtype: str = "uint8"
) -> Path:
    """Make a striped GeoTIFF whose strips are stored and take no room on disk: all holes.

    `size` is its width and height.
    """
    width, height = size
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            shape=(height, width, bands),
            dtype=dtype,
            photometric="minisblack",
            planarconfig="contig",
            rowsperstrip=strip_rows,
            extratags=[
                (33550, 12, 3, (UTM.a, -UTM.e, 0.0), True),
                (33922, 12, 6, (0.0, 0.0, 0.0, UTM.c, UTM.f, 0.0), True),
                (34735, 3, len(keys), keys, True),
            ],
        )
    return path
