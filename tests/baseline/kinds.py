"""The table of input kinds, and what is asked for of each: profiles and kernels are spread over it.

Every profile, every kernel, and every way of naming a target grid occurs at least once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from affine import Affine
from tests.baseline import makers
from tests.baseline.makers import Maker, Raster, strips, tiles

MERCATOR: Mapping[str, Any] = {"dst_crs": "EPSG:3857"}
LAEA: Mapping[str, Any] = {"dst_crs": "EPSG:3035"}


@dataclass(frozen=True)
class Kind:
    """One kind of input, and the options of its jobs.

    Attributes
    ----------
    make : Maker
        Writes it into a folder.
    profile : str
        What ``--profile`` names.
    kernel : str
        What ``--resampling`` names where pixels are reprojected; empty for the default.
    warp : mapping
        The options that ask for another grid.
    options : mapping
        Those of copies and warps alike. In both, ``FOLDER`` stands for the input's folder.
    """

    make: Maker
    profile: str = "deflate"
    kernel: str = ""
    warp: Mapping[str, Any] = field(default_factory=lambda: MERCATOR)
    options: Mapping[str, Any] = field(default_factory=dict)


def co(**options: str) -> dict[str, Any]:
    return {"creation_options": options}


LAYOUTS = {
    "strips-uint8-rgb": Kind(
        Raster("uint8", 3, strips(16, compress="deflate", predictor=2, photometric="rgb"), 0),
        kernel="bilinear",
    ),
    "strips-uint16-x4-lzw": Kind(
        Raster("uint16", 4, strips(11, compress="lzw", predictor=2)), "zstd", "cubic"
    ),
    "tiles-float32": Kind(
        Raster("float32", 1, tiles(128, compress="deflate", predictor=3), -9999),
        "lerc_deflate",
        "cubic_spline",
        LAEA,
    ),
    "planar-strips-int16": Kind(
        Raster("int16", 3, strips(13, interleave="band", compress="lzw"), -32768), "lzw", "lanczos"
    ),
    "planar-tiles-uint16": Kind(
        Raster("uint16", 3, tiles(112, 80, interleave="band")), "raw", "nearest", LAEA
    ),
    "seven-bands": Kind(Raster("uint8", 7, strips(5, compress="packbits")), "zstd", "max"),
    "giant-strip-uint8": Kind(Raster("uint8", 3, strips(1051, compress="deflate"))),
    "giant-strip-float32": Kind(
        Raster("float32", 1, strips(1051, compress="lzw", predictor=3), -1.5), "lerc_zstd", "min"
    ),
    "one-row-strips": Kind(Raster("int32", 1, strips(1, compress="packbits")), "lerc", "med"),
    "sparse-tiles": Kind(
        Raster("uint8", 1, tiles(128, sparse_ok=True, compress="lzw"), 0, sparse=True)
    ),
    "sparse-without-nodata": Kind(
        Raster("int16", 2, tiles(96, 160, sparse_ok=True), sparse=True), "lzw"
    ),
    "big-endian": Kind(
        Raster("int16", 2, strips(9, endianness="big", compress="lzw", predictor=2), -7), "zstd"
    ),
    "big-endian-bigtiff": Kind(
        Raster("float32", 2, tiles(144, endianness="big", bigtiff="yes")), "deflate", "cubic"
    ),
    "overviews-inside": Kind(
        Raster(
            "uint8",
            1,
            tiles(256, compress="deflate"),
            size=(2711, 2633),
            change=makers.overviews,
        ),
        kernel="average",
        warp={"dst_crs": "EPSG:3857", "resolution": (37.0, 37.0)},
    ),
    "page-2": Kind(
        makers.pages(Raster(size=(301, 211)), Raster("uint16", 1, tiles(64), 9), Raster()),
        options={"page": 2},
    ),
}
TYPES = {
    "one-bit": Kind(Raster("uint8", 1, strips(24, nbits=1, compress="ccittfax4"))),
    "twelve-bits": Kind(
        Raster("uint16", 1, tiles(128, nbits=12, compress="deflate")), "deflate", "q3"
    ),
    "half-floats": Kind(Raster("float32", 1, strips(16, nbits=16)), "zstd"),
    # No 8 bits are written as LERC: liblerc 4.0 leaves bits of their Huffman code as it finds them
    # in memory, so that its bytes are other ones each time.
    "int8": Kind(Raster("int8", 1, tiles(160, compress="zstd", predictor=2)), "zstd", "q1"),
    "uint32": Kind(Raster("uint32", 1, strips(33, compress="deflate")), "lerc_deflate"),
    "float64-tags": Kind(
        Raster("float64", 2, strips(21, compress="zstd", predictor=3), change=makers.rich),
        "zstd",
        "rms",
    ),
    "int16-scaled": Kind(Raster("int16", 2, strips(16), -9999, change=makers.rich), "lzw"),
    "complex64": Kind(Raster("complex64", 1, tiles(128, compress="deflate"))),
}
CODECS = {
    "from-jpeg": Kind(
        Raster("uint8", 3, tiles(128, compress="jpeg", photometric="ycbcr"), smooth=True),
        "jpeg",
        options=co(QUALITY="90"),
    ),
    "from-jpeg-strips": Kind(Raster("uint8", 1, strips(16, compress="jpeg"), smooth=True), "jpeg"),
    "from-webp": Kind(
        Raster("uint8", 3, tiles(128, compress="webp"), smooth=True), "webp", "bilinear"
    ),
    "from-lerc": Kind(
        Raster("float32", 1, tiles(128, compress="lerc")), "lerc", options=co(MAX_Z_ERROR="0.01")
    ),
    "from-lerc-zstd": Kind(
        Raster("uint16", 3, strips(13, compress="lerc_zstd", max_z_error=1)), "lerc_zstd"
    ),
    "from-lzma": Kind(
        Raster("uint16", 1, tiles(192, compress="lzma"), smooth=True),
        options=co(LEVEL="9", PREDICTOR="NO"),
    ),
}
VALIDITY = {
    "nan-nodata": Kind(
        Raster("float32", 2, tiles(64, 128, compress="zstd", predictor=3), float("nan")),
        "lerc",
        "average",
    ),
    "nan-without-nodata": Kind(Raster("float32", 2, strips(16), change=makers.some_nan), "lzw"),
    "nodata-by-band": Kind(
        makers.beside(
            Raster("int16", 2, strips(16), change=makers.nodata_by_band(-7, 9)),
            ".aux.xml",
            makers.pam_nodata(-7, 9),
        )
    ),
    "nodata-by-band-floats": Kind(
        makers.beside(
            Raster("float32", 2, tiles(128), change=makers.nodata_by_band(-7, 9)),
            ".aux.xml",
            makers.pam_nodata(-7, 9),
        ),
        "zstd",
    ),
    "nodata-given": Kind(Raster("uint8", 1, strips(16)), "lzw", options={"nodata": 128.0}),
    "alpha": Kind(
        Raster(
            "uint8",
            4,
            strips(9, compress="deflate", photometric="rgb", alpha="yes"),
            change=makers.alpha,
        ),
        "webp",
        options=co(QUALITY="100"),
    ),
    "alpha-to-mask": Kind(
        Raster("uint8", 4, tiles(128, photometric="rgb", alpha="yes"), change=makers.alpha), "jpeg"
    ),
    "gray-alpha-uint16": Kind(
        Raster("uint16", 2, tiles(128, compress="lzw", alpha="yes"), change=makers.alpha),
        kernel="cubic",
    ),
    "internal-mask": Kind(
        Raster("uint8", 3, strips(16, compress="lzw", photometric="rgb"), mask="internal"), "zstd"
    ),
    "internal-mask-to-jpeg": Kind(
        Raster("uint8", 3, tiles(128, photometric="rgb"), mask="internal"), "jpeg"
    ),
    "mask-beside": Kind(Raster("uint8", 2, tiles(128), mask="sidecar"), kernel="bilinear"),
}
COLOURS = {
    "palette": Kind(
        Raster("uint8", 1, strips(32, compress="lzw"), change=makers.palette), "lzw", "mode"
    ),
    "white-is-zero": Kind(Raster("uint8", 1, strips(16, photometric="miniswhite"))),
    "blue-green-red": Kind(
        Raster("uint8", 3, strips(16), change=makers.colours("blue", "green", "red")),
        "webp",
    ),
}
PLACES = {
    "tiling-scheme": Kind(
        Raster("uint8", 3, tiles(128, photometric="rgb")),
        warp={"tiling_scheme": "WebMercatorQuad", "zoom_level": 16},
    ),
    "like-another": Kind(
        makers.grid_like(Raster("int16", 1, strips(16), -1)), warp={"like": "FOLDER/like.tif"}
    ),
    "bounds-aligned": Kind(
        Raster("uint8", 1, strips(16)),
        warp={
            "dst_crs": "EPSG:25833",
            "resolution": (9.0, 9.0),
            "align": True,
            "bounds": (400100.0, 5640100.0, 410700.0, 5649900.0),
        },
    ),
    "antimeridian": Kind(
        Raster(crs="EPSG:4326", place=Affine(0.01, 0, 174.5, 0, -0.01, 5), nodata=0),
    ),
    "polar": Kind(
        Raster(
            "uint8",
            1,
            tiles(128),
            0,
            crs="EPSG:3413",
            place=Affine(1000, 0, -500000, 0, -1000, 400000),
        ),
        warp={"dst_crs": "EPSG:3995"},
    ),
    "rotated": Kind(Raster(place=Affine(10, 3, 400000, 4, -10, 5650000)), kernel="bilinear"),
    "south-up": Kind(Raster("uint16", 1, place=Affine(10, 0, 400000, 0, 10, 5600000))),
    "another-datum": Kind(
        Raster("int16", 1, crs="EPSG:31468", place=Affine(10, 0, 4400000, 0, -10, 5650000)), "lzw"
    ),
    "no-system": Kind(Raster(crs=None)),
    "gcps-2": Kind(
        Raster("uint8", 1, crs=None, place=None, change=makers.control_points),
        options={"gcps": "2"},
    ),
    "gcps-tps": Kind(
        Raster("uint8", 1, tiles(128), crs=None, place=None, change=makers.control_points),
        options={"gcps": "tps"},
    ),
    "rpc-height": Kind(
        makers.polynomials(Raster("uint16", 1, crs=None, place=None)),
        options={"rpc_height": 250.0},
        warp={"dst_crs": "EPSG:32610"},
    ),
    "rpc-dem": Kind(
        makers.polynomials(Raster("uint8", 1, tiles(128), crs=None, place=None)),
        options={"rpc_dem": "FOLDER/dem.tif"},
        warp={"dst_crs": "EPSG:32610"},
    ),
    "vrt-mosaic": Kind(makers.virtual_mosaic, "zstd"),
    "vrt-computed": Kind(makers.virtual_sums, "lerc_deflate"),
}
CUTS = {
    # The same bytes are promised however the work is cut; here it is cut by little memory: the
    # source into five pieces, and a strip of which only a stream fits (directly it is refused).
    "little-memory": Kind(
        Raster("float64", 3, strips(41, compress="deflate", zlevel=1), -9999),
        options={"memory": "320MB", "workers": 1},
    ),
    "giant-strip-streamed": Kind(
        Raster("uint16", 2, strips(2107, compress="deflate", predictor=2), size=(2203, 2107)),
        "zstd",
        options={"memory": "320MB", "workers": 1, "blocksize": 128, "tile_size": 1024},
    ),
    "small-work-tiles": Kind(
        Raster("uint8", 3, tiles(128), 0), options={"work_tile": 192}, kernel="lanczos"
    ),
    "exact": Kind(Raster("uint8", 1, strips(64)), kernel="cubic", options={"exact": True}),
}
KINDS: Mapping[str, Kind] = {
    **LAYOUTS,
    **TYPES,
    **CODECS,
    **VALIDITY,
    **COLOURS,
    **PLACES,
    **CUTS,
}
