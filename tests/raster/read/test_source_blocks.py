"""What is decoded is what GDAL reads, each block once, over any window."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.rasters import (
    CASES,
    HEIGHT,
    WIDTH,
    Case,
    FileBytes,
    content,
    gdal_read,
    sidecar,
    write,
    write_twelve_bits,
)
from tests.harness.whole_job import write_raster

from cogmill.errors import BlockUndecodable, Refused, SourceChanged, StorageUnavailable
from cogmill.raster.codecs.block_codec import BlockCodec, encode_mask
from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import Structure, inspect_tiff
from cogmill.raster.intermediate.piece_reading import (
    Piece,
    PieceIndex,
    PieceReader,
    piece_codec,
)
from cogmill.raster.read import fetching
from cogmill.raster.read.fetching import block_requests, most_fetched, touched_blocks
from cogmill.raster.read.source_blocks import SourceReader
from cogmill.raster.tiff.block_table import BlockTable

WINDOWS = [
    Window(col_off=0, row_off=0, width=WIDTH, height=HEIGHT),
    Window(col_off=63, row_off=47, width=2, height=2),
    Window(col_off=17, row_off=30, width=150, height=91),
    Window(col_off=WIDTH - 1, row_off=HEIGHT - 1, width=1, height=1),
]


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Structure]]:
    folder = tmp_path_factory.mktemp("rasters")
    written = {}
    for number, (name, case) in enumerate(CASES.items()):
        path = write(folder / f"{number}.tif", case)
        written[name] = path, inspect_tiff(FileBytes(path), str(path), sidecar(path))
    return written


def assert_same(structure: Structure, pixels: np.ndarray, expected: np.ndarray) -> None:
    """Compare with GDAL: every value, but for the colours of a subsampled JPEG.

    The wheel's GDAL decodes with IJG's libjpeg 9, we (as Debian's GDAL) with libjpeg-turbo; the two
    interpolate subsampled colours differently.
    """
    assert pixels.dtype == expected.dtype
    if structure.image.subsampled:
        difference = np.abs(pixels.astype(int) - expected.astype(int))
        assert difference.mean() < 2
        assert difference.max() < 32
    else:
        np.testing.assert_array_equal(pixels, expected)


def reader(path: Path, structure: Structure) -> SourceReader:
    """Return a reader as a task makes it: from the plan's JSON, with no header read again."""
    return SourceReader(
        Structure.model_validate_json(structure.model_dump_json()), FileBytes(path), sidecar(path)
    )


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_layout_is_decoded_to_what_gdal_reads(
    rasters: dict[str, tuple[Path, Structure]], name: str
) -> None:
    path, structure = rasters[name]
    source = reader(path, structure)
    for window in WINDOWS:
        held = source.read(window)
        expected, valid = gdal_read(path, window)
        assert held.pixels.flags.c_contiguous
        assert_same(structure, held.pixels, expected)
        assert (held.mask is not None) == bool(CASES[name].mask)
        if held.mask is not None:
            np.testing.assert_array_equal(held.mask, valid)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_whole_read_decodes_each_stored_block_exactly_once(
    rasters: dict[str, tuple[Path, Structure]], name: str
) -> None:
    path, structure = rasters[name]
    source = reader(path, structure)
    source.read(WINDOWS[0])
    stored = ~structure.image.blocks.sparse
    np.testing.assert_array_equal(source.counts.decodes, stored.astype(np.uint32))
    assert source.counts.blocks_decoded == stored.sum()


@given(data=st.data())
def test_any_window_of_any_bands_is_what_gdal_reads(
    rasters: dict[str, tuple[Path, Structure]], data: st.DataObject
) -> None:
    path, structure = rasters[data.draw(st.sampled_from(sorted(CASES)))]
    col = data.draw(st.integers(0, WIDTH - 1))
    row = data.draw(st.integers(0, HEIGHT - 1))
    window = Window(
        col_off=col,
        row_off=row,
        width=data.draw(st.integers(1, WIDTH - col)),
        height=data.draw(st.integers(1, HEIGHT - row)),
    )
    bands = data.draw(st.lists(st.integers(1, structure.bands), min_size=1, unique=True))
    source = reader(path, structure)
    held = source.read(window, bands)
    expected, _ = gdal_read(path, window)
    assert_same(structure, held.pixels, expected[[band - 1 for band in bands]])
    assert source.counts.decodes.max(initial=0) <= 1
    predicted = block_requests(
        structure.image.blocks,
        touched_blocks(structure.image, window, bands),
        most_fetched(structure.image),
    )
    if structure.mask is None:
        assert source.counts.requests == len(predicted.ranges)
        assert source.counts.bytes_fetched == predicted.nbytes


def test_reading_takes_no_byte_of_the_header_again(
    rasters: dict[str, tuple[Path, Structure]],
) -> None:
    path, structure = rasters["striped rgb, deflate"]
    file = FileBytes(path)
    SourceReader(structure, file).read(WINDOWS[1])
    first, last = touched_blocks(structure.image, WINDOWS[1])[[0, -1]]
    blocks = structure.image.blocks
    assert file.ranges == [
        (
            blocks.offsets[first],
            blocks.offsets[last] + blocks.byte_counts[last] - blocks.offsets[first],
        )
    ]


def test_adjacent_blocks_are_one_request_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "REQUEST_BYTES", 1000)
    monkeypatch.setattr(fetching, "GAP_BYTES", 50)
    table = BlockTable.of([0, 100, 240, 500, 900, 1351], [10, 100, 150, 350, 400, 100])
    found = block_requests(table, np.arange(6, dtype=np.int64), 0.0)
    assert found.ranges == [(100, 290), (500, 800), (1351, 100)]
    assert [members.tolist() for members in found.members] == [[1, 2], [3, 4], [5]]
    monkeypatch.setattr(fetching, "REQUEST_BYTES", 300)
    found = block_requests(table, np.arange(6, dtype=np.int64), 0.0)
    assert found.ranges == [(100, 290), (500, 350), (900, 400), (1351, 100)]


