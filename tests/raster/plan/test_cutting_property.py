"""Where rasters are cut, by property: nothing is lost, nothing is done twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cogmill.raster.cog.fragments import fragment_sizes
from cogmill.raster.geometry.grid import Window, work_tiles
from cogmill.raster.plan.cutting import (
    PIECES_PER_WORKER,
    SMALLEST_PIECE,
    RowUnits,
    cut_pieces,
    piece_size,
    strip_is_giant,
    work_sizes,
)

units = st.builds(
    RowUnits,
    width=st.integers(1, 100_000),
    height=st.integers(1, 100_000),
    rows=st.integers(1, 5_000),
    row_bytes=st.integers(1, 2_000_000),
)


@given(units, st.integers(1, 400))
def test_pieces_cover_every_source_row_once_and_begin_and_end_on_strip_boundaries(
    units: RowUnits, per_piece: int
) -> None:
    pieces = cut_pieces(units, per_piece)
    stop = 0
    for piece in pieces:
        assert piece.row_off == stop
        assert piece.row_off % units.rows == 0
        assert (piece.col_off, piece.width) == (0, units.width)
        stop = piece.row_stop
        assert stop % units.rows == 0 or stop == units.height
    assert stop == units.height


@given(units, st.integers(1, 1 << 32), st.integers(1, 64))
def test_a_piece_fits_its_budget_and_leaves_pieces_for_every_worker(
    units: RowUnits, budget: int, workers: int
) -> None:
    taken = piece_size(units, budget, workers)
    assert strip_is_giant(units, budget) == (taken == 0) == (units.unit_bytes > budget)
    if not taken:
        return
    assert 1 <= taken <= units.count
    assert taken * units.unit_bytes <= budget
    pieces = cut_pieces(units, taken)
    enough = len(pieces) >= PIECES_PER_WORKER * workers
    assert enough or (taken - 1) * units.unit_bytes < SMALLEST_PIECE


@given(
    st.integers(4, 64).map(lambda n: n * 16),
    st.integers(1, 4),
    st.tuples(st.integers(0, 99), st.integers(0, 99)),
    st.none() | st.integers(1, 9000),
    st.data(),
)
def test_work_tiles_cover_an_output_tile_once_in_whole_blocks(
    block: int, eights: int, corner: tuple[int, int], largest: int | None, data: st.DataObject
) -> None:
    side = 8 * eights * block
    width, height = data.draw(st.integers(1, side)), data.draw(st.integers(1, side))
    tile = Window(col_off=corner[0] * side, row_off=corner[1] * side, width=width, height=height)
    fragments = list(fragment_sizes(side, block, largest))
    sizes = [*([] if largest else work_sizes(side, block)), *fragments]
    assert sizes[-1] == (block, block)
    assert len(set(fragments)) == len(fragments)
    assert (side, side) not in fragments
    rows, cols = data.draw(st.sampled_from(sizes))
    assert largest is None or max(rows, cols) <= max(largest, block)
    works = work_tiles(tile, rows, cols)
    assert sum(work.size for work in works) == tile.size
    for number, work in enumerate(works):
        assert tile.contains(work)
        assert work.col_off % block == 0
        assert work.row_off % block == 0
        assert not any(work.intersect(other) for other in works[:number])
