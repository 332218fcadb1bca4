"""Rasters that GDAL writes, in every layout that a reader must know, and the bytes of a file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import rasterio
import tifffile
from affine import Affine
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

WIDTH, HEIGHT = 211, 173


class FileBytes:
    """A file as a byte source that remembers what was read of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.ranges: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        parts = []
        with self.path.open("rb") as file:
            for offset, length in ranges:
                self.ranges.append((offset, length))
                file.seek(offset)
                parts.append(file.read(length))
        return parts


@dataclass(frozen=True)
class Case:
    """One way to store pixels."""

    dtype: str = "uint8"
    bands: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    mask: str = ""
    nodata: float | None = None
    sparse: bool = False
    smooth: bool = False
    seed: int = 11


def _tiled(**options: Any) -> dict[str, Any]:
    return {"tiled": True, "blockxsize": 64, "blockysize": 48, **options}


def _strips(rows: int, **options: Any) -> dict[str, Any]:
    return {"tiled": False, "blockysize": rows, **options}


CASES: dict[str, Case] = {
    "striped rgb, plain": Case(bands=3, options=_strips(7)),
    "striped rgb, deflate": Case(bands=3, options=_strips(16, compress="deflate", predictor=2)),
    "striped rgb by band": Case(bands=3, options=_strips(5, interleave="band", compress="lzw")),
    "one strip": Case(options=_strips(HEIGHT)),
    "one strip, deflate": Case(bands=3, options=_strips(HEIGHT, compress="deflate")),
    "one-row strips, packbits": Case(options=_strips(1, compress="packbits")),
    "striped uint16 x4": Case("uint16", 4, _strips(9, compress="lzw", predictor=2)),
    "striped uint16 x4, big-endian": Case(
        "uint16", 4, _strips(9, compress="deflate", predictor=2, endianness="big")
    ),
    "int16 by band": Case("int16", 3, _strips(11, interleave="band"), nodata=-999),
    "int16 by band, tiled": Case(
        "int16", 5, _tiled(interleave="band", compress="zstd", predictor=2), nodata=-999
    ),
    "int8": Case("int8", 2, _tiled(compress="deflate", predictor=2)),
    "tiled float32": Case("float32", 1, _tiled(compress="deflate", predictor=3), nodata=np.nan),
    "tiled float32 x3, big-endian": Case(
        "float32", 3, _tiled(compress="zstd", predictor=3, endianness="big"), nodata=-9999
    ),
    "striped float64": Case("float64", 2, _strips(13, compress="lzw", predictor=3)),
    "striped float32, big-endian, plain": Case("float32", 1, _strips(13, endianness="big")),
    "bigtiff": Case("uint16", 3, _tiled(bigtiff="yes", compress="deflate")),
    "bigtiff, big-endian": Case("int32", 1, _strips(4, bigtiff="yes", endianness="big")),
    "uint32, int64": Case("int64", 1, _tiled(compress="deflate", predictor=2)),
    "complex": Case("complex64", 2, _tiled(compress="deflate")),
    "one tile wide": Case(
        options={"tiled": True, "blockxsize": 224, "blockysize": 16, "compress": "lzw"}
    ),
    "lzma": Case("uint16", 1, _tiled(compress="lzma")),
    "jpeg rgb": Case(bands=3, options=_tiled(compress="jpeg"), smooth=True),
    "jpeg ycbcr": Case(bands=3, options=_tiled(compress="jpeg", photometric="ycbcr"), smooth=True),
    "jpeg strips": Case(options=_strips(16, compress="jpeg"), smooth=True),
    "jpeg by band": Case(bands=3, options=_tiled(compress="jpeg", interleave="band"), smooth=True),
    "jpeg rgb by band": Case(
        bands=3, options=_tiled(compress="jpeg", interleave="band", photometric="rgb"), smooth=True
    ),
    "jpeg, three bands and no colours": Case(
        bands=3, options=_tiled(compress="jpeg", photometric="minisblack"), smooth=True
    ),
    "jpeg rgba": Case(
        bands=4, options=_tiled(compress="jpeg", photometric="rgb", alpha="yes"), smooth=True
    ),
    "jpeg, four bands": Case(
        bands=4, options=_tiled(compress="jpeg", photometric="minisblack"), smooth=True
    ),
    "lerc": Case("float32", 1, _tiled(compress="lerc"), nodata=np.nan),
    "lerc_deflate strips": Case("int16", 3, _strips(13, compress="lerc_deflate")),
    "lerc_zstd, off by one": Case("uint16", 3, _tiled(compress="lerc_zstd", max_z_error=1)),
    "lerc float64 by band": Case("float64", 2, _tiled(compress="lerc", interleave="band")),
    "lerc rgba": Case(bands=4, options=_tiled(compress="lerc", photometric="rgb", alpha="yes")),
    "webp": Case(bands=3, options=_tiled(compress="webp"), smooth=True),
    "webp, lossless": Case(bands=4, options=_tiled(compress="webp", webp_lossless=True)),
    "one bit": Case(options=_strips(6, nbits=1, compress="ccittfax4")),
    "one bit, tiled": Case(options=_tiled(nbits=1, compress="deflate")),
    "four bits": Case(options=_strips(6, nbits=4)),
    "twelve bits": Case("uint16", 1, _tiled(nbits=12, compress="deflate")),
    "half floats": Case("float32", 1, _tiled(nbits=16, compress="deflate")),
    "sparse": Case("uint8", 3, _tiled(compress="deflate", sparse_ok=True), sparse=True),
    "sparse by band, nodata": Case(
        "int16", 2, _strips(8, interleave="band", sparse_ok=True), nodata=-7, sparse=True
    ),
    "sparse, fraction as nodata": Case(
        "float32", 1, _tiled(sparse_ok=True), nodata=-0.5, sparse=True
    ),
    "internal mask": Case(bands=3, options=_tiled(compress="deflate"), mask="internal"),
    "internal mask, strips": Case(
        "uint16", 1, _strips(10, compress="lzw", interleave="band"), mask="internal"
    ),
    "internal mask, sparse": Case(
        bands=1, options=_tiled(sparse_ok=True, compress="lzw"), mask="internal", sparse=True
    ),
    "sidecar mask": Case(bands=2, options=_tiled(), mask="sidecar"),
}


