"""Plans of rasters that exist nowhere, and of small ones that do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.harness.placed_by_points import points, rational
from tests.harness.rasters import Case, FileBytes, write
from tests.harness.synthetic import UTM, layout, structure

from cogmill.errors import Refused
from cogmill.raster.cog.fragments import assembly_memory
from cogmill.raster.cog.upper_levels import cog_levels, upper_levels_memory
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import Structure, inspect_tiff
from cogmill.raster.memory import GIB, MIB
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan import explain
from cogmill.raster.plan.cutting import RowUnits, piece_size
from cogmill.raster.plan.decisions import Notes, decide_validity
from cogmill.raster.plan.planning import make_plan, tile_reads
from cogmill.raster.plan.plot import draw_plan
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.plan.reads import source_reads
from cogmill.raster.read.source_blocks import SourceReader
from cogmill.raster.tiff.block_table import ImageLayout
from cogmill.settings import child_budget

STRIPED = layout((2000, 1700), (2000, 37))
TILED = layout((2000, 1700), (256, 256))
#: Small blocks, so that a small raster has many output tiles.
SMALL: dict[str, Any] = {"blocksize": 64, "tile_size": 512}

POINTS = points(side=2)
FAR = tuple((col, row, x * 1e300, y * 1e300, z) for col, row, x, y, z in POINTS)


def planned(source: Structure, **options: Any) -> RasterPlan:
    with environment(32 * MIB):
        return make_plan(source, PlanOptions.parse(options), "x")


@pytest.fixture(scope="module")
def huge() -> RasterPlan:
    image = layout((50000, 50000), (50000, 256), dtype="float32")
    return planned(structure(image), dst_crs="EPSG:3857", memory=4 * GIB)


# --- pieces ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("bands", "strips"), [(3, 8), (4, 6)])
def test_a_piece_of_fifty_thousand_float_columns_takes_eight_strips_and_six_with_four_bands(
    bands: int, strips: int
) -> None:
    units = RowUnits(width=50000, height=50000, rows=256, row_bytes=50000 * bands * 4)
    assert piece_size(units, round(1.2 * GIB), workers=1) == strips


def test_tiny_strips_are_grouped_and_a_large_budget_still_leaves_pieces_for_all() -> None:
    units = RowUnits(width=20000, height=20000, rows=1, row_bytes=60000)
    taken = piece_size(units, 64 * GIB, workers=4)
    assert taken == 20000 // 16
    assert piece_size(units, 64 * GIB, workers=10_000) * 60000 >= 32 * MIB


def test_pieces_of_a_tiled_source_are_rows_of_blocks() -> None:
    made = planned(structure(TILED), strategy="two-stage", **SMALL)
    assert made.strategy == "two-stage"
    assert sum(piece.size for piece in made.pieces) == 2000 * 1700
    assert all(piece.row_off % 256 == 0 for piece in made.pieces)


@pytest.mark.parametrize(
    ("image", "memory"),
    [
        (layout((14134, 14300), (14134, 1), 4, "float64", compression="none"), 480 * MIB),
        (layout((11732, 472), (11732, 472), 8, "float64", planar="band"), 896 * MIB),
    ],
    ids=["one-row strips", "a strip a band"],
)
def test_strips_are_decoded_once_however_wide_their_row_of_blocks_is(
    image: ImageLayout, memory: int
) -> None:
    made = planned(structure(image), dst_crs="EPSG:3857", memory=memory, workers=4)
    assert made.strategy == "two-stage"


def test_a_strip_is_cut_where_a_stream_of_it_would_need_more_than_the_strip() -> None:
    # A row of blocks of the intermediate is two strips high.
    image = layout((8132, 8132), (8132, 256), 7, "float64")
    place = (5.0, 2.5e-05, 0.0, 62.0, 0.0, -2.5e-05)
    asked = {"dst_crs": "EPSG:3857", "tile_size": 1024, "blocksize": 128, "memory": 472 * MIB}
    made = planned(structure(image, "EPSG:4326", transform=place), **asked)
    assert made.strategy == "two-stage"
    assert not made.streamed
    assert made.costs.two_stage.blocks_decoded == 2 * image.blocks.length
    assert made.costs.direct.blocks_decoded > 8 * image.blocks.length


def test_a_small_source_is_not_read_again_for_want_of_a_batch_that_it_cannot_fill() -> None:
    image = layout((2177, 461), (128, 1024), 2, planar="band")
    place = (-900000.0, 165.4, 0.0, -1200000.0, 0.0, -165.4)
    asked = {"dst_crs": "EPSG:4326", "blocksize": 128, "tile_size": 1024}
    made = planned(structure(image, "EPSG:3413", transform=place), memory=160 * MIB, **asked)
    assert made.strategy == "two-stage"


def test_smaller_memory_makes_more_and_smaller_pieces() -> None:
    image = layout((20000, 20000), (20000, 64))
    large = planned(structure(image), memory=GIB)
    small = planned(structure(image), memory=400 * MIB)
    assert len(small.pieces) > len(large.pieces)
    for made in (large, small):
        assert made.piece_memory is not None
        assert max(made.memory.total, made.piece_memory.total) <= (made.options.memory or 0)


# --- which way ------------------------------------------------------------------------------


def test_a_striped_source_that_skews_is_decoded_once(huge: RasterPlan) -> None:
    assert huge.strategy == "two-stage"
    assert huge.costs.two_stage.blocks_decoded == 196
    assert huge.costs.direct.blocks_decoded > 10 * 196
    assert "196" in explain.structure_text(huge.structure)


def test_the_naive_plan_fetches_five_times_the_source_at_twenty_thousand_columns() -> None:
    image = layout((20000, 20000), (20000, 16))
    made = planned(structure(image), dst_crs="EPSG:3857")
    chosen = made.costs.two_stage if made.strategy == "two-stage" else made.costs.direct
    assert made.costs.naive.bytes_fetched >= 5 * chosen.bytes_fetched


def test_fifty_thousand_square_plans_in_two_seconds() -> None:
    image = layout((50000, 50000), (50000, 256), dtype="float32")
    source = structure(image)
    planned(structure(STRIPED), dst_crs="EPSG:3857")
    started = time.perf_counter()
    planned(source, dst_crs="EPSG:3857", memory=4 * GIB)
    assert time.perf_counter() - started < 2


def test_a_tiled_source_runs_directly() -> None:
    made = planned(structure(TILED), dst_crs="EPSG:3857")
    assert made.strategy == "direct"
    assert made.pieces == ()
    assert "tiled" in made.reason


def test_a_tiled_source_of_large_blocks_is_decoded_once_for_small_output_tiles() -> None:
    made = planned(structure(TILED), dst_crs="EPSG:3857", **SMALL)
    assert made.costs.direct.bytes_fetched > 1.25 * TILED.blocks.byte_counts.sum()
    assert made.strategy == "two-stage"
    assert "more than 1.25 times" in made.reason


def test_a_copy_of_strips_decodes_each_at_most_one_and_a_tenth_times() -> None:
    made = planned(structure(STRIPED), **SMALL)
    chosen = made.costs.two_stage if made.strategy == "two-stage" else made.costs.direct
    assert chosen.blocks_decoded <= 1.1 * STRIPED.blocks.length


@pytest.mark.parametrize("strategy", ["direct", "two-stage"])
def test_the_user_may_name_the_way(strategy: str) -> None:
    made = planned(structure(STRIPED), dst_crs="EPSG:3857", strategy=strategy, **SMALL)
    assert made.strategy == strategy
    assert f"--strategy {strategy}" in made.reason


# --- copying --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "transform",
    [UTM, None, (0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (5.0, 3.0, 1.0, 9.0, -1.0, 3.0)],
    ids=["north-up", "none", "south-up", "rotated"],
)
def test_without_a_grid_option_pixels_are_copied_on_the_source_grid(
    transform: tuple[float, ...] | None,
) -> None:
    made = planned(structure(STRIPED, crs=None, transform=transform), **SMALL)
    assert made.copies
    assert made.warp is None
    assert made.gdalwarp == ()
    assert made.target_grid == made.source_grid
    assert (made.target_grid.width, made.target_grid.height) == (2000, 1700)
    for tile in made.tiles:
        for work, source in tile_reads(made, tile):
            assert source == work


def test_a_copy_invents_no_nodata_and_no_mask() -> None:
    made = planned(structure(STRIPED))
    assert made.validity.kind == "none"
    assert made.image.nodata is None
    assert not made.image.has_mask


def test_the_same_grid_in_the_same_system_is_a_copy_and_says_so() -> None:
    made = planned(structure(STRIPED), dst_crs="EPSG:32633")
    assert made.copies
    assert "the source's own" in made.reason


def test_another_resolution_in_the_same_system_is_no_copy() -> None:
    made = planned(structure(STRIPED), resolution=(20, 20))
    assert not made.copies
    assert (made.target_grid.width, made.target_grid.height) == (1000, 850)


# --- reads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("work_tile", [None, 200])
def test_reads_stay_inside_the_source_and_cover_each_tile(work_tile: int | None) -> None:
    made = planned(structure(STRIPED), dst_crs="EPSG:3857", work_tile=work_tile, **SMALL)
    whole = Window(col_off=0, row_off=0, width=2000, height=1700)
    assert len(made.tiles) >= 9
    for tile in made.tiles:
        reads = tile_reads(made, tile)
        assert sum(work.size for work, _ in reads) == tile.window.size
        assert [work.row_off for work, _ in reads] == sorted(work.row_off for work, _ in reads)
        for work, source in reads:
            assert tile.window.contains(work)
            assert source is None or whole.contains(source)


@pytest.mark.parametrize(
    "case",
    [
        Case(bands=3, options={"tiled": False, "blockysize": 7, "interleave": "pixel"}),
        Case(
            dtype="int16", bands=3, options={"tiled": False, "blockysize": 9, "interleave": "band"}
        ),
        Case(bands=2, options={"tiled": True, "blockxsize": 64, "blockysize": 48}, mask="internal"),
        Case(
            options={"tiled": True, "blockxsize": 64, "blockysize": 48, "SPARSE_OK": True},
            sparse=True,
        ),
    ],
    ids=["striped", "planar", "tiled with a mask", "sparse"],
)
def test_what_is_predicted_is_what_the_reader_counts(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "source.tif"
    write(path, case)
    data = FileBytes(path)
    source = inspect_tiff(data, str(path))
    windows = [
        Window(col_off=3, row_off=5, width=100, height=90),
        Window(col_off=90, row_off=80, width=121, height=93),
    ]
    predicted = source_reads(source, windows)
    reader = SourceReader(source, data)
    for window in windows:
        reader.read(window)
    assert predicted.requests == reader.counts.requests
    assert predicted.bytes_fetched == reader.counts.bytes_fetched
    assert predicted.blocks_decoded == reader.counts.blocks_decoded > 0
    assert predicted.whole_reads == reader.counts.whole_reads
    assert predicted.windowed_reads == reader.counts.windowed_reads
    assert predicted.whole_reads + predicted.windowed_reads > 0


def test_a_direct_plan_predicts_its_own_reads(tmp_path: Path) -> None:
    made = planned(structure(STRIPED), dst_crs="EPSG:3857", strategy="direct", **SMALL)
    windows = [
        source for tile in made.tiles for _, source in tile_reads(made, tile) if source is not None
    ]
    predicted = source_reads(made.structure, windows)
    assert made.costs.direct.requests == predicted.requests
    assert made.costs.direct.blocks_decoded == predicted.blocks_decoded


# --- the plan as a value ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"dst_crs": "EPSG:3857", "nodata": math.nan}, {"dst_crs": "EPSG:4326", "nodata": 0.1}],
    ids=str,
)
def test_a_plan_comes_back_from_json_to_the_last_bit(options: dict[str, Any]) -> None:
    image = layout((2000, 1700), (2000, 37), dtype="float32")
    made = planned(structure(image, nodata=(math.nan,) * 3), **SMALL, **options)
    text = made.model_dump_json()
    again = RasterPlan.model_validate_json(text)
    assert again.model_dump_json() == text
    assert again.target_grid == made.target_grid
    assert repr(again.warp) == repr(made.warp)
    # PostgreSQL's jsonb knows neither NaN nor Infinity.
    strict = json.dumps(made.model_dump(mode="json"), allow_nan=False)
    assert RasterPlan.model_validate_json(strict).model_dump_json() == text
    json.dumps(explain.summarize_plan(made).model_dump(mode="json"), allow_nan=False)


def test_the_same_arguments_make_the_same_plan() -> None:
    first = planned(structure(STRIPED), dst_crs="EPSG:3857", **SMALL)
    second = planned(structure(STRIPED), dst_crs="EPSG:3857", **SMALL)
    assert first.model_dump_json() == second.model_dump_json()


def test_hints_change_neither_grid_nor_image() -> None:
    source = structure(STRIPED)
    first = planned(source, dst_crs="EPSG:3857", **SMALL)
    second = planned(
        source,
        dst_crs="EPSG:3857",
        work_tile=256,
        workers=3,
        memory=GIB,
        strategy="direct",
        **SMALL,
    )
    assert (first.target_grid, first.image, first.warp) == (
        second.target_grid,
        second.image,
        second.warp,
    )


def test_tiles_are_named_by_row_and_column_and_lie_on_the_grid() -> None:
    made = planned(structure(STRIPED), dst_crs="EPSG:3857", **SMALL)
    tile = made.tile(1, 2)
    assert made.tile_name(1, 2) == "x_r0001_c0002.tif"
    assert made.tile_image(tile).grid.transform == made.target_grid.window_transform(tile.window)
    with pytest.raises(Refused, match="no output tile"):
        made.tile(99, 0)


def test_one_cog_has_levels_down_to_one_block() -> None:
    made = planned(structure(STRIPED), **SMALL)
    sizes = cog_levels(made.image)
    assert sizes[0] == (2000, 1700)
    assert max(sizes[-1]) <= 64 < max(sizes[-2])
    assert upper_levels_memory(made.image) > 0


# --- validity -------------------------------------------------------------------------------

MASK = layout((2000, 1700), (2000, 37), samples=1)
ALPHA = {
    "alpha_band": 3,
    "color_interpretation": ("gray", "undefined", "alpha"),
}


@pytest.mark.parametrize(
    ("changes", "nodata", "kind", "warned"),
    [
        ({"nodata": (7.0,) * 3}, None, "nodata", ()),
        (
            {"nodata": (7.0,) * 3, "mask": MASK},
            None,
            "mask",
            ("nodata",),
        ),
        ({"nodata": (7.0,) * 3, **ALPHA}, None, "alpha", ("nodata",)),
        ({"mask": MASK, **ALPHA}, None, "alpha", ("mask",)),
        ({"mask": MASK, **ALPHA}, 9.0, "nodata", ("alpha", "mask")),
        ({"nodata": (-9999.0,) * 3}, None, "none", ("-9999",)),
        ({}, None, "none", ()),
    ],
    ids=["nodata", "mask", "alpha", "alpha, mask", "--nodata", "no value of uint8", "none"],
)
def test_nodata_option_then_alpha_then_mask_then_nodata_decide_and_the_rest_is_named(
    changes: dict[str, Any], nodata: float | None, kind: str, warned: tuple[str, ...]
) -> None:
    notes = Notes()
    found = decide_validity(structure(STRIPED, **changes), PlanOptions(nodata=nodata), True, notes)
    assert found.kind == kind
    assert len(notes.warnings) == len(warned)
    for text, warning in zip(warned, notes.warnings, strict=True):
        assert text in warning


def test_a_source_of_one_column_comes_to_one_column() -> None:
    image = layout((1, 186), (1, 8), samples=1)
    made = structure(image, "EPSG:4326", transform=(5.0, 0.0004, 0.0, 62.0, 0.0, -0.0004))
    grid = planned(made, dst_crs="EPSG:3857").target_grid
    assert (grid.width, grid.height) == (1, 186)


def test_a_reprojected_float_without_nodata_gets_nan_and_an_integer_gets_a_mask() -> None:
    floats = structure(layout((2000, 1700), (2000, 37), dtype="float32"))
    found = decide_validity(floats, PlanOptions(), True, Notes())
    assert found.target_nodata is not None
    assert all(value is not None and math.isnan(value) for value in found.target_nodata)
    whole = decide_validity(structure(STRIPED), PlanOptions(), True, Notes())
    assert whole.target_mask
    assert whole.target_nodata is None


def test_a_palette_is_warped_nearest_and_continuous_data_bilinear() -> None:
    one = layout((2000, 1700), (2000, 37), samples=1)
    colours = tuple((i, i, i, 255) for i in range(256))
    palette = structure(one, palette=colours, color_interpretation=("palette",))
    made = planned(palette, dst_crs="EPSG:3857")
    assert (made.resampling, made.overview_resampling) == ("nearest", "nearest")
    assert made.image.codec.predictor == 1
    other = planned(structure(one), dst_crs="EPSG:3857")
    assert (other.resampling, other.overview_resampling) == ("bilinear", "average")
    warned = planned(palette, dst_crs="EPSG:3857", resampling="cubic")
    assert any("palette" in warning for warning in warned.warnings)


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({"crs": None}, {"dst_crs": "EPSG:3857"}, "--src-crs"),
        ({"crs": None}, {"resolution": (1, 1)}, "--src-crs"),
        ({"transform": None, "gcps": POINTS}, {"dst_crs": "EPSG:3857"}, "--gcps 1"),
        ({"transform": None, "gcps": POINTS}, {}, "--gcps 1"),
        ({"transform": None, "gcps": POINTS}, {"gcps": "1"}, "--src-crs"),
        ({"transform": None, "gcps": POINTS}, {"gcps": "1", "rpc_height": 3}, "own way"),
        ({"transform": None, "gcps": POINTS}, {"rpc_height": 3}, "no whole rational polynomials"),
        ({"gcps": FAR, "gcps_crs": "EPSG:4326"}, {"gcps": "1"}, "no place in the target"),
        ({}, {"gcps": "tps"}, "no ground control points"),
        ({"rpcs": rational()}, {"rpc_height": 3, "src_crs": "EPSG:4326"}, "leave out --src-crs"),
        ({"rpcs": rational()}, {"rpc_height": math.inf}, "no height"),
        ({}, {"dst_crs": "EPSG:999999"}, "EPSG:999999"),
        ({}, {"dst_crs": "EPSG:3857", "resolution": (1e-6, 1e-6)}, "--resolution"),
        ({"transform": (math.nan, 1, 0, 0, 0, -1)}, {}, "geotransform"),
        ({"transform": (0, 1, 2, 0, 2, 4)}, {"dst_crs": "EPSG:3857"}, "geotransform"),
        ({"tags": {"A": "a\0b"}}, {}, "A"),
        ({}, {"nodata": -1}, "--nodata"),
        ({}, {"nodata": math.nan}, "--nodata"),
    ],
    ids=str,
)
def test_what_cannot_be_planned_is_refused_with_its_remedy(
    changes: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        planned(structure(STRIPED, **changes), **options)
    assert sentence in str(refused.value)
    assert refused.value.remedy


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("options", [{}, {"dst_crs": "EPSG:3857"}], ids=["copy", "warp"])
def test_memory_that_holds_nothing_is_refused_and_the_budget_it_names_would_do(
    options: dict[str, Any], workers: int
) -> None:
    source = structure(layout((20000, 20000), (20000, 400), dtype="float32"))
    with pytest.raises(Refused, match=r"--memory \d+MB would do") as refused:
        planned(source, memory=200 * MIB // workers, workers=workers, **options)
    # Of several children, it is one that would have enough.
    assert refused.value.remedy.endswith("--workers 1")
    named = int(refused.value.remedy.split()[1].removesuffix("MB")) * MIB
    made = planned(source, memory=child_budget(named, 1), **options)
    assert made.memory.total <= child_budget(named, 1)


@pytest.mark.parametrize("options", [{}, {"dst_crs": "EPSG:3857"}], ids=["copy", "warp"])
def test_memory_that_is_too_little_for_each_is_shared_by_fewer_children_and_that_is_said(
    options: dict[str, Any],
) -> None:
    source = structure(layout((20000, 20000), (20000, 64), dtype="float32"))
    made = planned(source, memory=130 * MIB, workers=3, **options)
    assert made.options.workers == 1
    assert made.options.memory == 390 * MIB
    assert max(made.memory.total, (made.piece_memory or made.memory).total) <= 390 * MIB
    (warning,) = (each for each in made.warnings if "children at a time" in each)
    assert warning.startswith("the memory is enough for 1 of 3 children at a time; --memory ")
    named = int(warning.split("--memory ")[1].split("MB")[0]) * MIB
    enough = planned(source, memory=child_budget(named, 3), workers=3, **options)
    assert enough.options.workers == 3
    assert not any("children at a time" in each for each in enough.warnings)


def test_fewer_children_share_the_memory_before_a_tiled_source_is_fetched_again_and_again() -> None:
    # Half of it holds two-stage's batches of blocks no more, and direct's smallest work tiles.
    source = structure(layout((4000, 4000), (1024, 1024), 1))
    asked: dict[str, Any] = {"dst_crs": "EPSG:3857", "tile_size": 1024, "blocksize": 128}
    asked |= {"memory": 150 * MIB, "workers": 2}
    made = planned(source, **asked)
    forced = planned(source, **asked, strategy="direct")
    assert forced.costs.direct.bytes_fetched > 1.25 * source.image.blocks.byte_counts.sum()
    assert forced.options.workers == 2
    assert made.strategy == "two-stage"
    assert made.options.workers == 1


def test_one_COG_whose_upper_levels_exceed_the_memory_is_refused_with_what_would_do() -> None:
    source = structure(layout((400_000, 3000), (512, 512), 8, "float64"))
    asked = PlanOptions(memory=GIB)
    with environment(32 * MIB):
        assert make_plan(source, asked, "x").options.memory == GIB
        with pytest.raises(Refused, match="one COG's upper levels needs") as refused:
            make_plan(source, asked, "x", one_cog=True)
        named = int(refused.value.remedy.split()[1].removesuffix("MB")) * MIB
        enough = PlanOptions(memory=child_budget(named, 1))
        made = make_plan(source, enough, "x", one_cog=True)
    assert (
        GIB
        < upper_levels_memory(made.image)
        <= child_budget(named, 1)
        < upper_levels_memory(made.image) + 20 * MIB
    )


def test_fragments_that_cannot_be_put_together_in_the_memory_are_refused() -> None:
    source = structure(layout((9000, 9000), (256, 256), 8, "float64"))
    asked: dict[str, Any] = {"dst_crs": "EPSG:3857", "memory": 384 * MIB}
    with pytest.raises(Refused, match="output tile needs") as refused:
        planned(source, **asked)
    named = int(refused.value.remedy.split()[1].removesuffix("MB")) * MIB
    made = planned(source, **{**asked, "memory": child_budget(named, 1)})
    assert made.fragments
    assert assembly_memory(made.image, made.tile_size).total <= child_budget(named, 1)


# --- for people -------------------------------------------------------------------------------


def test_the_explanation_names_structure_strategy_memory_and_all_three_costs(
    huge: RasterPlan,
) -> None:
    lines = explain.explain_plan(huge)
    text = "\n".join(lines)
    for word in ("196 strips of 256 rows", "two-stage", "Memory of a tile task", "naive"):
        assert word in text
    summary = explain.summarize_plan(huge).model_dump(mode="json")
    reads = summary["reads"]
    assert f"{reads['whole']} whole, one download each, and {reads['windows']} in" in text
    assert reads["whole"] + reads["windows"] == len(huge.pieces)
    assert set(summary["cost"]) == {"direct", "two-stage", "naive"}
    assert summary["memory"]["total"] == sum(summary["memory"]["parts"].values())
    assert {"engine", "resampling", "xscale", "yscale", "coordinate_operation"} <= set(
        summary["warp"]
    )
    json.dumps(summary, allow_nan=False)
    assert explain.plan_event(huge)["output_tiles"] == len(huge.tiles)


def test_the_picture_is_wide_and_shows_more_than_one_colour(
    huge: RasterPlan, tmp_path: Path
) -> None:
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "plan.png"
    draw_plan(huge, str(path))
    picture = image.imread(path)
    assert picture.shape[1] >= 1200
    assert len(np.unique(picture[..., 0])) > 20
    with pytest.raises(Refused, match="cannot be written"):
        draw_plan(huge, str(tmp_path / "no folder" / "plan.png"))


def test_without_matplotlib_the_picture_is_refused_by_the_name_of_the_extra(
    huge: RasterPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(Refused, match=r"cogmill\[plot\]"):
        draw_plan(huge, str(tmp_path / "plan.png"))


def test_options_are_validated_without_loading_gdal() -> None:
    code = (
        "import sys; from cogmill.raster import memory\n"
        "from cogmill.raster.options.plan_options import PlanOptions; PlanOptions()\n"
        "print([m for m in ('rasterio', 'pyproj', 'numpy', 'tifffile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_the_warp_rounds_and_what_a_copy_does_not_use_is_said() -> None:
    wide = structure(layout((900, 800), (128, 128), dtype="int64"))
    moved = planned(wide, **SMALL, dst_crs="EPSG:3857")
    assert any("beyond 2^52" in warning for warning in moved.warnings)
    copied = planned(wide, **SMALL, resampling="cubic")
    assert any("--resampling is not used" in warning for warning in copied.warnings)
    assert not any("2^52" in warning for warning in copied.warnings)


def test_nodata_of_64_bits_that_a_float_cannot_hold_is_refused() -> None:
    wide = structure(layout((900, 800), (128, 128), dtype="int64"))
    with pytest.raises(Refused, match="--nodata"):
        planned(wide, **SMALL, nodata=-(2.0**63))
