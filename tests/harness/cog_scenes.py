"""Images of every kind that a COG may hold, and their pixels in rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from cogmill.raster.codecs.profiles import Samples, profile_codec
from cogmill.raster.cog.block_rows import PixelRows
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.reduction import Method
from cogmill.raster.geometry.grid import Grid

BLOCK = 64
UTM = (500000.0, 10.1, 0.0, 6000000.0, 0.0, -10.1)


class Case(NamedTuple):
    """One kind of image."""

    bands: int = 1
    dtype: str = "uint8"
    profile: str = "deflate"
    validity: str = "none"
    interleave: Literal["pixel", "band"] = "pixel"
    method: Method = "average"


CASES = [
    Case(),
    Case(3, "uint8", "deflate", "mask"),
    Case(4, "uint8", "deflate", "alpha"),
    Case(2, "uint16", "lzw", "alpha"),  # GDAL knows alpha in unsigned samples alone.
    Case(1, "float32", "zstd", "nodata"),
    Case(3, "uint16", "lzw", "nodata"),
    Case(6, "int16", "deflate", "nodata", "band"),
    Case(6, "uint8", "zstd", "mask", "band"),
    Case(5, "float32", "deflate", "nan", "band"),
    Case(4, "uint16", "raw", "none"),
    Case(1, "uint8", "deflate", "palette", method="nearest"),
    Case(1, "int16", "zstd", "mask", method="mode"),
    Case(2, "complex64", "deflate", "none", method="nearest"),
    Case(1, "int8", "deflate", "nodata"),
    Case(1, "float64", "deflate", "nan"),
]
COLORS = {1: ("gray",), 2: ("gray", "undefined"), 3: ("red", "green", "blue")}


def image_of(case: Case, width: int, height: int) -> CogImage:
    nodata = {"nodata": 7.0, "nan": float("nan")}.get(case.validity)
    colors = COLORS.get(case.bands, ())
    if case.validity == "alpha":
        colors = (*COLORS[case.bands - 1], "alpha")
    codec = profile_codec(
        case.profile,
        Samples(
            dtype=case.dtype,
            bands=case.bands,
            alpha_band=case.bands if case.validity == "alpha" else None,
            together=case.interleave == "pixel",
            classes=case.validity == "palette",
        ),
        BLOCK,
    )
    return CogImage(
        grid=Grid(crs="EPSG:32630", transform=UTM, width=width, height=height),
        bands=case.bands,
        codec=codec,
        interleave=case.interleave,
        nodata=None if nodata is None else (nodata,) * case.bands,
        has_mask=case.validity == "mask",
        color_interpretation=("palette",) if case.validity == "palette" else colors,
        palette=tuple((i, 2 * i, 255 - i, 255) for i in range(100))
        if case.validity == "palette"
        else None,
        tags={"KEEP": "me", "STATISTICS_MEAN": "3", "TIFFTAG_SOFTWARE": "x"},
    )


def scene(image: CogImage, seed: int = 1) -> PixelRows:
    """Return pixels with relief and noise, and holes where the image can say so."""
    grid = image.grid
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: grid.height, : grid.width]
    relief = 60 + 40 * np.sin(x / 37) * np.cos(y / 23)
    pixels = relief + random.integers(0, 9, (image.bands, grid.height, grid.width))
    pixels = pixels.astype(image.dtype)
    holes = (np.hypot(y - 40, x - 60) < 50) | (random.random(y.shape) < 0.01)
    if image.has_mask:
        return pixels, ~holes
    if image.nodata_value is not None:
        pixels[:, holes] = image.nodata_value
        pixels[0, (y // 9 + x // 7) % 11 == 0] = image.nodata_value
    elif image.alpha is not None:
        pixels[:, holes] = 0
    return pixels, None


def pushed(rows: PixelRows, step: int = BLOCK) -> Iterator[PixelRows]:
    pixels, mask = rows
    for first in range(0, pixels.shape[1], step):
        part = slice(first, first + step)
        yield pixels[:, part], None if mask is None else mask[part]
