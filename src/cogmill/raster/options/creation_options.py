"""Creation options, ``--co KEY=VALUE``, under the names of GDAL's COG driver."""

from __future__ import annotations

import math
from typing import Literal

from cogmill.errors import Refused
from cogmill.raster.options.grid_options import ZOOM_STRATEGIES

Compression = Literal[
    "raw", "deflate", "lzw", "zstd", "webp", "jpeg", "lerc", "lerc_deflate", "lerc_zstd"
]
OVERVIEW_RESAMPLING = ("average", "nearest", "mode")
#: Creation options of GDAL's COG driver that are understood, with what they take.
CREATION_OPTIONS: dict[str, str] = {
    "BLOCKSIZE": "a multiple of 16 from 64 to 4096",
    "COMPRESS": "DEFLATE, ZSTD, LZW, WEBP, JPEG, LERC, LERC_DEFLATE, LERC_ZSTD or NONE",
    "LEVEL": "1 to 12 for DEFLATE and LERC_DEFLATE, 1 to 22 for ZSTD and LERC_ZSTD",
    "QUALITY": "1 to 100 for JPEG and WEBP, where 100 is lossless for WEBP",
    "MAX_Z_ERROR": "how far a value may be off, 0 or more, for LERC",
    "PREDICTOR": "YES, NO, STANDARD or FLOATING_POINT",
    "INTERLEAVE": "PIXEL or BAND",
    "BIGTIFF": "IF_NEEDED",
    "SPARSE_OK": "FALSE",
    "OVERVIEW_RESAMPLING": "AVERAGE, NEAREST or MODE",
    "TILING_SCHEME": "the name of a tile matrix set, such as GoogleMapsCompatible",
    "ZOOM_LEVEL": "a number from 0, the coarsest",
    "ZOOM_LEVEL_STRATEGY": "AUTO, LOWER or UPPER",
}
#: What COMPRESS takes, and what it is called here.
COMPRESS: dict[str, Compression] = {
    "DEFLATE": "deflate",
    "ZSTD": "zstd",
    "LZW": "lzw",
    "WEBP": "webp",
    "JPEG": "jpeg",
    "LERC": "lerc",
    "LERC_DEFLATE": "lerc_deflate",
    "LERC_ZSTD": "lerc_zstd",
    "NONE": "raw",
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "COMPRESS": tuple(COMPRESS),
    "PREDICTOR": ("YES", "NO", "STANDARD", "FLOATING_POINT"),
    "INTERLEAVE": ("PIXEL", "BAND"),
    "BIGTIFF": ("IF_NEEDED",),
    "SPARSE_OK": ("FALSE", "NO"),
    "OVERVIEW_RESAMPLING": tuple(name.upper() for name in OVERVIEW_RESAMPLING),
    "ZOOM_LEVEL_STRATEGY": tuple(name.upper() for name in ZOOM_STRATEGIES),
}
#: Those that take any text, judged where they are used.
_TEXTS = frozenset({"TILING_SCHEME"})
#: The highest level of each compression that has levels; the lowest is 1.
LEVELS: dict[str, int] = {"deflate": 12, "zstd": 22, "lerc_deflate": 12, "lerc_zstd": 22}
LERC = ("lerc", "lerc_deflate", "lerc_zstd")


def check_creation_option(key: str, text: str) -> None:
    """Refuse a creation option that is unknown, or a value that it does not take."""
    if key not in CREATION_OPTIONS:
        raise Refused(
            f"--co {key} is not an option that can be used",
            f"use one of {', '.join(CREATION_OPTIONS)}",
        )
    if key in _TEXTS:
        return
    choices = _CHOICES.get(key)
    if key == "MAX_Z_ERROR":
        fits = _is_error(text)
    else:
        fits = text.isdecimal() if choices is None else text in choices
    if not fits:
        raise Refused(f"--co {key}={text} is not possible", f"{key} takes {CREATION_OPTIONS[key]}")


def _is_error(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and value >= 0
