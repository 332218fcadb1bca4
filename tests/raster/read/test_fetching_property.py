"""One download or several ranges: alike for plan and reader, and never the costlier of the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.synthetic import layout, structure

from cogmill.raster.geometry.grid import Window
from cogmill.raster.plan.reads import source_reads
from cogmill.raster.read import fetching
from cogmill.raster.read.fetching import (
    BATCH_BYTES,
    FETCH_RATE,
    REQUEST_SECONDS,
    ReadCounts,
    block_requests,
    fetch_blocks,
    most_fetched,
    touched_blocks,
)
from cogmill.raster.tiff.block_table import BlockTable, ImageLayout

SIDE = 64
#: In blocks.
DOWN, ACROSS = 9, 7


class Asked:
    """A file of nothing but zeros that notes what is asked of it."""

    name = "zeros.tif"
    size = 1 << 60

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.ranges += ranges
        return [bytes(length) for _, length in ranges]


@st.composite
def images(draw: st.DrawFn) -> ImageLayout:
    """Return an image whose blocks lie anywhere: in any order, apart, together, or nowhere."""
    striped, apart = draw(st.booleans()), draw(st.booleans())
    across = 1 if striped else ACROSS
    changes: dict[str, Any] = {"striped": striped, "planar": "band" if apart else "pixel"}
    count = DOWN * across * (2 if apart else 1)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = random.integers(1, draw(st.sampled_from([90, 40_000, 900_000])), count)
    gaps = random.integers(0, draw(st.sampled_from([1, 9000, 100_000, 6_000_000])), count)
    order = random.permutation(count) if draw(st.booleans()) else np.arange(count)
    offsets = np.zeros(count, np.int64)
    offsets[order] = 1000 + np.cumsum(lengths[order] + gaps[order]) - lengths[order]
    if draw(st.booleans()):  # two blocks with the same bytes
        offsets[-1], lengths[-1] = offsets[0], lengths[0]
    lengths[random.random(count) < draw(st.sampled_from([0.0, 0.3]))] = 0
    size = (SIDE * across, SIDE * DOWN)
    blocks = BlockTable.of(offsets, lengths)
    return layout(size, (SIDE, SIDE), 2, blocks=blocks, **changes)


@st.composite
def windows(draw: st.DrawFn, image: ImageLayout) -> Window:
    col, row = draw(st.integers(0, image.width - 1)), draw(st.integers(0, image.height - 1))
    width = draw(st.integers(1, image.width - col))
    return Window(col_off=col, row_off=row, width=width, height=image.height - row)


@given(st.data())
def test_what_a_plan_counts_of_requests_and_bytes_is_what_a_reader_asks_for(
    data: st.DataObject,
) -> None:
    image = data.draw(images())
    asked = [data.draw(windows(image)) for _ in range(data.draw(st.integers(1, 3)))]
    planned = source_reads(structure(image), asked)
    file, counts = Asked(), ReadCounts()
    for window in asked:
        indices = touched_blocks(image, window)
        told = fetch_blocks(file, image.blocks, indices, most_fetched(image), counts)
        lengths = {index: len(encoded) for index, encoded in told}
        stored = indices[~image.blocks.sparse[indices]].tolist()
        assert lengths == {index: image.blocks.byte_counts[index] for index in stored}
    assert planned.requests == counts.requests == len(file.ranges)
    assert planned.bytes_fetched == counts.bytes_fetched == sum(n for _, n in file.ranges)
    assert planned.whole_reads == counts.whole_reads
    assert planned.windowed_reads == counts.windowed_reads


@given(st.data())
def test_the_way_that_is_chosen_is_never_costlier_than_the_other_and_holds_its_limits(
    data: st.DataObject,
) -> None:
    image = data.draw(images())
    indices = touched_blocks(image, data.draw(windows(image)))
    most = most_fetched(image)
    chosen, ranges = (block_requests(image.blocks, indices, each) for each in (most, 0.0))
    assert chosen.seconds <= ranges.seconds
    stored = indices[~image.blocks.sparse[indices]]
    if not len(stored):
        assert chosen.ranges == []
        return
    starts = image.blocks.offsets[stored]
    ends = starts + image.blocks.byte_counts[stored]
    span = int(ends.max() - starts.min())
    distinct = set(zip(starts.tolist(), ends.tolist(), strict=True))
    allowed = span <= min(BATCH_BYTES, most * sum(end - start for start, end in distinct))
    whole = REQUEST_SECONDS + span / FETCH_RATE
    if allowed:
        assert chosen.seconds <= whole + 1e-9
    elif len(ranges.ranges) > 1:
        assert chosen.ranges == ranges.ranges


def test_a_span_is_one_download_where_its_gaps_cost_less_than_its_ranges() -> None:
    near, far = fetching.GAP_BYTES + 1, 9 * fetching.GAP_BYTES
    for gap, whole in ((near, True), (far, False)):
        table = BlockTable.of(np.arange(8) * (400_000 + gap) + 8, np.full(8, 400_000))
        found = block_requests(table, np.arange(8), fetching.STRIPED_FETCHES)
        assert len(found.ranges) == (1 if whole else 8)
