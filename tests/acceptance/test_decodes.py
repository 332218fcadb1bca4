"""How often a strip is decoded, counted where it happens and compared with what was predicted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness import matrix, sources
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.matrix import Shelf
from tests.harness.rasters import FileBytes

from cogmill.raster import gdal
from cogmill.raster.inspect.structure import inspect_tiff
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan

STRIPED = [name for name in sources.LAYOUTS if not name.startswith("tiled")]
COUNTS = ("requests", "bytes", "decodes")
#: How often the path that copies may decode a strip.
COPY_LIMIT = 1.1
#: How much more the naive plan fetches than the chosen one at a width of 20000 pixels.
NAIVE_FACTOR = 5


@pytest.mark.parametrize("rows", [1, 13, 128])
def test_pieces_begin_and_end_on_strip_boundaries(
    rows: int, tmp_path: Path, figure: Figure
) -> None:
    source = sources.unwritten(tmp_path / "wide.tif", (12007, 9001), rows)
    counts = []
    for megabytes in (400, 900, 3000):
        options = PlanOptions(
            dst_crs="EPSG:3857", strategy="two-stage", memory=megabytes << 20, workers=1
        )
        with gdal.environment(16 << 20):
            pieces = make_plan(inspect_tiff(FileBytes(source), str(source)), options, "x").pieces
        edges = [piece.row_off for piece in pieces] + [9001]
        assert edges[0] == 0
        for piece, below in zip(pieces, edges[1:], strict=True):
            assert (piece.col_off, piece.width) == (0, 12007)
            assert piece.row_off % rows == 0
            assert piece.row_stop == below
            assert below % rows == 0 or below == 9001
        counts.append(len(pieces))
    figure.measured(f"{', '.join(map(str, counts))} pieces")
    assert min(counts) > 1


@pytest.mark.parametrize("layout", STRIPED)
def test_stage_1_of_two_stage_decodes_each_strip_exactly_once(
    layout: str, shelf: Shelf, figure: Figure
) -> None:
    made = shelf.made(*matrix.row(layout=layout, way="two-stage"))
    strips = made.plan["structure"]["blocks"]
    pieces = made.outputs.pieces_counted.model_dump()
    figure.command = made.text
    figure.measured(pieces["decodes"] / strips, 1)
    assert pieces["decodes"] == strips
    # And nobody reads the source again: what stage 1 fetched of it is all that was predicted.
    predicted = made.plan["cost"]["two-stage"]
    assert {name: pieces[name] for name in COUNTS} == {name: predicted[name] for name in COUNTS}


@pytest.mark.parametrize("layout", STRIPED)
def test_the_copy_path_decodes_each_strip_at_most_1_1_times(
    layout: str, shelf: Shelf, figure: Figure
) -> None:
    made = shelf.copied(layout, "mosaic")
    strips = made.plan["structure"]["blocks"]
    decoded = made.outputs.pieces_counted.decodes
    if made.plan["strategy"] == "direct":
        decoded += made.outputs.counted.decodes
    figure.command = made.text
    figure.measured(decoded / strips, COPY_LIMIT)
    assert 1 <= decoded / strips <= COPY_LIMIT


@pytest.mark.parametrize("layout", list(sources.LAYOUTS))
def test_direct_decodes_as_often_as_predicted(layout: str, shelf: Shelf, figure: Figure) -> None:
    made = shelf.made(*matrix.row(layout=layout, way="direct"))
    counted, predicted = made.outputs.counted.model_dump(), made.plan["cost"]["direct"]
    figure.command = made.text
    figure.measured(counted["decodes"], predicted["decodes"])
    assert counted["widened"] == 0
    assert {name: counted[name] for name in COUNTS} == {name: predicted[name] for name in COUNTS}


def test_at_20000_pixels_width_the_naive_plan_fetches_at_least_five_times_the_source_bytes(
    mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    source = sources.unwritten(tmp_path / "wide.tif", (20000, 20000), 16)
    # By eye: 1.2 GB that take no room on the disk.
    assert source.stat().st_blocks * 512 < 50e6
    ran = mill.inspect(source, "--dst-crs", "EPSG:3857", "--memory", "3.5GB", "--workers", 2)
    costs = ran.plan["cost"]
    chosen = costs[ran.plan["strategy"]]
    figure.command = ran.text
    factor = costs["naive"]["bytes"] / chosen["bytes"]
    figure.measured(round(factor, 2), NAIVE_FACTOR)
    assert chosen["bytes"] >= 20000 * 20000 * 3
    assert factor >= NAIVE_FACTOR
