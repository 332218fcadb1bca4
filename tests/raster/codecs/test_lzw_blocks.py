"""LZW blocks leave room in every reader's table of codes: they are those that libtiff writes."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as choice
from rasterio.io import MemoryFile

from cogmill.raster.codecs.block_codec import BlockCodec
from cogmill.raster.codecs.lzw_blocks import encode_lzw
from cogmill.raster.codecs.profiles import Samples, profile_codec

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CLEAR, END, FIRST = 256, 257, 258
#: libtiff makes no entry beyond 4093, and each code makes one: a reader is one entry behind.
MOST_CODES = 4093 - FIRST + 1
#: What geotiff.js 3 holds, single bytes and the two special codes among them.
READERS_TABLE = 4093
DTYPES = [
    f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("u", "")
] + ["float32", "float64", "complex64", "complex128"]  # fmt: skip
CONTENTS = ["constant", "labels", "noise", "ramp", "relief"]


class Walked(NamedTuple):
    """What a reader finds in one block.

    Attributes
    ----------
    decoded : bytes
        What the codes stand for.
    codes : list of int
        How many stand between two clear codes, and behind the last one.
    table : int
        The most entries that the table ever had.
    left : int
        Whole bytes behind the end code.
    """

    decoded: bytes
    codes: list[int]
    table: int
    left: int


def walk(data: bytes) -> Walked:
    """Decode LZW as section 13 of TIFF 6.0 says; codes widen one code early."""
    words = [bytes((value,)) for value in range(256)] + [b"", b""]
    table, before, largest = list(words), b"", len(words)
    position, width = 0, 9
    decoded: list[bytes] = []
    codes: list[int] = []
    padded = data + b"\0\0\0"
    while True:
        three = int.from_bytes(padded[position >> 3 : (position >> 3) + 3])
        code = three >> (24 - (position & 7) - width) & ((1 << width) - 1)
        assert position or code == CLEAR
        position += width
        if code == END:
            return Walked(b"".join(decoded), codes, largest, len(data) - (position + 7) // 8)
        if code == CLEAR:
            table, before, width = list(words), b"", 9
            codes.append(0)
            continue
        word = table[code] if code < len(table) else before + before[:1]
        if before:
            assert code <= len(table)
            table.append(before + word[:1])
        decoded.append(word)
        codes[-1] += 1
        before, largest = word, max(largest, len(table))
        width = min(max(9, (len(table) + 1).bit_length()), 12)


def block_of(content: str, codec: BlockCodec, seed: int = 1) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    shape = (codec.block, codec.block, codec.samples)
    y, x, sample = np.ogrid[: shape[0], : shape[1], : shape[2]]
    if content == "noise":
        count = codec.nbytes
        found = np.frombuffer(random.bytes(count), codec.dtype).reshape(shape)
        return np.where(np.isfinite(found), found, 0).astype(codec.dtype)
    made = {
        "constant": np.full(shape, seed % 100),
        "labels": random.integers(0, 3, shape)[y // 8, x // 8, sample],
        "ramp": (x + y + sample) % 120,
        "relief": 60 + 40 * np.sin(x / 37 + seed) * np.cos(y / 23) + random.normal(0, 2, shape),
    }[content]
    return np.broadcast_to(made, shape).astype(codec.dtype)


def lzw_codec(dtype: str, samples: int, block: int) -> BlockCodec:
    return profile_codec("lzw", Samples(dtype=dtype, bands=samples), block)


def assert_every_table_holds_them(data: bytes, raw: bytes) -> None:
    found = walk(data)
    assert found.decoded == raw
    assert found.left == 0
    assert max(found.codes) <= MOST_CODES
    assert found.table <= READERS_TABLE


@given(
    dtype=choice.sampled_from(DTYPES),
    samples=choice.integers(1, 4),
    block=choice.sampled_from([16, 32, 48, 64]),
    content=choice.sampled_from(CONTENTS),
    seed=choice.integers(0, 1000),
)
@example(dtype="uint16", samples=3, block=64, content="noise", seed=1)
def test_the_table_is_cleared_before_it_outgrows_any_reader(
    dtype: str, samples: int, block: int, content: str, seed: int
) -> None:
    codec = lzw_codec(dtype, samples, block)
    pixels = block_of(content, codec, seed)
    data = codec.encode(pixels)
    np.testing.assert_array_equal(codec.decode(data), pixels)
    plain = codec.model_copy(update={"predictor": 1})
    assert_every_table_holds_them(plain.encode(pixels), pixels.tobytes())
    assert max(walk(data).codes) <= MOST_CODES


@given(choice.binary(min_size=1, max_size=64), choice.integers(1, 400))
def test_any_bytes_come_back(some: bytes, repeats: int) -> None:
    assert_every_table_holds_them(encode_lzw(some * repeats), some * repeats)


BIG = [
    ("uint8", 3, "relief"),
    ("uint8", 4, "labels"),
    ("uint16", 1, "noise"),
    ("uint16", 1, "relief"),
    ("int16", 2, "ramp"),
    ("float32", 1, "relief"),
    ("float64", 1, "constant"),
]


@pytest.mark.parametrize(("dtype", "samples", "content"), BIG)
def test_a_block_of_512_pixels_is_what_gdal_writes_byte_for_byte(
    dtype: str, samples: int, content: str
) -> None:
    codec = lzw_codec(dtype, samples, 512)
    pixels = block_of(content, codec)
    data = codec.encode(pixels)
    assert data == written_by_gdal(codec, pixels)
    found = walk(data)
    assert max(found.codes) <= MOST_CODES
    assert found.table <= READERS_TABLE


def written_by_gdal(codec: BlockCodec, pixels: np.ndarray[Any, Any]) -> bytes:
    shape = {"width": codec.block, "height": codec.block, "count": codec.samples}
    tiles = {"tiled": True, "blockxsize": codec.block, "blockysize": codec.block}
    packed = {"compress": "lzw", "predictor": codec.predictor, "interleave": "pixel"}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", dtype=codec.dtype, **shape, **tiles, **packed) as dataset:
            dataset.write(np.moveaxis(pixels, 2, 0))
        file = bytes(memory.getbuffer())
    with tifffile.TiffFile(io.BytesIO(file)) as opened:
        page = opened.pages.first
        start, size = page.dataoffsets[0], page.databytecounts[0]
    return file[start : start + size]


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gdal_and_tifffile_decode_blocks_with_several_clear_codes(dtype: str, samples: int) -> None:
    codec = lzw_codec(dtype, samples, 128)
    pixels = block_of("noise", codec)
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        iter([codec.encode(pixels)]),
        shape=pixels.shape if samples > 1 else pixels.shape[:2],
        dtype=dtype,
        tile=pixels.shape[:2],
        photometric="minisblack",
        planarconfig="contig" if samples > 1 else None,
        compression=codec.tag,
        predictor=codec.predictor if codec.predictor > 1 else None,
        byteorder="<",
        metadata=None,
    )
    file.seek(0)
    np.testing.assert_array_equal(tifffile.imread(file).reshape(pixels.shape), pixels)
    with MemoryFile(file.getvalue()) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.read(), np.moveaxis(pixels, 2, 0))
