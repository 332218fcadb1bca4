"""Intermediates: what is written is what is read, for every layout that a source can have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.harness.rasters import FileBytes

from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.intermediate.piece_reading import PieceIndex, PieceReader, piece_codec
from cogmill.raster.intermediate.piece_writing import HeldRows, PieceWriter


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_window_across_pieces_reads_back_as_it_was_held(
    tmp_path: Path, interleave: str, masked: bool
) -> None:
    random = np.random.default_rng(7)
    pixels = random.integers(0, 60000, (3, 1301, 777), np.uint16)
    mask = random.integers(0, 2, (1301, 777), np.uint8) * np.uint8(255) if masked else None
    codec = piece_codec("uint16", 3 if interleave == "pixel" else 1)
    pieces = []
    for first, stop in ((0, 700), (700, 1301)):
        window = Window(col_off=0, row_off=first, width=777, height=stop - first)
        cut = None if mask is None else np.ascontiguousarray(mask[first:stop])
        held = HeldPixels(window, np.ascontiguousarray(pixels[:, first:stop]), cut)
        writer = PieceWriter(codec, HeldRows(held))
        path = tmp_path / f"{first}.blocks"
        path.write_bytes(b"".join(writer.chunks()))
        pieces.append(writer.piece(str(path)))
    # The parameter is one of two texts, which a list of texts does not say.
    index = PieceIndex(codec=codec, bands=3, interleave=interleave, pieces=tuple(pieces))  # type: ignore[arg-type]
    reader = PieceReader(index, lambda location: FileBytes(Path(location)))
    window = Window(col_off=13, row_off=401, width=700, height=555)
    got = reader.read(window)
    rows, cols = window.slices
    np.testing.assert_array_equal(got.pixels, pixels[:, rows, cols])
    if mask is None:
        assert got.mask is None
    else:
        assert got.mask is not None
        np.testing.assert_array_equal(got.mask, mask[rows, cols])
