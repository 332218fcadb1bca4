"""JPEG, WebP and LERC blocks: what GDAL decodes, and how far that is from what was encoded."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cogmill.errors import Refused
from cogmill.raster.codecs.block_codec import BlockCodec
from cogmill.raster.codecs.image_codecs import LERC_TYPES, encode_lerc, fill_invalid
from cogmill.raster.codecs.profiles import (
    PROFILES,
    CodecOptions,
    Samples,
    profile_codec,
)

BLOCK = 64
LERC = ["lerc", "lerc_deflate", "lerc_zstd"]


def waves(samples: int, dtype: str = "uint8") -> np.ndarray[Any, Any]:
    rows, cols = np.mgrid[:BLOCK, :BLOCK]
    planes = [60 + 50 * np.sin(rows / (9 + k)) * np.cos(cols / 17) for k in range(samples)]
    noise = np.random.default_rng(2).normal(0, 2, (BLOCK, BLOCK, samples))
    return np.ascontiguousarray((np.stack(planes, 2) + noise).astype(dtype))


def noise(dtype: str, samples: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(7)
    shape = (BLOCK, BLOCK, samples)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1e6, shape).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_lerc_gives_the_same_bytes_whatever_lay_in_memory_before(dtype: str) -> None:
    block = waves(1, dtype)
    made = set()
    for value in range(40):
        dirt = [np.full(size, value, np.uint8) for size in range(1000, 40_000, 1000)]
        del dirt
        made.add(encode_lerc(block, 0.0))
    assert len(made) == 1


@pytest.mark.parametrize("name", LERC)
@pytest.mark.parametrize("dtype", LERC_TYPES)
@pytest.mark.parametrize("samples", [1, 3])
def test_lerc_without_an_error_gives_back_every_bit(dtype: str, samples: int, name: str) -> None:
    floats = np.dtype(dtype).kind == "f"
    bands = Samples(dtype=dtype, bands=1 if floats else samples)
    codec = profile_codec(name, bands, BLOCK)
    block = noise(dtype, codec.samples)
    assert not codec.lossy
    assert codec.tag == 34887
    assert codec.decode(codec.encode(block)).tobytes() == block.tobytes()


@given(st.sampled_from(LERC), st.sampled_from(LERC_TYPES), st.floats(0.001, 50))
def test_lerc_is_never_off_by_more_than_its_error(name: str, dtype: str, error: float) -> None:
    asked = CodecOptions(max_z_error=error)
    codec = profile_codec(name, Samples(dtype=dtype), BLOCK, asked)
    block = waves(1, dtype)
    block[3, 3] = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1e5
    decoded = codec.decode(codec.encode(block))
    off = np.abs(decoded.astype(np.float64) - block.astype(np.float64))
    # A float is rounded once more, to the type that it has.
    last_place = np.spacing(np.abs(block)) if np.dtype(dtype).kind == "f" else 0
    assert (off <= error + last_place).all()
    assert codec.lossy == (error >= 1 or np.dtype(dtype).kind == "f")


def test_nan_and_infinity_come_through_lerc_at_any_error() -> None:
    block = waves(1, "float32")
    block[:9] = np.nan
    block[20, 20], block[21, 21] = np.inf, -np.inf
    for error in (0.0, 0.5):
        codec = profile_codec(
            "lerc", Samples(dtype="float32"), BLOCK, CodecOptions(max_z_error=error)
        )
        decoded = codec.decode(codec.encode(block))
        np.testing.assert_array_equal(np.isnan(decoded), np.isnan(block))
        np.testing.assert_array_equal(np.isinf(decoded), np.isinf(block))
        nothing = np.full((BLOCK, BLOCK, 1), np.nan, np.float32)
        assert np.isnan(codec.decode(codec.encode(nothing))).all()


@pytest.mark.parametrize("samples", [3, 4])
def test_webp_of_quality_100_gives_back_every_pixel_under_alpha_zero_too(samples: int) -> None:
    codec = profile_codec(
        "webp", Samples(dtype="uint8", bands=samples), BLOCK, CodecOptions(quality=100)
    )
    block = noise("uint8", samples)
    block[:20, :, -1] = 0
    assert not codec.lossy
    np.testing.assert_array_equal(codec.decode(codec.encode(block)), block)


def test_lossy_webp_keeps_alpha_as_it_is_and_an_opaque_one_too() -> None:
    codec = profile_codec("webp", Samples(dtype="uint8", bands=4, alpha_band=4), BLOCK)
    block = waves(4)
    block[:, :30, 3] = np.arange(30)
    for alpha in (block[:, :, 3].copy(), np.full((BLOCK, BLOCK), 255, np.uint8)):
        block[:, :, 3] = alpha
        decoded = codec.decode(codec.encode(block))
        np.testing.assert_array_equal(decoded[:, :, 3], alpha)


@pytest.mark.parametrize("quality", [1, 10, 24, 75, 100])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_jpeg_stream_and_its_tables_are_what_libjpeg_made_in_one(
    samples: int, quality: int
) -> None:
    codec = profile_codec(
        "jpeg", Samples(dtype="uint8", bands=samples), BLOCK, CodecOptions(quality=quality)
    )
    block = waves(samples)
    options: dict[str, Any] = {}
    if samples == 3:
        options = {"colorspace": "rgb", "outcolorspace": "ycbcr", "subsampling": "420"}
    whole = imagecodecs.jpeg8_encode(np.squeeze(block), level=quality, optimize=True, **options)
    expected = imagecodecs.jpeg8_decode(whole)
    data, tables = codec.encode(block), codec.jpeg_tables
    assert tables is not None
    assert b"JFIF" not in data + tables
    assert b"\xff\xdb" not in data[:64]
    np.testing.assert_array_equal(np.squeeze(codec.decode(data)), expected)


@pytest.mark.parametrize("name", ["jpeg", "webp", *LERC])
def test_a_damaged_or_cut_image_block_is_an_error(name: str) -> None:
    codec = profile_codec(name, Samples(dtype="uint8", bands=3), BLOCK)
    data = codec.encode(noise("uint8", 3))
    for damaged in (data[:40], b"\xff" * 64, b""):
        with pytest.raises(ValueError, match="not "):
            codec.decode(damaged)


@pytest.mark.parametrize("name", ["jpeg", "webp", *LERC])
def test_the_same_block_gives_the_same_bytes(name: str) -> None:
    codec = profile_codec(name, Samples(dtype="uint8", bands=3), BLOCK)
    assert len({codec.encode(noise("uint8", 3)) for _ in range(3)}) == 1


@given(
    hnp.arrays(np.uint8, (16, 16, 2)),
    hnp.arrays(np.bool_, (16, 16), elements=st.booleans()),
)
def test_what_means_nothing_gets_the_mean_of_what_means_something(
    block: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]
) -> None:
    settled = block.copy()
    fill_invalid(settled, valid)
    np.testing.assert_array_equal(settled[valid], block[valid])
    if not valid.all():
        expected = block[valid].mean(axis=0) if valid.any() else np.zeros(2)
        assert (settled[~valid] == settled[~valid][0]).all()
        assert (np.abs(settled[~valid] - expected) <= 1).all()


def test_floats_that_mean_nothing_get_the_least_number_of_the_block() -> None:
    block = np.array([[[4.0], [np.nan]], [[2.5], [-9999.0]]], np.float32)
    fill_invalid(block, np.array([[True, True], [True, False]]))
    assert block[1, 1, 0] == 2.5
    fill_invalid(block, np.zeros((2, 2), bool))
    assert (block == 0).all()


ANY = "deflate, zstd, lzw, raw"
PLAIN = "deflate, zstd, lzw, lerc, lerc_deflate, lerc_zstd, raw"
REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("jpeg", {"dtype": "float32"}, {}, f"JPEG holds uint8, and they are float32; .* {PLAIN}$"),
    ("jpeg", {"bands": 2}, {}, f"one band or three, alpha aside, and they have 2; .* {PLAIN}$"),
    ("jpeg", {"bands": 4}, {}, f"and they have 4; choose one of {PLAIN}$"),
    ("jpeg", {"bands": 3, "together": False}, {}, "INTERLEAVE=BAND keeps them apart"),
    ("jpeg", {"classes": True}, {}, f"they are labels .*; choose one of {PLAIN}$"),
    ("webp", {}, {}, "three or four bands, and they have 1; .* deflate, zstd, lzw, jpeg, lerc,"),
    ("webp", {"dtype": "uint16", "bands": 3}, {}, "WebP holds uint8, and they are uint16"),
    ("webp", {"bands": 4}, {}, "takes a fourth band for alpha, and theirs is not"),
    ("webp", {"bands": 3, "together": False}, {}, "INTERLEAVE=BAND keeps them apart"),
    ("lerc", {"dtype": "complex64"}, {}, f"LERC holds int8, .* complex64; choose one of {ANY}$"),
    ("lerc_zstd", {"dtype": "int64"}, {}, f"they are int64; choose one of {ANY}$"),
    ("lerc", {"dtype": "float32", "bands": 2, "together": True}, {}, "floats band by band"),
    ("lerc", {"classes": True}, {"max_z_error": 1.0}, "they are labels"),
    ("deflate", {}, {"quality": 9}, "no QUALITY; leave QUALITY out"),
    ("lerc", {}, {"quality": 9}, "no QUALITY"),
    ("jpeg", {}, {"max_z_error": 1.0}, "no MAX_Z_ERROR"),
    ("jpeg", {}, {"level": 6}, "no level; leave LEVEL out"),
    ("webp", {"bands": 3}, {"predictor": 2}, "no predictor; leave PREDICTOR out"),
    ("lerc_deflate", {}, {"level": 13}, "choose 1 to 12"),
]


@pytest.mark.parametrize(("name", "pixels", "asked", "words"), REFUSALS)
def test_what_a_profile_cannot_hold_is_refused_with_the_profiles_that_can(
    name: str, pixels: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    samples = Samples(**({"dtype": "uint8"} | pixels))
    with pytest.raises(Refused, match=words):
        profile_codec(name, samples, BLOCK, CodecOptions(**asked))


def test_labels_pass_where_nothing_is_lost() -> None:
    for name in set(PROFILES) - {"jpeg", "webp"}:
        assert profile_codec(name, Samples(dtype="uint8", classes=True)).predictor == 1


def test_floats_lie_band_by_band_in_lerc_and_whole_numbers_together() -> None:
    assert profile_codec("lerc", Samples(dtype="float32", bands=3)).samples == 1
    assert profile_codec("lerc", Samples(dtype="uint16", bands=3)).samples == 3
    assert profile_codec("deflate", Samples(dtype="float32", bands=3)).samples == 3


def test_a_lossy_codec_without_alpha_holds_one_band_less() -> None:
    def samples(name: str, bands: int, **asked: Any) -> int:
        found = Samples(dtype="uint8", bands=bands, alpha_band=bands)
        return profile_codec(name, found, options=CodecOptions(**asked)).samples

    assert samples("jpeg", 4) == 3
    assert samples("jpeg", 2) == 1
    assert samples("lerc", 4) == 4
    assert samples("lerc", 4, max_z_error=2.0) == 3
    assert samples("webp", 4) == 4


def test_a_codec_travels_as_json() -> None:
    for name in PROFILES:
        codec = profile_codec(name, Samples(dtype="uint8", bands=3))
        assert BlockCodec.model_validate_json(codec.model_dump_json()) == codec