def content(case: Case, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray[Any, Any]:
    """Return pixels for a case, shape (band, row, col): noise, or waves where a codec is lossy."""
    random = np.random.default_rng(case.seed)
    shape = (case.bands, height, width)
    bits = case.options.get("nbits")
    if case.smooth:
        rows, cols = np.mgrid[:height, :width]
        waves = [127 + 90 * np.sin(rows / (9 + b)) * np.cos(cols / 17) for b in range(case.bands)]
        return np.stack(waves).astype(case.dtype)
    kind = np.dtype(case.dtype).kind
    if kind in "iu":
        info = np.iinfo(case.dtype)
        high = 2**bits - 1 if bits else info.max
        return random.integers(0 if bits else info.min, high, shape, case.dtype, endpoint=True)
    real = random.normal(0, 1000, shape)
    return (real + 1j * real[::-1] if kind == "c" else real).astype(case.dtype)


def write(path: Path, case: Case, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write a case with GDAL and return its path."""
    pixels = content(case, height, width)
    profile = {
        "driver": "GTiff",
        "dtype": case.dtype,
        "count": case.bands,
        "height": height,
        "width": width,
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 500000, 0, -10, 5000000),
        "nodata": case.nodata,
        **case.options,
    }
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=case.mask == "internal"),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        if case.sparse:
            part = rasterio.windows.Window(70, 50, 60, 40)
            dataset.write(pixels[:, 50:90, 70:130], window=part)
        else:
            dataset.write(pixels)
        if case.mask:
            rows, cols = np.mgrid[:height, :width]
            dataset.write_mask((rows * 3 + cols * 2) % 50 > 20)
    return path


def write_twelve_bits(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    """Write 64 x 128 values of 12 bits as JPEG, which GDAL's wheel cannot, by imagecodecs."""
    blocks = [
        imagecodecs.jpeg_encode(
            np.ascontiguousarray(pixels[:, left : left + 64]), level=95, bitspersample=12
        )
        for left in (0, 64)
    ]
    tifffile.imwrite(
        path, (bytes(block) for block in blocks), shape=(64, 128), dtype="uint16", tile=(64, 64),
        compression=7, photometric="minisblack", metadata=None,
    )  # fmt: skip
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["BitsPerSample"].overwrite(12)
    return path


def sidecar(path: Path) -> FileBytes | None:
    """Return the mask file beside a raster, None where there is none."""
    found = path.with_name(path.name + ".msk")
    return FileBytes(found) if found.exists() else None


def gdal_read(path: Path, window: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return what GDAL reads: pixels, and the mask of the first band."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)
        with rasterio.open(path) as dataset:
            part = rasterio.windows.Window(
                window.col_off, window.row_off, window.width, window.height
            )
            return dataset.read(window=part), dataset.read_masks(1, window=part)
