"""GeoTIFFs and COGs as GDAL's own drivers write them, and how to damage one."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import Resampling

SIZE = (701, 643)


def pixels(width: int, height: int, bands: int, dtype: str = "uint8") -> Any:
    rows, cols = np.indices((height, width))
    base = (rows * 3 + cols * 7) % 251
    return np.stack([(base + 40 * band) % 251 for band in range(bands)]).astype(dtype)


def gtiff(path: Path, size: tuple[int, int] = SIZE, bands: int = 3, **options: Any) -> Path:
    """Write a plain GeoTIFF; `mask` gives it one inside, `overviews` builds some afterwards."""
    mask, overviews = options.pop("mask", False), options.pop("overviews", ())
    outside, dtype = options.pop("outside", False), options.pop("dtype", "uint8")
    where = {"crs": "EPSG:3857", "transform": Affine(10, 0, 1e6, 0, -10, 6e6)}
    shape = {"width": size[0], "height": size[1], "count": bands, "dtype": dtype}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, TIFF_USE_OVR=outside):
        with rasterio.open(path, "w", driver="GTiff", **shape, **where, **options) as out:
            out.write(pixels(*size, bands, dtype))
            if mask:
                rows, cols = np.indices(size[::-1])
                out.write_mask(((rows + cols) % 400 > 30).astype(np.uint8) * 255)
        if overviews:
            with rasterio.open(path, "r+") as out:
                out.build_overviews(overviews, Resampling.average)
    return path


def cog(path: Path, size: tuple[int, int] = SIZE, bands: int = 3, **options: Any) -> Path:
    """Write a COG with GDAL's own driver, each kind made once."""
    path.write_bytes(_cog(size, bands, tuple(options.items())))
    return path


@cache
def _cog(size: tuple[int, int], bands: int, options: tuple[tuple[str, Any], ...]) -> bytes:
    with TemporaryDirectory() as folder:
        return _write_cog(Path(folder) / "cog.tif", size, bands, **dict(options)).read_bytes()


def _write_cog(path: Path, size: tuple[int, int], bands: int, **options: Any) -> Path:
    source = path.with_name(f"source-{path.name}")
    own = {name: options.pop(name) for name in ("mask", "dtype") if name in options}
    gtiff(source, size, bands, **own)
    options = {"BLOCKSIZE": 128, "COMPRESS": "DEFLATE", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rasterio.shutil.copy(source, path, driver="COG", **options)
    return path


def patched(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path, at: int) -> None:
    byte = path.read_bytes()[at]
    patched(path, at, bytes([byte ^ 0x55]))
