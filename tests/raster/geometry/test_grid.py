"""Windows and grids: whole numbers, and one place where they become coordinates."""

from __future__ import annotations

import pytest
from affine import Affine
from pydantic import ValidationError

from cogmill.raster.geometry.grid import (
    Grid,
    Window,
    output_tiles,
    work_tiles,
)

GRID = Grid(crs="EPSG:3857", transform=(10.1, 0.3, 0.0, 90.7, 0.0, -0.7), width=1000, height=700)


def window(col: int, row: int, width: int, height: int) -> Window:
    return Window(col_off=col, row_off=row, width=width, height=height)


def test_a_window_holds_at_least_one_pixel() -> None:
    with pytest.raises(ValidationError):
        window(0, 0, 0, 5)
    assert Window.spanning(3, 3, 3, 9) is None


def test_windows_that_only_touch_share_nothing() -> None:
    assert window(0, 0, 10, 10).intersect(window(10, 0, 5, 5)) is None
    assert window(0, 0, 10, 10).intersect(window(9, 9, 5, 5)) == window(9, 9, 1, 1)


def test_a_union_contains_both_and_no_more() -> None:
    union = window(0, 5, 3, 3).union(window(10, 0, 1, 1))
    assert union == window(0, 0, 11, 8)


def test_slices_address_the_whole_raster_rows_first() -> None:
    assert window(2, 3, 4, 5).slices == (slice(3, 8), slice(2, 6))


def test_a_grid_without_an_inverse_is_refused() -> None:
    with pytest.raises(ValidationError, match="no inverse"):
        Grid(crs="EPSG:3857", transform=(0, 1, 1, 0, 1, 1), width=1, height=1)


def test_the_order_of_a_transform_is_gdal_s() -> None:
    grid = Grid(crs="EPSG:3857", transform=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), width=9, height=9)
    assert grid.affine == Affine(2, 3, 1, 5, 6, 4)
    assert grid.position(10, 100) == (1 + 20 + 300, 4 + 50 + 600)


def test_bounds_hold_all_corners_of_a_rotated_grid() -> None:
    grid = Grid(crs="EPSG:3857", transform=(0.0, 1.0, 1.0, 0.0, 1.0, -1.0), width=10, height=4)
    assert grid.bounds == (0, -4, 14, 10)


def test_a_window_s_corner_is_computed_from_the_grid_s_own_in_one_step() -> None:
    twice = GRID.window_grid(window(3, 7, 90, 90)).window_transform(window(10, 20, 5, 5))
    once = GRID.window_transform(window(13, 27, 5, 5))
    assert once == (10.1 + 13 * 0.3, 0.3, 0.0, 90.7 + 27 * -0.7, 0.0, -0.7)
    # The reason: adding up gives another last bit.
    assert twice != once


def test_output_tiles_go_row_by_row_and_are_cut_at_the_edges() -> None:
    tiles = output_tiles(GRID, 512)
    assert [(tile.row, tile.col) for tile in tiles] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert tiles[-1].window == window(512, 512, 488, 188)


def test_work_tiles_are_cut_from_their_tile_s_corner() -> None:
    assert work_tiles(window(512, 1024, 300, 100), 64, 256) == [
        window(512, 1024, 256, 64),
        window(768, 1024, 44, 64),
        window(512, 1088, 256, 36),
        window(768, 1088, 44, 36),
    ]


def test_nothing_is_cut_into_pieces_of_no_size() -> None:
    with pytest.raises(ValueError, match="cut nothing"):
        output_tiles(GRID, 0)
