"""Files of every profile, and how far what other readers decode of them is from our pixels.

`scripts/readers` puts the readers into ``build/readers``; vips is Debian's.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tests.harness.cog_scenes import Case, image_of, pushed, scene
from tests.harness.places import ROOT

from cogmill.errors import Refused
from cogmill.raster.codecs.block_codec import BlockCodec, decode_mask
from cogmill.raster.codecs.profiles import PROFILES
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.tile_encoding import encode_tile

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
INSTALLED = ROOT / "build" / "readers"
#: Blocks of so many pixels need several clear codes each.
BLOCK = 256
WIDTH, HEIGHT = 413, 307
_JPEG, _YCBCR = 7, 6

KINDS = {
    "gray uint8": Case(1, "uint8"),
    "colours": Case(3, "uint8"),
    "colours and mask": Case(3, "uint8", validity="mask"),
    "colours and alpha": Case(4, "uint8", validity="alpha"),
    "uint16": Case(1, "uint16"),
    "float32": Case(1, "float32"),
    "float32 and NaN": Case(1, "float32", validity="nan"),
    "5 x int16 by band": Case(5, "int16", interleave="band"),
}

SAME = "0"
#: How far JPEG decoders are apart, which round differently: gray, or the luma of colours.
LEVELS = 2
NEAR = f"within {LEVELS} levels"
NAN_AS_ZERO = "NaN is read as 0"
#: What readers say of what they cannot do.
LACKING = {
    "createImageBitmap": "not outside a browser",
    "separate planes not supported": "not supported",
    "not a whole number of bytes": "mask not supported",
}


@dataclass(frozen=True)
class Page:
    """One image of a file as our own codec decodes it.

    Attributes
    ----------
    pixels : ndarray
        Shape ``(row, col, sample)``; of a mask, True is valid.
    lossy : bool
        Whether decoders may round differently.
    luma_only : bool
        Whether they may make colours of it in their own ways, too.
    """

    pixels: Array
    lossy: bool = False
    luma_only: bool = False


@dataclass(frozen=True)
class Made:
    """One file and what it holds."""

    profile: str
    kind: str
    path: Path
    pages: tuple[Page, ...]


def profiles_that_hold(kind: str) -> list[str]:
    """Return the profiles that hold one kind of pixels as it is."""
    return [profile for profile in PROFILES if _image(profile, kind) is not None]


def make_all(folder: Path) -> list[Made]:
    """Write a file of each kind with each profile that holds it."""
    return [_made(profile, kind, folder) for kind in KINDS for profile in profiles_that_hold(kind)]


def _image(profile: str, kind: str) -> CogImage | None:
    if profile == "jpeg" and KINDS[kind].validity == "alpha":
        return None  # A mask takes its place, and that file is there.
    try:
        image = image_of(KINDS[kind]._replace(profile=profile), WIDTH, HEIGHT)
    except Refused:
        return None
    codec = image.codec.model_copy(update={"block": BLOCK})
    return image.model_copy(update={"codec": codec, "tags": {}})


def _made(profile: str, kind: str, folder: Path) -> Made:
    image = _image(profile, kind)
    assert image is not None
    rows = scene(image)
    data = encode_tile(image, pushed(rows, BLOCK), "average", overviews=1).data
    path = folder / f"{profile}-{'-'.join(kind.split())}.tif"
    path.write_bytes(data)
    pages = tuple(_own_pages(data, image))
    if not image.codec.lossy:
        np.testing.assert_array_equal(pages[0].pixels, np.moveaxis(rows[0], 0, 2))
    return Made(profile, kind, path, pages)


def _own_pages(data: bytes, image: CogImage) -> Iterator[Page]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for each in file.pages:
            page = each.aspage()
            is_mask = bool(page.subfiletype & 4)
            spots = zip(page.dataoffsets, page.databytecounts, strict=True)
            blocks = [_decoded(image.codec, data[at : at + size], is_mask) for at, size in spots]
            pixels = _joined(blocks, page.imagewidth, page.imagelength)
            yield Page(pixels, page.compression == _JPEG, page.photometric == _YCBCR)


def _decoded(codec: BlockCodec, data: bytes, is_mask: bool) -> Array:
    return decode_mask(data, codec.block)[..., None] if is_mask else codec.decode(data)


def _joined(blocks: Sequence[Array], width: int, height: int) -> Array:
    across, down = -(-width // BLOCK), -(-height // BLOCK)
    grid = np.stack(blocks).reshape(-1, down, across, *blocks[0].shape)
    plane_last = np.moveaxis(grid, 0, -1).reshape(down, across, BLOCK, BLOCK, -1)
    whole = plane_last.transpose(0, 2, 1, 3, 4).reshape(down * BLOCK, across * BLOCK, -1)
    return whole[:height, :width]


def _by_script(*command: str | Path) -> Callable[[Path, Sequence[Made]], None]:
    def decode(folder: Path, files: Sequence[Made]) -> None:
        paths = [str(each.path) for each in files]
        path = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(INSTALLED / "python")}
        subprocess.run([*map(str, command), str(folder), *paths], check=True, env=path)

    return decode


#: Without warnings, and without its modules for other formats: it starts in half the time.
_VIPS = {"PATH": "/usr/bin:/bin", "VIPSHOME": "/nonexistent", "VIPS_WARNING": "1"}


def _by_vips(folder: Path, files: Sequence[Made]) -> None:
    for made in files:
        for number in range(len(made.pages)):
            out = folder / f"{made.path.stem}.{number}"
            ended = subprocess.run(
                ["vips", "rawsave", f"{made.path}[page={number}]", f"{out}.raw"],
                check=False,
                env=_VIPS,
                capture_output=True,
                text=True,
            )
            if ended.returncode:
                Path(f"{out}.raw").unlink(missing_ok=True)
                Path(f"{out}.txt").write_text(ended.stderr)


def _by_tifffile(folder: Path, files: Sequence[Made]) -> None:
    for made in files:
        with tifffile.TiffFile(made.path) as file:
            for number, page in enumerate(file.pages):
                pixels = page.asarray()
                if page.aspage().planarconfig == 2:
                    pixels = np.moveaxis(pixels, 0, -1)
                (folder / f"{made.path.stem}.{number}.raw").write_bytes(pixels.tobytes())


_SCRIPT = HERE / "read_geotiff.mjs"
#: What decodes files into a folder: ``NAME.NUMBER.raw`` of each image, or ``.txt`` of why not.
READERS: dict[str, Callable[[Path, Sequence[Made]], None]] = {
    "geotiff.js 3.0.5": _by_script("node", _SCRIPT, INSTALLED / "geotiff-3.0.5"),
    "geotiff.js 3.1.0-beta.0": _by_script("node", _SCRIPT, INSTALLED / "geotiff-3.1.0-beta.0"),
    "tifffile": _by_tifffile,
    "async-tiff 0.7.2": _by_script(sys.executable, HERE / "read_async_tiff.py"),
    "libvips 8.14": _by_vips,
}


def outcome(made: Made, folder: Path) -> str:
    """Return what became of one file in one reader, in the words of `docs/readers.md`."""
    found = [_of_page(page, folder / f"{made.path.stem}.{n}") for n, page in enumerate(made.pages)]
    return "; ".join(dict.fromkeys(found))


def _of_page(page: Page, out: Path) -> str:
    failed = out.with_name(f"{out.name}.txt")
    if failed.exists():
        said = " ".join(failed.read_text().split())
        return next((words for part, words in LACKING.items() if part in said), f"fails: {said}")
    found = np.fromfile(out.with_name(f"{out.name}.raw"), np.uint8)
    found = found != 0 if page.pixels.dtype == bool else found.view(page.pixels.dtype)
    if found.size != page.pixels.size:
        return f"{found.size} values where {page.pixels.size} are due"
    found = found.reshape(page.pixels.shape)
    off = differences(found, page)
    if not off.any():
        return SAME
    if (np.isnan(page.pixels) & (found == 0))[off > 0].all():
        return NAN_AS_ZERO
    if page.lossy and off.max() <= LEVELS:
        return NEAR
    return f"{np.count_nonzero(off)} differ, by up to {off.max():g}"


def differences(found: Array, page: Page) -> Array:
    """Return by how much each pixel is off; for JPEG's colours, its luma."""
    first, second = found.astype(np.float64), page.pixels.astype(np.float64)
    if page.luma_only:
        inside = ((second > 0) & (second < 255) & (first > 0) & (first < 255)).all(axis=2)
        if inside.mean() < 0.5:
            return np.full(inside.shape, np.inf)  # What is clipped has no luma to compare.
        luma = np.array([0.299, 0.587, 0.114])
        return np.asarray(np.abs((first - second) @ luma) * inside)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    off = np.where(same, 0.0, np.abs(first - second))
    return np.where(np.isnan(off), np.inf, off)
