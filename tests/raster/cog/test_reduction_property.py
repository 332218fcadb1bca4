"""Properties of the 2x2 reduction, against arithmetic on whole numbers, one cell at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cogmill.raster.cog.cascade import Cascade
from cogmill.raster.cog.reduction import Reduction, level_sizes, reduce_by_two

INTEGERS = st.sampled_from(["uint8", "int16", "uint16", "int32", "uint64", "int64"])
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
METHODS = st.sampled_from(["average", "nearest", "mode"])


@st.composite
def images(draw: st.DrawFn) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    dtype, shape = draw(INTEGERS), draw(SHAPES)
    pixels = draw(hnp.arrays(dtype, shape))
    shared = draw(st.booleans())
    valid = draw(hnp.arrays(bool, shape[1:] if shared else shape))
    return pixels, valid


@settings(max_examples=150, deadline=None)
@given(images())
def test_an_integer_average_is_the_exact_mean_rounded_half_up(
    image: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]],
) -> None:
    pixels, valid = image
    mine, mine_valid = reduce_by_two(pixels, valid)
    full = np.broadcast_to(valid, pixels.shape)
    assert mine_valid is not None
    for band, row, col in np.ndindex(mine.shape):
        cell = (band, slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2))
        values = [int(v) for v in pixels[cell][full[cell]]]
        assert np.broadcast_to(mine_valid, mine.shape)[band, row, col] == bool(values)
        mean = (2 * sum(values) + len(values)) // (2 * len(values)) if values else 0
        assert int(mine[band, row, col]) == mean


@settings(max_examples=100, deadline=None)
@given(images(), METHODS, st.integers(1, 4))
def test_a_reduction_cut_at_an_even_row_and_column_is_the_same(
    image: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]], method: Any, cut: int
) -> None:
    pixels, valid = image
    whole, whole_valid = reduce_by_two(pixels, valid, method)
    parts = [
        [
            reduce_by_two(pixels[:, r, c], valid[..., r, c], method)
            for c in halves(pixels.shape[2], cut)
        ]
        for r in halves(pixels.shape[1], cut)
    ]
    joined = np.concatenate([np.concatenate([p for p, _ in row], axis=-1) for row in parts], axis=1)
    np.testing.assert_array_equal(joined, whole)
    flags = [np.concatenate([v for _, v in row if v is not None], axis=-1) for row in parts]
    np.testing.assert_array_equal(np.concatenate(flags, axis=-2), whole_valid)


def halves(size: int, cut: int) -> list[slice]:
    return [slice(0, 2 * cut), slice(2 * cut, size)] if 2 * cut < size else [slice(0, size)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    METHODS,
    st.sampled_from([None, 3.0]),
    st.booleans(),
)
def test_a_cascade_is_the_repeated_reduction_of_the_whole(
    width: int, height: int, method: Any, nodata: float | None, masked: bool
) -> None:
    random = np.random.default_rng(width * 100 + height)
    pixels = random.integers(0, 6, (2, height, width)).astype("uint8")
    mask = random.random((height, width)) < 0.5 if masked else None
    reduction = Reduction(method, nodata)
    sizes = level_sizes(width, height, 4)
    cascade = Cascade(reduction, 16, sizes)
    rows: dict[int, list[npt.NDArray[Any]]] = {}
    for first in range(0, height, 16):
        part = slice(first, first + 16)
        for out in cascade.push(pixels[:, part], None if mask is None else mask[part]):
            rows.setdefault(out.level, []).append(out.pixels)
    for level in range(5):
        np.testing.assert_array_equal(np.concatenate(rows[level], axis=1), pixels)
        pixels, mask = reduction.halve(pixels, mask)
