"""A block of JPEG, WebP or LERC that says that it is larger than its TIFF is never decoded."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.rasters import FileBytes

from cogmill.errors import BlockUndecodable
from cogmill.raster.codecs.source_codecs import SizeClaim, demand_claim_within
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import inspect_tiff
from cogmill.raster.memory import MIB
from cogmill.raster.read.source_blocks import SourceReader
from cogmill.raster.validate.validate import validate_cog

SIDE = 256
JPEG, LERC, WEBP = 7, 34887, 50001
#: What reading a file, and refusing a block of it, may take: not a tenth of what the lies ask for.
REFUSING = 16 * MIB


def gray(side: int, dtype: str = "uint8") -> np.ndarray[Any, Any]:
    return np.zeros((side, side), dtype)


def rgb(side: int, samples: int = 3) -> np.ndarray[Any, Any]:
    return np.zeros((side, side, samples), np.uint8)


def jpeg(pixels: np.ndarray[Any, Any]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels))


def webp(pixels: np.ndarray[Any, Any], *, lossless: bool) -> bytes:
    return bytes(imagecodecs.webp_encode(pixels, level=50, lossless=lossless, method=0))


def lerc(pixels: np.ndarray[Any, Any]) -> bytes:
    return bytes(imagecodecs.lerc_encode(pixels, version=4, planar=False))


def lerc1(side: int, bands: int) -> bytes:
    """Return the headers of blobs of LERC1, which no encoder at hand writes."""
    head = b"CntZImage " + np.array([11, 8, side, side], "<i4").tobytes() + bytes(8)
    return (head + bytes(64)) * bands


DEFLATED, ZSTD = {"compression": "deflate"}, {"compression": "zstd"}
#: Compression, samples of the TIFF, its block's bytes, and what is said to pack LERC once more.
#: Each of them wants 100 MB or more.
LIES: dict[str, tuple[int, int, Callable[[], bytes], dict[str, str]]] = {
    "jpeg": (JPEG, 1, lambda: jpeg(gray(10500)), {}),
    "jpeg of colours": (JPEG, 3, lambda: jpeg(rgb(6500)), {}),
    "webp, lossless": (WEBP, 3, lambda: webp(rgb(6500), lossless=True), {}),
    "webp, lossy": (WEBP, 3, lambda: webp(rgb(6500), lossless=False), {}),
    "webp, alpha": (WEBP, 4, lambda: webp(rgb(5500, 4), lossless=False), {}),
    "lerc": (LERC, 1, lambda: lerc(gray(10500)), {}),
    "lerc of many bands": (LERC, 1, lambda: lerc(gray(SIDE)) * 1600, {}),
    "lerc of many samples": (LERC, 1, lambda: lerc(np.zeros((SIDE, SIDE, 1600), "u1")), {}),
    "lerc of another type": (LERC, 1, lambda: lerc(gray(SIDE, "float64")) * 220, {}),
    "lerc1": (LERC, 1, lambda: lerc1(5500, 1), {}),
    "lerc1 of many bands": (LERC, 1, lambda: lerc1(SIDE, 500), {}),
    "lerc in deflate": (LERC, 1, lambda: zlib.compress(lerc(gray(10500))), DEFLATED),
    "lerc in zstd": (LERC, 1, lambda: bytes(imagecodecs.zstd_encode(lerc(gray(10500)))), ZSTD),
    "deflate around lerc": (LERC, 1, lambda: zlib.compress(bytes(100 * MIB)), DEFLATED),
    "zstd around lerc": (
        LERC, 1, lambda: bytes(imagecodecs.zstd_encode(bytes(100 * MIB))), ZSTD
    ),
}  # fmt: skip


def tiff(path: Path, name: str) -> Path:
    """Write one tile whose stream is not what the tags say."""
    compression, samples, stream, packing = LIES[name]
    tifffile.imwrite(
        path,
        iter([stream()]),
        shape=(SIDE, SIDE, samples) if samples > 1 else (SIDE, SIDE),
        dtype="uint8",
        compression=compression,
        tile=(SIDE, SIDE),
        metadata=None,
        photometric="rgb" if samples > 1 else "minisblack",
        compressionargs=packing,
    )
    return path


class Growth:
    """How much the process's peak grew in a block, in bytes."""

    def __enter__(self) -> Growth:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _peak()
        return self

    def __exit__(self, *error: object) -> None:
        self.nbytes = _peak() - self._before


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells no peak")


