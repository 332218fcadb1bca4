"""Blocks that cogmill encodes are blocks that GDAL and tifffile decode."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from rasterio.io import MemoryFile

from cogmill.errors import Refused
from cogmill.raster.codecs.block_codec import BlockCodec, decode_mask, encode_mask
from cogmill.raster.codecs.profiles import CodecOptions, Samples, profile_codec

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float32", "float64"]
COMPLEX = ["complex64", "complex128"]
#: Profiles that pack bytes, whatever the pixels are.
PACKED = ["deflate", "lzw", "raw", "zstd"]
BLOCK = 32


def pixels(dtype: str, samples: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(7)
    kind = np.dtype(dtype).kind
    shape = (BLOCK, BLOCK, samples)
    if kind in "iu":
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max, shape, dtype, endpoint=True)
    if kind == "f":
        return random.normal(0, 1e6, shape).astype(dtype)
    return (random.normal(0, 9, shape) + 1j * random.normal(0, 9, shape)).astype(dtype)


def tiff(codec: BlockCodec, data: bytes, bits: int | None = None) -> bytes:
    """Return a one-block TIFF around an encoded block, laid out by tifffile."""
    out = io.BytesIO()
    extra: dict[str, Any] = {} if bits is None else {"bitspersample": bits}
    tifffile.imwrite(
        out,
        iter([data]),
        shape=(BLOCK, BLOCK, codec.samples) if codec.samples > 1 else (BLOCK, BLOCK),
        dtype=codec.dtype if bits is None else "bool",
        tile=(BLOCK, BLOCK),
        photometric="minisblack",
        planarconfig="contig" if codec.samples > 1 else None,
        compression=codec.tag,
        predictor=codec.predictor if codec.predictor > 1 else None,
        byteorder="<",
        metadata=None,
        **extra,
    )
    return out.getvalue()


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX)
def test_gdal_and_tifffile_read_what_every_profile_encodes(
    dtype: str, samples: int, name: str
) -> None:
    codec = profile_codec(name, Samples(dtype=dtype, bands=samples), BLOCK)
    expected = pixels(dtype, samples)
    data = codec.encode(expected)
    np.testing.assert_array_equal(codec.decode(data), expected)
    file = tiff(codec, data)
    np.testing.assert_array_equal(
        tifffile.imread(io.BytesIO(file)).reshape(expected.shape), expected
    )
    with MemoryFile(file) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.read(), np.moveaxis(expected, 2, 0))


def test_a_mask_block_is_one_bit_a_pixel_for_gdal() -> None:
    valid = np.random.default_rng(3).random((BLOCK, BLOCK)) < 0.3
    data = encode_mask(valid)
    np.testing.assert_array_equal(decode_mask(data, BLOCK), valid)
    codec = BlockCodec(compression="deflate", dtype="uint8", block=BLOCK)
    with MemoryFile(tiff(codec, data, bits=1)) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.read(1), valid.astype(np.uint8))


def test_the_defaults_are_those_of_the_design() -> None:
    def chosen(name: str, dtype: str, classes: bool = False) -> tuple[str, int | None, int]:
        codec = profile_codec(name, Samples(dtype=dtype, classes=classes))
        return codec.compression, codec.level, codec.predictor

    assert chosen("deflate", "uint8") == ("deflate", 6, 2)
    assert chosen("deflate", "float32") == ("deflate", 6, 3)
    assert chosen("deflate", "uint8", classes=True) == ("deflate", 6, 1)
    assert chosen("deflate", "complex64") == ("deflate", 6, 1)
    assert chosen("zstd", "int16") == ("zstd", 9, 2)
    assert chosen("lzw", "float64") == ("lzw", None, 3)
    assert chosen("raw", "uint8") == ("raw", None, 1)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mp3", CodecOptions(), "deflate, jpeg, lerc, .*, zstd"),
        ("deflate", CodecOptions(level=13), "1 to 12"),
        ("lzw", CodecOptions(level=3), "leave LEVEL out"),
        ("deflate", CodecOptions(predictor=3), "choose 1 or 2"),
        ("raw", CodecOptions(predictor=2), "leave PREDICTOR out"),
    ],
)
def test_what_a_profile_cannot_do_is_refused_with_what_it_can(
    name: str, options: CodecOptions, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        profile_codec(name, Samples(dtype="uint8"), options=options)


@pytest.mark.parametrize("name", PACKED)
def test_a_damaged_or_cut_block_is_an_error(name: str) -> None:
    codec = profile_codec(name, Samples(dtype="uint16"), BLOCK)
    data = codec.encode(pixels("uint16", 1))
    with pytest.raises(ValueError, match=r"decoded|not "):
        codec.decode(data[: len(data) // 2])
    if name != "raw":
        with pytest.raises(ValueError, match=r"decoded|not "):
            codec.decode(b"\xff" * 64)


def test_a_block_of_another_shape_or_dtype_is_not_encoded() -> None:
    codec = profile_codec("deflate", Samples(dtype="uint8"), BLOCK)
    with pytest.raises(ValueError, match="shape"):
        codec.encode(np.zeros((BLOCK, BLOCK // 2), np.uint8))
    with pytest.raises(ValueError, match="uint16"):
        codec.encode(np.zeros((BLOCK, BLOCK), np.uint16))
