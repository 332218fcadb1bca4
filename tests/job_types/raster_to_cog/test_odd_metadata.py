"""Metadata that no writer should write: taken over or refused in a sentence, never a traceback.

The headers are made byte by byte, because GDAL would not write most of this.
"""

from __future__ import annotations

import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.harness.whole_job import SMALL, WholeJob

from cogmill.errors import CogmillError

FILES = range(30, 54)
SIDE = 70
ASCII, SHORT, DOUBLE = 2, 3, 12
METADATA, NODATA, COLOR_MAP, DESCRIPTION, SCALE, TIEPOINT = 42112, 42113, 320, 270, 33550, 33922
#: What stands where a number, a name or a text is expected.
NUMBERS = (
    "nan", "-nan", "inf", "-inf", "NaN ", "1e400", "-1e400", "1e-400", "0", "-0", "", " ", "x",
    "0x1p3", "1,5", "9" * 400, "18446744073709551616", "9007199254740993", "1e39", "-32769", "1 2",
    "+", "255.5", "\N{ARABIC-INDIC DIGIT ONE}",
)  # fmt: skip
TEXTS = (
    *NUMBERS, "a" * 5000, "]]>", "&#0;", "&amp;", "&bad;", "<b>", "\x01", "\t\n\r", "\N{SNOWMAN}",
    "{}%s%n", "\u202e", "=", "..",
)  # fmt: skip
NAMES = (
    "scale", "offset", "SCALE", "description", "DESCRIPTION", "unitType", "STATISTICS_MEAN", "",
    "AREA_OR_POINT", "NODATA", "COLORINTERP", "a=b", "a" * 3000, "\N{SNOWMAN}",
    "TIFFTAG_XRESOLUTION",
)  # fmt: skip
ROLES = ("scale", "offset", "description", "unittype", "colorinterp", "", "x")
DOMAINS = (
    "",
    "IMAGE_STRUCTURE",
    "RPC",
    "GEOLOCATION",
    "xml:XMP",
    "COLOR_PROFILE",
    "\N{SNOWMAN}",
    "x",
)
SAMPLES = ("0", "1", "-1", "99", "x", "", "4294967296")
#: Bytes that are no UTF-8, and such as end a text early.
STRAY = (b"\xff\xfe", b"\xc3(", b"\x80", b"\x00", b"\xed\xa0\x80", b"\xe9")


def metadata(choice: random.Random) -> bytes:
    """Write the XML of GDAL's tag, of odd items, sometimes damaged."""
    items = []
    for _ in range(choice.randint(1, 4)):
        attributes = {"name": choice.choice(NAMES)}
        for name, values in (("sample", SAMPLES), ("role", ROLES), ("domain", DOMAINS)):
            if choice.random() < 0.6:
                attributes[name] = choice.choice(values)
        numeric = attributes.get("role") in ("scale", "offset") or choice.random() < 0.4
        value = choice.choice(NUMBERS if numeric else TEXTS)
        words = "".join(f' {name}="{text}"' for name, text in attributes.items())
        items.append(f"<Item{words}>{value}</Item>")
    xml = "<GDALMetadata>\n" + "\n".join(items) + "\n</GDALMetadata>"
    return strayed(xml.encode(errors="surrogatepass"), choice)


def strayed(content: bytes, choice: random.Random) -> bytes:
    """Put stray bytes somewhere, one time in three."""
    if choice.random() < 2 / 3:
        return content
    at = choice.randrange(len(content) + 1)
    return content[:at] + choice.choice(STRAY) + content[at:]


def odd_raster(path: Path, choice: random.Random) -> Path:
    """Write a raster whose pixels are sound and whose metadata are not."""
    dtype = choice.choice(["uint8", "int16", "uint16", "float32", "float64", "uint32"])
    bands = choice.choice([1, 1, 3])
    shape = (SIDE, SIDE) if bands == 1 else (SIDE, SIDE, bands)
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    tags: list[tuple[int, int, int | None, Any, bool]] = [
        (METADATA, ASCII, None, metadata(choice), True),
    ]
    if choice.random() < 0.7:
        nodata = strayed(choice.choice(NUMBERS).encode(), choice)
        tags.append((NODATA, ASCII, None, nodata, True))
    if choice.random() < 0.3:
        tags.append(
            (DESCRIPTION, ASCII, None, strayed(choice.choice(TEXTS).encode(), choice), True)
        )
    if choice.random() < 0.3:
        colors = choice.choice([0, 3, 3 * 255, 3 * 256, 3 * 65536])
        tags.append((COLOR_MAP, SHORT, colors, [choice.randrange(65536)] * colors, True))
    placed = choice.random() < 0.9
    tags += [
        (SCALE, DOUBLE, 3, (0.1, 0.1, 0.0), True),
        (TIEPOINT, DOUBLE, 6, (0.0, 0.0, 0.0, 10.0, 50.0, 0.0), True),
        (34735, SHORT, 16, (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326), True),
    ] if placed else []  # fmt: skip
    tags = [tag for tag in tags if tag[2] != 0]
    with warnings.catch_warnings(action="ignore"):
        tifffile.imwrite(
            path, pixels, rowsperstrip=16, metadata=None, description=None, software=False,
            photometric="rgb" if bands == 3 else "minisblack", extratags=tags,
        )  # fmt: skip
    return path


def looked_at(path: Path, folder: Path, options: dict[str, Any]) -> str:
    """Take a file as far as it goes; return what it was refused for, nothing where it was not."""
    job = WholeJob(path, f"{folder}/{path.stem}.tif", options={**SMALL, **options})
    try:
        job.run()
    except CogmillError as error:
        assert "\n" not in str(error)
        assert error.remedy, error.message
        return error.message
    return ""


def test_odd_metadata_are_taken_over_or_refused_and_never_a_traceback(
    tmp_path: Path, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rasterio's log of what GDAL says stumbles over bytes that are no UTF-8, and goes on.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    refused: list[str] = []
    (tmp_path / "out").mkdir()
    for number in range(1200) if full else FILES:
        options = {} if number % 2 else {"dst_crs": "EPSG:3857"}
        path = odd_raster(tmp_path / f"{number}.tif", random.Random(number))
        try:
            refused.append(looked_at(path, tmp_path / "out", options))
        except Exception as error:
            raise AssertionError(f"file {number}: {type(error).__name__}: {error}") from error
    taken = refused.count("")
    # Were nearly all refused, or none, the files would prove nothing.
    assert len(refused) / 4 < taken < len(refused)
