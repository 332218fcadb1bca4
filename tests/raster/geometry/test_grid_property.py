"""Geometry by property: cuts cover once, positions invert, source windows are large enough."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.reference import KINDS, PLACES, crop, make_held, make_spec

from cogmill.raster.gdal import environment
from cogmill.raster.geometry.grid import (
    Grid,
    Window,
    output_tiles,
    work_tiles,
)
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.exact_warp import warp
from cogmill.raster.warp.footprint import source_positions, source_window
from cogmill.raster.warp.warp_spec import WarpSpec

sides = st.integers(1, 300)
windows = st.builds(
    Window,
    col_off=st.integers(-200, 200),
    row_off=st.integers(-200, 200),
    width=st.integers(1, 200),
    height=st.integers(1, 200),
)
steps = st.floats(0.01, 1000).flatmap(lambda size: st.sampled_from([size, -size]))


@given(windows, windows)
def test_an_intersection_is_what_both_contain(one: Window, other: Window) -> None:
    shared = one.intersect(other)
    assert shared == other.intersect(one)
    cols = set(range(one.col_off, one.col_stop)) & set(range(other.col_off, other.col_stop))
    rows = set(range(one.row_off, one.row_stop)) & set(range(other.row_off, other.row_stop))
    assert (0 if shared is None else shared.size) == len(cols) * len(rows)
    if shared is not None:
        assert one.contains(shared)
        assert other.contains(shared)
        assert one.union(other).contains(one)


@given(windows, sides, sides)
def test_work_tiles_cover_every_pixel_once(tile: Window, rows: int, cols: int) -> None:
    covered = np.zeros((tile.height, tile.width), int)
    for work in work_tiles(tile, rows, cols):
        assert work.height <= rows
        assert work.width <= cols
        at_rows, at_cols = work.shift(-tile.col_off, -tile.row_off).slices
        covered[at_rows, at_cols] += 1
    assert (covered == 1).all()


@given(sides, sides, st.integers(1, 130))
def test_output_tiles_cover_a_grid_once_and_know_their_place(
    width: int, height: int, size: int
) -> None:
    grid = Grid(crs="EPSG:3857", transform=(0, 1, 0, 0, 0, -1), width=width, height=height)
    tiles = output_tiles(grid, size)
    assert sum(tile.window.size for tile in tiles) == width * height
    for tile in tiles:
        assert (tile.window.col_off, tile.window.row_off) == (tile.col * size, tile.row * size)
        assert grid.window.contains(tile.window)


@given(steps, steps, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-1e6, 1e6))
def test_places_invert_positions(
    dx: float, dy: float, turn: float, skew: float, origin: float
) -> None:
    transform = (origin, dx, turn * dx, -origin, skew * dy, dy)
    grid = Grid(crs="EPSG:3857", transform=transform, width=10, height=10)
    cols, rows = np.array([0.0, 7.5, -300.0]), np.array([0.0, 1e4, 2.25])
    again = grid.place_arrays(*grid.position_arrays(cols, rows))
    room = 1e-9 * (abs(origin) / min(abs(dx), abs(dy)) + 1e4)
    assert np.allclose(again[0], cols, atol=room)
    assert np.allclose(again[1], rows, atol=room)


@lru_cache
def case(place: str, kind: str, kernel: str, scale: float) -> tuple[WarpSpec, HeldPixels]:
    spec = make_spec(place, KINDS[kind], kernel, scale=scale)
    return spec, make_held(spec)


@pytest.fixture(autouse=True, scope="module")
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=120)
@given(
    place=st.sampled_from(sorted(PLACES)),
    kind=st.sampled_from(["uint8-mask", "uint8-alpha", "float64-nan"]),
    kernel=st.sampled_from(["nearest", "bilinear", "lanczos", "average"]),
    scale=st.sampled_from([0.4, 1.0, 3.1]),
    share=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_gdal_never_asks_for_more_than_the_source_window(
    place: str, kind: str, kernel: str, scale: float, share: tuple[float, ...]
) -> None:
    spec, held = case(place, kind, kernel, scale)
    target = spec.target
    col, row = int(share[0] * (target.width - 1)), int(share[1] * (target.height - 1))
    window = Window(
        col_off=col,
        row_off=row,
        width=1 + int(share[2] * min(200, target.width - col - 1)),
        height=1 + int(share[3] * min(200, target.height - row - 1)),
    )
    needed = source_window(spec, window)
    centres = np.meshgrid(
        np.arange(window.col_off, window.col_stop) + 0.5,
        np.arange(window.row_off, window.row_stop) + 0.5,
    )
    cols, rows = source_positions(spec, *centres)
    on_source = (cols >= 0) & (cols < spec.source.width) & (rows >= 0) & (rows < spec.source.height)
    if needed is None:
        assert not on_source.any()
        return
    assert spec.source.window.contains(needed)
    if on_source.any():
        assert needed.col_off <= cols[on_source].min()
        assert needed.col_stop >= cols[on_source].max()
        assert needed.row_off <= rows[on_source].min()
        assert needed.row_stop >= rows[on_source].max()
    # SourceWindowTooSmall is what this must not raise; and more would change nothing.
    narrow, wide = warp(spec, crop(held, needed), window), warp(spec, held, window)
    assert np.array_equal(narrow.pixels, wide.pixels, equal_nan=spec.is_float)
