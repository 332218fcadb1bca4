"""An output tile put together from fragments of any sizes is the very file that one task makes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.cog_scenes import BLOCK, CASES, Case, image_of, pushed, scene

from cogmill.raster.cog.block_rows import PixelRows
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.fragments import (
    ASSEMBLED_LEVELS,
    fragment_sizes,
    reduced_codec,
    reduced_rows,
    reduced_window,
)
from cogmill.raster.cog.joining import EncodedPart, JoinedParts, one_cog
from cogmill.raster.cog.tile_encoding import EncodedFile, encode_tile
from cogmill.raster.cog.upper_levels import UpperLevels
from cogmill.raster.geometry.grid import Window, work_tiles
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.intermediate.piece_reading import Piece
from cogmill.raster.intermediate.piece_writing import HeldRows, PieceWriter

# Beside the empty margins that the parts of a scene may have: not a multiple of anything.
SIZES = [(1, 1), (63, 65), (64, 64), (129, 200), (512, 512), (331, 447)]


class Bytes:
    """A file in memory."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.size, self._data = name, len(data), data

    def read_ranges(self, ranges: Any) -> list[bytes]:
        return [self._data[first : first + length] for first, length in ranges]


def cut(data: st.DataObject, whole: Window) -> list[Window]:
    """Cut a tile as tasks do that are planned again smaller, some of them and not the others."""
    sizes = list(fragment_sizes(512, BLOCK, None))
    rows, cols = data.draw(st.sampled_from(sizes))
    works = work_tiles(whole, rows, cols)
    again = data.draw(st.sets(st.integers(0, len(works) - 1), max_size=2))
    finer = [size for size in sizes if size[0] < rows or size[1] < cols]
    parts = [work for number, work in enumerate(works) if number not in again or not finer]
    for number in sorted(again if finer else ()):
        parts += work_tiles(works[number], *data.draw(st.sampled_from(finer)))
    return data.draw(st.permutations(parts))


def fragment(image: CogImage, rows: PixelRows, work: Window, method: Any) -> EncodedFile:
    pixels, mask = rows
    part = image.model_copy(update={"grid": image.grid.window_grid(work)})
    cut_mask = None if mask is None else mask[work.slices]
    return encode_tile(part, pushed((pixels[:, *work.slices], cut_mask)), method, overviews=0)


def put_together(image: CogImage, made: list[tuple[Window, EncodedFile]], method: Any) -> bytes:
    whole = image.grid.window
    files: dict[str, Bytes] = {}
    pieces: list[Piece] = []
    for number, (work, file) in enumerate(made):
        assert file.reduced is not None
        pixels, mask = file.reduced
        flags = None if mask is None else np.where(mask, 255, 0).astype(np.uint8)
        writer = PieceWriter(
            reduced_codec(image), HeldRows(HeldPixels(reduced_window(work, whole), pixels, flags))
        )
        files[str(number)] = Bytes(str(number), b"".join(writer.chunks()))
        pieces.append(writer.piece(str(number)))

    def opened(name: str) -> AbstractContextManager[Bytes]:
        return nullcontext(files[name])

    upper = UpperLevels(image, method, ASSEMBLED_LEVELS, ASSEMBLED_LEVELS.start)
    above = b"".join(upper.chunks(reduced_rows(image, pieces, opened)))
    parts = [EncodedPart(work, file.tile.blocks) for work, file in made]

    def read(number: int, offset: int, length: int) -> bytes:
        return made[number][1].data[offset : offset + length]

    cog = one_cog(
        JoinedParts(image, parts, 0, read), upper.blocks(), lambda at, size: above[at : at + size]
    )
    data = b"".join(cog.chunks())
    for level, section, row in [(0, 0, 0), (1, 0, 0), (3, 0, 0)]:
        offset, length = cog.index().run(level, section, row)
        assert data[offset : offset + 4] == data[offset:][:length][:4] != b""
    return data


LOSSY = [
    Case(bands=3, profile="jpeg", validity="mask"),
    Case(bands=4, profile="webp", validity="alpha"),
]


@pytest.mark.parametrize("case", [*CASES, *LOSSY], ids=lambda case: "-".join(map(str, case)))
@settings(max_examples=12)
@given(size=st.sampled_from(SIZES), data=st.data())
def test_a_tile_of_fragments_is_byte_for_byte_the_tile_that_one_task_makes(
    case: Case, size: tuple[int, int], data: st.DataObject
) -> None:
    image = image_of(case, *size)
    rows = scene(image)
    whole = encode_tile(image, pushed(rows), case.method)
    made = [
        (work, fragment(image, rows, work, case.method)) for work in cut(data, image.grid.window)
    ]
    assert put_together(image, made, case.method) == whole.data
    assert sum(file.tile.valid_pixels for _, file in made) == whole.tile.valid_pixels


@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[4]], ids=lambda case: case.validity)
def test_a_fragment_without_anything_of_the_source_need_not_be_made(case: Case) -> None:
    image = image_of(case, 331, 447)
    pixels, mask = scene(image)
    empty = Window(col_off=128, row_off=256, width=203, height=191)
    pixels[:, *empty.slices] = image.fill
    if mask is not None:
        mask[empty.slices] = False
    whole = encode_tile(image, pushed((pixels, mask)), case.method)
    works = work_tiles(image.grid.window, 64, 128)
    made = [(work, fragment(image, (pixels, mask), work, case.method)) for work in works]
    written = [(work, file) for work, file in made if not empty.contains(work)]
    assert len(made) - len(written) == 6
    assert put_together(image, written, case.method) == whole.data