@pytest.mark.parametrize("name", LIES)
def test_a_block_that_says_that_it_is_larger_than_its_tags_is_refused_undecoded(
    name: str, tmp_path: Path
) -> None:
    path = tiff(tmp_path / "lie.tif", name)
    with environment(16 * MIB), Growth() as growth:
        reader = SourceReader(inspect_tiff(FileBytes(path), str(path)), FileBytes(path))
        with pytest.raises(BlockUndecodable) as raised:
            reader.read(Window(col_off=0, row_off=0, width=SIDE, height=SIDE))
    assert growth.nbytes <= REFUSING
    if "around" not in name:
        assert f"and a block here has {SIDE} x {SIDE}" in raised.value.message


@pytest.mark.parametrize("name", ["jpeg", "webp, lossless", "lerc in deflate"])
def test_validate_decodes_no_such_block_either(name: str, tmp_path: Path) -> None:
    path = tiff(tmp_path / "lie.tif", name)
    with environment(16 * MIB), Growth() as growth:
        verdict = validate_cog(FileBytes(path), str(path), 1024 * MIB, lambda done: None)
    assert growth.nbytes <= REFUSING
    assert any("it says that it is" in finding.message for finding in verdict.findings)


@given(
    size=st.tuples(st.integers(2, 90), st.integers(2, 90)),
    kind=st.sampled_from(["jpeg", "jpeg rgb", "webp", "webp lossy", "webp alpha", "lerc", "lerc3"]),
)
def test_a_stream_says_the_size_that_it_has(size: tuple[int, int], kind: str) -> None:
    rows, cols = size
    noise = np.random.default_rng(rows * cols).integers(0, 255, (rows, cols, 4), np.uint8)
    colours = np.ascontiguousarray(noise[..., :3])
    compression = kind.split()[0].removesuffix("3")
    data, samples, itemsize = {
        "jpeg": lambda: (jpeg(noise[..., 0].copy()), 1, 1),
        "jpeg rgb": lambda: (jpeg(colours), 3, 1),
        "webp": lambda: (webp(colours, lossless=True), 3, 1),
        "webp lossy": lambda: (webp(colours, lossless=False), 3, 1),
        "webp alpha": lambda: (webp(noise, lossless=False), 4, 1),
        "lerc": lambda: (lerc(noise[..., 0].astype("float32")), 1, 4),
        "lerc3": lambda: (lerc(colours.astype("uint16")), 3, 2),
    }[kind]()
    demand_claim_within(compression, data, SizeClaim(rows, cols, samples, itemsize))
    for less in ((rows - 1, cols), (rows, cols - 1)):
        with pytest.raises(ValueError, match=f"{cols} x {rows} pixels"):
            demand_claim_within(compression, data, SizeClaim(*less, samples, itemsize))
    if compression == "lerc" or kind == "jpeg rgb":
        with pytest.raises(ValueError, match="pixels of"):
            demand_claim_within(compression, data, SizeClaim(rows, cols, samples, itemsize - 1))


@pytest.mark.parametrize("compression", ["jpeg", "webp", "lerc"])
@given(data=st.binary(max_size=60), whole=st.integers(0, 40))
def test_whatever_else_the_bytes_are_is_a_value_error(
    compression: str, data: bytes, whole: int
) -> None:
    head = {"jpeg": jpeg(gray(8)), "webp": webp(rgb(8), lossless=True), "lerc": lerc(gray(8))}
    try:
        demand_claim_within(compression, head[compression][:whole] + data, SizeClaim(8, 8, 3, 1))
    except ValueError as error:
        assert str(error)
