"""Structures of rasters that exist nowhere: a plan is made of what inspection says."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.crs import CRS

from cogmill.raster.inspect.source_file import TiffSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.tiff.block_table import BlockTable, ImageLayout

#: GDAL's six, 10 m pixels in a UTM zone, about 4.5 degrees west of its central meridian.
UTM = (200000.0, 10.0, 0.0, 6000000.0, 0.0, -10.0)


def layout(
    size: tuple[int, int],
    block: tuple[int, int],
    samples: int = 3,
    dtype: str = "uint8",
    **changes: Any,
) -> ImageLayout:
    """Return an image of `size` (width, height) whose blocks lie back to back at 60 %."""
    (width, height), (block_width, block_height) = size, block
    itemsize = np.dtype(dtype).itemsize
    apart = changes.get("planar") == "band"
    count = -(-width // block_width) * -(-height // block_height) * (samples if apart else 1)
    length = round(0.6 * block_width * block_height * (1 if apart else samples) * itemsize)
    values: dict[str, Any] = {
        "width": width,
        "height": height,
        "block_width": block_width,
        "block_height": block_height,
        "striped": block_width == width,
        "planar": "pixel",
        "samples": samples,
        "dtype": dtype,
        "bits": 8 * itemsize,
        "compression": "deflate",
        "predictor": 1,
        "blocks": BlockTable.of(1000 + np.arange(count) * length, np.full(count, length)),
        "ifd": 0,
    }
    return ImageLayout(**(values | changes))


def structure(image: ImageLayout, crs: str | None = "EPSG:32633", **changes: Any) -> Structure:
    """Return what inspection would say of such an image."""
    bands = image.samples
    values: dict[str, Any] = {
        "name": "synthetic.tif",
        "size_bytes": 1000 + int(image.blocks.byte_counts.sum()),
        "file": TiffSource(byte_order="little", bigtiff=True, header=""),
        "image": image,
        "dtype": image.dtype,
        "bands": bands,
        "crs": CRS.from_string(crs).to_wkt(version="WKT2_2019") if crs else None,
        "transform": UTM,
        "nodata": (None,) * bands,
        "alpha_band": None,
        "color_interpretation": ("gray",) + ("undefined",) * (bands - 1),
        "palette": None,
        "scales": (1.0,) * bands,
        "offsets": (0.0,) * bands,
        "units": (None,) * bands,
        "descriptions": (None,) * bands,
        "tags": {},
        "band_tags": ({},) * bands,
        "tag_domains": (),
        "area_or_point": "Area",
        "overviews": (),
        "sparse_blocks": 0,
        "contributing_files": ("synthetic.tif",),
    }
    return Structure(**(values | changes))
