"""The table of readers and what each makes of our files: `docs/readers.md` is made from it.

``python -m tests.raster.cog.readers`` writes that page again; `test_readers` proves every cell.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.harness.places import ROOT
from tests.harness.readers.comparing import (
    KINDS,
    NAN_AS_ZERO,
    NEAR,
    READERS,
    SAME,
    profiles_that_hold,
)

PAGE = ROOT / "docs" / "readers.md"
JAVASCRIPT = "geotiff.js"
#: What async-tiff makes of differences in blocks of one band, in GDAL's own files too.
WRONG_DIFFERENCES = "629824 differ, by up to 265; 158382 differ, by up to 232"


class Exceptional(NamedTuple):
    """What does not decode to the very pixels, and in which readers.

    Attributes
    ----------
    readers : str
        How their names begin.
    profiles : str
        How the profiles' names begin.
    kind : str
        A part of the kind's name.
    outcome : str
        What `comparing.outcome` says.
    """

    readers: str
    profiles: str
    kind: str
    outcome: str


EXCEPTIONS = (
    Exceptional(JAVASCRIPT, "webp", "mask", "not outside a browser; 0"),
    Exceptional(JAVASCRIPT, "webp", "", "not outside a browser"),
    Exceptional("libvips", "", "mask", "0; mask not supported"),
    Exceptional("libvips", "", "by band", "not supported"),
    Exceptional(JAVASCRIPT, "lerc", "NaN", NAN_AS_ZERO),
    Exceptional("tifffile", "lerc", "NaN", NAN_AS_ZERO),
    Exceptional("async-tiff", "lerc", "NaN", NAN_AS_ZERO),
    Exceptional(JAVASCRIPT, "jpeg", "mask", f"{NEAR}; 0"),
    Exceptional(JAVASCRIPT, "jpeg", "", NEAR),
    Exceptional("async-tiff", "jpeg", "mask", f"{NEAR}; 0"),
    Exceptional("async-tiff", "jpeg", "", NEAR),
    Exceptional("async-tiff", "deflate", "by band", WRONG_DIFFERENCES),
    Exceptional("async-tiff", "zstd", "by band", WRONG_DIFFERENCES),
    Exceptional("async-tiff", "lzw", "by band", WRONG_DIFFERENCES),
)

INTRODUCTION = f"""# What other readers make of the files

Every cell is a test (`tests/raster/cog/test_readers.py`), and this page is made of the tests' table: `python -m tests.raster.cog.readers`. Each file is decoded whole (full resolution, an overview, their masks), in blocks of 256 pixels, by readers that are not GDAL.

- *{SAME}*: no pixel differs from the one that was written; for WebP, and for JPEG in readers with libjpeg-turbo, from the one that our own decoder gets. Of JPEG's colours luma is compared: decoders make subsampled colours whole in their own ways.
- *{NEAR}*: JPEG decoders round differently; the mask behind a semicolon is the same to the bit.
- *{NAN_AS_ZERO}*: LERC keeps a mask in the place of NaN, which these readers ignore, in GDAL's own files too. `--nodata` with a number, or another profile, is read by all.
- *not outside a browser*: geotiff.js lets the browser decode WebP, which is not tested here. *Mask not supported*, *not supported*: libvips reads no tiles of single bits and no bands that lie apart.
- *differ*: async-tiff adds up differences (predictor 2) of bands that lie apart as though they lay together, in GDAL's own files too; `--co INTERLEAVE=PIXEL` or `--co PREDICTOR=NO` avoids that.
- Alpha in profile jpeg becomes a mask. LZW blocks clear their table where libtiff does, since geotiff.js has room for no more."""


def expected(reader: str, profile: str, kind: str) -> str:
    """Return what shall become of one kind of file in one reader."""
    for each in EXCEPTIONS:
        fits = reader.startswith(each.readers) and profile.startswith(each.profiles)
        if fits and each.kind in kind:
            return each.outcome
    return SAME


def page() -> str:
    """Return the text of the page; profiles of one outcome share a row."""
    parts = [INTRODUCTION, f"\n| pixels | profiles | {' | '.join(READERS)} |"]
    parts.append("| --- " * (len(READERS) + 2) + "|")
    for kind in KINDS:
        rows: dict[tuple[str, ...], list[str]] = {}
        for profile in profiles_that_hold(kind):
            cells = tuple(_cell(expected(reader, profile, kind)) for reader in READERS)
            rows.setdefault(cells, []).append(f"`{profile}`")
        parts += [f"| {kind} | {', '.join(rows[key])} | {' | '.join(key)} |" for key in rows]
    return "\n".join(parts) + "\n"


def _cell(outcome: str) -> str:
    return "differ" if outcome == WRONG_DIFFERENCES else outcome


if __name__ == "__main__":
    PAGE.write_text(page())