def test_no_more_than_a_batch_is_asked_for_at_a_time(
    rasters: dict[str, tuple[Path, Structure]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "REQUEST_BYTES", 4000)
    monkeypatch.setattr(fetching, "BATCH_BYTES", 8000)
    path, structure = rasters["striped rgb, plain"]

    class Watched(FileBytes):
        def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            assert sum(length for _, length in ranges) < 8000 + 4000 + structure.image.block_bytes
            return super().read_ranges(ranges)

    file = Watched(path)
    held = SourceReader(structure, file).read(WINDOWS[0])
    np.testing.assert_array_equal(held.pixels, gdal_read(path, WINDOWS[0])[0])
    assert len(file.ranges) > 10


def test_memory_is_the_array_and_a_bounded_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "REQUEST_BYTES", 1 << 18)
    monkeypatch.setattr(fetching, "BATCH_BYTES", 1 << 20)
    path = write(tmp_path / "large.tif", CASES["striped rgb, plain"], 2000, 3000)
    structure = inspect_tiff(FileBytes(path), str(path))
    source = SourceReader(structure, FileBytes(path))
    tracemalloc.start()
    try:
        held = source.read(Window(col_off=0, row_off=0, width=3000, height=2000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held.pixels.nbytes == 18_000_000
    assert peak - held.pixels.nbytes < 3_000_000


@pytest.mark.parametrize("name", ["striped rgb, deflate", "tiled float32", "striped uint16 x4"])
def test_a_block_that_does_not_decode_is_named_with_its_address(
    rasters: dict[str, tuple[Path, Structure]], name: str, tmp_path: Path
) -> None:
    path, structure = rasters[name]
    index = 3
    offset = int(structure.image.blocks.offsets[index])
    count = int(structure.image.blocks.byte_counts[index])
    damaged = tmp_path / "damaged.tif"
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\xfe" * count
    damaged.write_bytes(content)
    found = inspect_tiff(FileBytes(damaged), str(damaged))
    with pytest.raises(
        BlockUndecodable, match=rf"block 3 of damaged\.tif \({count} bytes at {offset}, "
    ):
        SourceReader(found, FileBytes(damaged)).read(WINDOWS[0])


def test_a_short_answer_is_an_error_that_may_pass(
    rasters: dict[str, tuple[Path, Structure]],
) -> None:
    path, structure = rasters["striped rgb, plain"]

    class Short(FileBytes):
        def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            return [part[:-1] for part in super().read_ranges(ranges)]

    with pytest.raises(StorageUnavailable, match="asked for at"):
        SourceReader(structure, Short(path)).read(WINDOWS[1])


def test_a_file_of_another_size_is_a_changed_source(
    rasters: dict[str, tuple[Path, Structure]],
) -> None:
    path, _ = rasters["striped rgb, plain"]
    _, other = rasters["one strip"]
    with pytest.raises(SourceChanged, match="submit the job again"):
        SourceReader(other, FileBytes(path))


def test_a_window_beyond_the_raster_is_an_error(
    rasters: dict[str, tuple[Path, Structure]],
) -> None:
    path, structure = rasters["one strip"]
    with pytest.raises(ValueError, match="not within"):
        SourceReader(structure, FileBytes(path)).read(
            Window(col_off=WIDTH - 3, row_off=0, width=4, height=1)
        )


def stored_pieces(
    folder: Path, source: SourceReader, case: Case, cuts: Sequence[Window]
) -> PieceIndex:
    """Write bare blocks of each piece, one file a piece, and return their index."""
    apart = case.bands > 4
    codec = piece_codec(case.dtype, 1 if apart else case.bands).model_copy(update={"block": 64})
    pieces = []
    for number, window in enumerate(cuts):
        held = source.read(window)
        path = folder / f"piece-{number}"
        pixels = np.moveaxis(held.pixels, 0, 2)
        planes = [pixels[..., b : b + 1] for b in range(case.bands)] if apart else [pixels]
        blocks = [codec.encode(block) for plane in planes for block in squares(plane, codec)]
        masks = []
        if held.mask is not None:
            masks = [encode_mask(b[..., 0] > 0) for b in squares(held.mask[..., None], codec)]
        lengths = np.array([len(b) for b in blocks + masks], np.int64)
        starts = np.cumsum(lengths) - lengths
        path.write_bytes(b"".join(blocks + masks))
        n = len(blocks)
        pieces.append(
            Piece(
                window=window,
                location=str(path),
                # The first byte of a TIFF is its magic: offset 0 means a block never written.
                blocks=BlockTable.of(starts[:n] + 1, lengths[:n]),
                mask_blocks=BlockTable.of(starts[n:] + 1, lengths[n:]) if masks else None,
            )
        )
        path.write_bytes(b"\0" + path.read_bytes())
    return PieceIndex(
        codec=codec,
        bands=case.bands,
        interleave="band" if apart else "pixel",
        pieces=tuple(pieces),
    )


def squares(pixels: np.ndarray, codec: BlockCodec) -> list[np.ndarray]:
    height, width, _ = pixels.shape
    size = codec.block
    padded = np.pad(pixels, ((0, -height % size), (0, -width % size), (0, 0)))
    return [
        padded[row : row + size, col : col + size]
        for row in range(0, height, size)
        for col in range(0, width, size)
    ]


@pytest.mark.parametrize(
    "name",
    ["striped rgb, deflate", "int16 by band, tiled", "internal mask", "tiled float32", "complex"],
)
def test_pieces_give_the_pixels_and_mask_of_the_source(
    rasters: dict[str, tuple[Path, Structure]], name: str, tmp_path: Path
) -> None:
    path, structure = rasters[name]
    cuts = [
        Window(col_off=col, row_off=row, width=min(120, WIDTH - col), height=min(70, HEIGHT - row))
        for row in range(0, HEIGHT, 70)
        for col in range(0, WIDTH, 120)
    ]
    index = stored_pieces(tmp_path, reader(path, structure), CASES[name], cuts)
    index = PieceIndex.model_validate_json(index.model_dump_json())
    pieces = PieceReader(index, lambda location: FileBytes(Path(location)))
    for window in WINDOWS:
        expected = reader(path, structure).read(window)
        held = pieces.read(window)
        np.testing.assert_array_equal(held.pixels, expected.pixels)
        if expected.mask is not None:
            np.testing.assert_array_equal(held.mask, expected.mask)
    once = PieceReader(index, lambda location: FileBytes(Path(location)))
    once.read(WINDOWS[0])
    assert (once.counts.decodes == 1).all()


def corpus() -> list[str]:
    folder = os.environ.get("COGMILL_TEST_CORPUS")
    return sorted(str(path) for path in Path(folder).glob("*.tif")) if folder else [""]


@pytest.mark.external
@pytest.mark.parametrize("file", corpus(), ids=lambda file: Path(file).name)
def test_real_files_are_refused_in_one_line_or_read_as_gdal_reads_them(file: str) -> None:
    path = Path(file)
    try:
        structure = inspect_tiff(FileBytes(path), str(path), sidecar(path))
    except Refused as refusal:
        assert path.name in {"corrupt.tif", "slc.tif"}
        assert refusal.remedy
        assert "\n" not in str(refusal)
        return
    whole = Window(col_off=0, row_off=0, width=structure.width, height=structure.height)
    odd = Window(
        col_off=structure.width // 3,
        row_off=structure.height // 3,
        width=structure.width // 3 + 1,
        height=structure.height // 2 + 1,
    )
    source = reader(path, structure)
    for window in (whole, odd):
        expected, valid = gdal_read(path, window)
        held = source.read(window)
        assert_same(structure, held.pixels, expected)
        if held.mask is not None and not any(v is not None for v in structure.nodata):
            np.testing.assert_array_equal(held.mask, valid)


def written(path: Path, pixels: np.ndarray, **options: Any) -> np.ndarray:
    """Write pixels in tiles and return what our reader makes of them."""
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 48, **options}
    write_raster(path, pixels, **profile)
    whole = Window(col_off=0, row_off=0, width=WIDTH, height=HEIGHT)
    return reader(path, inspect_tiff(FileBytes(path), str(path))).read(whole).pixels


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("compress", ["lerc", "lerc_deflate", "lerc_zstd"])
def test_what_lercs_mask_says_of_floats_is_nan(
    compress: str, interleave: str, tmp_path: Path
) -> None:
    pixels = content(Case("float32", 3))
    pixels[:, :50] = np.nan
    pixels[1, 60:100, 30:] = np.nan
    found = written(tmp_path / "nan.tif", pixels, compress=compress, interleave=interleave)
    np.testing.assert_array_equal(found, pixels)


def test_alpha_of_fully_opaque_and_transparent_pixels_is_lercs_mask(tmp_path: Path) -> None:
    pixels = content(Case(bands=4))
    pixels[3] = np.where(pixels[3] > 120, 255, 0)
    pixels[3, :48, :64], pixels[3, 48:96, :64] = 255, 0
    path = tmp_path / "rgba.tif"
    found = written(path, pixels, compress="lerc", photometric="rgb", alpha="yes")
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(found, dataset.read())
    np.testing.assert_array_equal(found[3], pixels[3])


def test_a_jpeg_of_twelve_bits_is_decoded(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:64, :128]
    expected = (2048 + 1900 * np.sin(rows / 9) * np.cos(cols / 17)).astype(np.uint16)
    path = write_twelve_bits(tmp_path / "twelve.tif", expected)
    structure = inspect_tiff(FileBytes(path), str(path))
    held = reader(path, structure).read(Window(col_off=0, row_off=0, width=128, height=64))
    assert structure.image.bits == 12
    assert np.abs(held.pixels[0].astype(int) - expected).max() < 16
