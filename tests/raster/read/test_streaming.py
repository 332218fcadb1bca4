"""A strip that is decoded as a stream gives the pixels that it gives as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness import rasters
from tests.harness.rasters import CASES, Case, FileBytes

from cogmill.errors import BlockUndecodable
from cogmill.raster import gdal
from cogmill.raster.codecs.unpacking import UNPACKERS, DamagedStream
from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import Structure, inspect_tiff
from cogmill.raster.read import streaming
from cogmill.raster.read.source_blocks import SourceReader
from cogmill.raster.read.streaming import StreamedPiece, can_stream
from cogmill.raster.tiff.block_table import BlockTable

STRIP = {"tiled": False, "blockysize": rasters.HEIGHT}
MORE = {
    "one strip, lzw": Case(bands=3, options={**STRIP, "compress": "lzw", "predictor": 2}),
    "one strip, packbits": Case(options={**STRIP, "compress": "packbits"}),
    "one strip a band, zstd": Case(
        "uint16", 3, {**STRIP, "compress": "zstd", "predictor": 2, "interleave": "band"}
    ),
    "one strip, floats, big-endian": Case(
        "float32", 2, {**STRIP, "compress": "deflate", "predictor": 3, "endianness": "big"}
    ),
    "one strip, int32, big-endian": Case(
        "int32", 2, {**STRIP, "compress": "lzw", "predictor": 2, "endianness": "big"}
    ),
    "one strip, complex": Case("complex64", 1, {**STRIP, "compress": "deflate"}),
    "one strip, 1 bit": Case(options={**STRIP, "compress": "deflate", "nbits": 1}),
    "one strip, masked": Case(bands=3, options={**STRIP, "compress": "deflate"}, mask="internal"),
    "strips, masked beside": Case(
        bands=2, options={**STRIP, "blockysize": 50, "compress": "lzw"}, mask="sidecar"
    ),
    "strips, never written": Case(
        "int16", 1, {**STRIP, "blockysize": 20, "compress": "deflate"}, nodata=-9, sparse=True
    ),
}
#: What cannot be decoded as a stream: see `streams`.
WHOLE = ("jpeg strips", "one bit", "four bits", "lerc_deflate strips")
STRIPED = {
    name: case for name, case in {**CASES, **MORE}.items() if not case.options.get("tiled", True)
}
PARTS = st.lists(st.binary(max_size=400), max_size=12)


@pytest.fixture(autouse=True)
def _short_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no strip come in one piece."""
    monkeypatch.setattr(streaming, "REQUEST_BYTES", 997)


def inspected(path: Path) -> tuple[Structure, FileBytes, FileBytes | None]:
    beside = path.with_name(path.name + ".msk")
    mask = FileBytes(beside) if beside.exists() else None
    with gdal.environment(1 << 24):
        return inspect_tiff(FileBytes(path), str(path), mask), FileBytes(path), mask


@pytest.fixture(scope="module", params=[name for name in STRIPED if name not in WHOLE])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streamed") / "source.tif"
    rasters.write(path, STRIPED[request.param])
    return path


def test_rows_of_a_stream_are_the_pixels_of_the_strips(written: Path) -> None:
    structure, data, mask = inspected(written)
    assert can_stream(structure)
    image = structure.image
    half = image.blocks_down // 2 * image.block_height
    for top, stop in ((0, image.height), (half, image.height)):
        window = Window(col_off=0, row_off=top, width=image.width, height=stop - top)
        due = SourceReader(structure, data, mask).read(window)
        piece = StreamedPiece(structure, window, data, mask)
        done = 0
        while done < window.height:
            count = min(37, window.height - done)
            pixels, valid = piece.rows(count)
            part = slice(done, done + count)
            np.testing.assert_array_equal(pixels, due.pixels[:, part])
            assert (valid is None) == (due.mask is None)
            if valid is not None and due.mask is not None:
                np.testing.assert_array_equal(valid, due.mask[part])
            done += count
        stored = ~image.blocks.sparse
        first = top // image.block_height
        counted = piece.counts.decodes.reshape(image.planes, -1)[:, first:]
        np.testing.assert_array_equal(
            counted, stored.reshape(image.planes, -1)[:, first:].astype(int)
        )


@pytest.mark.parametrize("name", WHOLE)
def test_what_must_be_decoded_as_a_whole_is_not_streamed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "source.tif"
    rasters.write(path, STRIPED[name])
    assert not can_stream(inspected(path)[0])


@pytest.mark.parametrize("compress", ["deflate", "zstd", "lzw", "packbits", "none"])
def test_a_strip_that_ends_early_is_named(tmp_path: Path, compress: str) -> None:
    path = tmp_path / "source.tif"
    rasters.write(path, Case(bands=3, options={**STRIP, "compress": compress}))
    structure, data, _ = inspected(path)
    blocks = structure.image.blocks
    cut = BlockTable.of(blocks.offsets, blocks.byte_counts // 2)
    image = structure.image.model_copy(update={"blocks": cut})
    structure = structure.model_copy(update={"image": image})
    piece = StreamedPiece(structure, structure_window(structure), data)
    with pytest.raises(BlockUndecodable, match=r"strip 0 of source\.tif at .* bytes early"):
        piece.rows(rasters.HEIGHT)


@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_a_strip_that_is_damaged_is_named(tmp_path: Path, compress: str) -> None:
    path = tmp_path / "source.tif"
    rasters.write(path, Case(bands=3, options={**STRIP, "compress": compress}))
    structure, _, _ = inspected(path)
    offset = int(structure.image.blocks.offsets[0])
    length = int(structure.image.blocks.byte_counts[0])
    spoilt = bytearray(path.read_bytes())
    spoilt[offset + 20 : offset + length] = np.random.default_rng(3).bytes(length - 20)
    path.write_bytes(spoilt)
    piece = StreamedPiece(structure, structure_window(structure), FileBytes(path))
    with pytest.raises(BlockUndecodable, match=f"strip 0 of source.tif at {offset}"):
        piece.rows(rasters.HEIGHT)


def structure_window(structure: Structure) -> Window:
    image = structure.image
    return Window(col_off=0, row_off=0, width=image.width, height=image.height)


ENCODERS = {
    "lzw": lambda data: bytes(imagecodecs.lzw_encode(data)),
    "packbits": lambda data: bytes(imagecodecs.packbits_encode(data)),
    "deflate": lambda data: bytes(imagecodecs.deflate_encode(data)),
    "zstd": lambda data: bytes(imagecodecs.zstd_encode(data)),
    "none": lambda data: data,
}


@pytest.mark.parametrize("name", UNPACKERS)
@given(
    seed=st.integers(0, 99),
    size=st.integers(1, 30_000),
    values=st.sampled_from([2, 5, 256]),
    step=st.integers(1, 9000),
)
def test_bytes_that_come_in_any_portions_are_unpacked_as_they_were_packed(
    name: str, seed: int, size: int, values: int, step: int
) -> None:
    data = np.random.default_rng(seed).integers(0, values, size, np.uint8).tobytes()
    packed = ENCODERS[name](data)

    def parts() -> Iterator[bytes]:
        for first in range(0, len(packed), step):
            yield packed[first : first + step]

    assert b"".join(UNPACKERS[name](parts())) == data


@pytest.mark.parametrize("name", UNPACKERS)
@given(parts=PARTS)
def test_any_bytes_are_unpacked_or_called_damaged(name: str, parts: list[bytes]) -> None:
    with contextlib.suppress(DamagedStream, ValueError, RuntimeError):
        b"".join(UNPACKERS[name](iter(parts)))
