"""Antimeridian, poles, other bodies, heights: the right footprint or a sentence, never a guess."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from tests.harness.reference import crop, reference_warp
from tests.harness.synthetic import layout, structure

from cogmill.errors import Refused
from cogmill.raster.gdal import environment
from cogmill.raster.geometry import seams
from cogmill.raster.geometry.crs import (
    crs_text,
    degrees_of,
    height_warnings,
    lonlat_area,
)
from cogmill.raster.geometry.grid import GeoTransform, Grid, Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.warp.exact_warp import Warped, warp
from cogmill.raster.warp.footprint import source_positions, source_window
from cogmill.raster.warp.warp_spec import WarpSpec

HALF = 20037508.342789244


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


def planned(
    crs: str, transform: GeoTransform, size: tuple[int, int], dst_crs: str, **options: Any
) -> RasterPlan:
    image = layout(size, (min(64, size[0] - 1), 64), samples=1, dtype="int16")
    made = structure(image, None, transform=transform, nodata=(-9999.0,))
    made = made.model_copy(update={"crs": crs_text(crs)})
    return make_plan(made, PlanOptions.parse({"dst_crs": dst_crs, **options}), "seams")


def share(found: RasterPlan) -> float:
    """Return which part of the target grid has a place in the source."""
    spec = found.warp
    assert spec is not None
    ticks = (np.arange(120) + 0.5) / 120
    cols, rows = source_positions(
        spec, *np.meshgrid(ticks * spec.target.width, ticks * spec.target.height)
    )
    with np.errstate(invalid="ignore"):
        inside = (cols >= 0) & (cols <= spec.source.width)
        inside &= (rows >= 0) & (rows <= spec.source.height)
    return float(inside.mean())


def warped(spec: WarpSpec, held: HeldPixels, side: int = 53) -> Any:
    """Warp the whole target in odd windows, each from what it needs and no more."""
    pixels = np.zeros((spec.bands, spec.target.height, spec.target.width), spec.dtype)
    for row in range(0, spec.target.height, side):
        for col in range(0, spec.target.width, side):
            window = Window(col_off=col, row_off=row, width=side, height=side)
            window = window.intersect(spec.target.window) or window
            needed = source_window(spec, window)
            done: Warped = warp(spec, None if needed is None else crop(held, needed), window)
            pixels[(slice(None), *window.slices)] = done.pixels
    return pixels


# --- the antimeridian --------------------------------------------------------------------------

ACROSS: dict[str, tuple[str, GeoTransform, tuple[int, int]]] = {
    "UTM zone 1": ("EPSG:32601", (150000.0, 1000.0, 0.0, 6e6, 0.0, -1000.0), (300, 211)),
    "UTM zone 60": ("EPSG:32660", (500000.0, 1000.0, 0.0, 6e6, 0.0, -1000.0), (400, 211)),
    "PDC Mercator": ("EPSG:3832", (2.6e6, 5000.0, 0.0, 6e6, 0.0, -5000.0), (400, 211)),
    "degrees beyond 180": ("EPSG:4326", (171.0, 0.05, 0.0, 60.0, 0.0, -0.05), (300, 211)),
    "degrees below -180": ("EPSG:4326", (-192.0, 0.05, 0.0, 60.0, 0.0, -0.05), (300, 211)),
    "polar, beside the pole": ("EPSG:3995", (-3e5, 2000.0, 0.0, 3e6, 0.0, -2000.0), (300, 211)),
}


#: Reprojections only, and none to North America's datum where PROJ has no way to it.
PAIRS = [
    (place, dst_crs)
    for place, (crs, _, _) in ACROSS.items()
    for dst_crs in ("EPSG:4326", "EPSG:3857", "EPSG:4269", "EPSG:4087")
    if crs != dst_crs and (crs, dst_crs) != ("EPSG:3995", "EPSG:4269")
]


@pytest.mark.parametrize(("place", "dst_crs"), PAIRS)
def test_a_raster_across_the_antimeridian_gets_one_grid_that_holds_it_and_little_else(
    place: str, dst_crs: str
) -> None:
    crs, transform, size = ACROSS[place]
    found = planned(crs, transform, size, dst_crs)
    assert share(found) > 0.5
    assert any("antimeridian" in warning for warning in found.warnings)
    # By PROJ alone: every place of the raster lies on the grid, a turn more or less.
    cols, rows = np.meshgrid(np.linspace(0, size[0], 40), np.linspace(0, size[1], 40))
    source = found.source_grid
    there = Transformer.from_crs(source.crs, dst_crs, always_xy=True)
    xs, ys = (np.asarray(each) for each in there.transform(*source.position_arrays(cols, rows)))
    left, bottom, right, top = found.target_grid.bounds
    turn = 360.0 if CRS(dst_crs).is_geographic else 2 * HALF
    off = np.min([np.maximum(left - x, x - right) for x in (xs - turn, xs, xs + turn)], axis=0)
    pixel = found.target_grid.transform[1]
    assert off.max() < pixel
    assert max(bottom - ys.min(), ys.max() - top) < pixel


@pytest.mark.parametrize(
    ("place", "dst_crs"),
    [each for each in PAIRS if "polar" not in each[0] and each[1] in ("EPSG:4326", "EPSG:3857")],
)
def test_pixels_across_the_antimeridian_equal_a_reference_in_numpy_and_pyproj(
    place: str, dst_crs: str
) -> None:
    crs, transform, size = ACROSS[place]
    spec = planned(crs, transform, size, dst_crs, resampling="nearest").warp
    assert spec is not None
    held = made(spec)
    pixels = warped(spec, held)
    turned = spec
    if crs == "EPSG:4326":  # The reference knows no longitude beyond half a turn.
        turned = spec.model_copy(update={"source": wrapped(spec.source)})
    expected = reference_warp(turned, held, 0)
    decided = ~expected.undecided
    valid = pixels[0] != -9999
    assert valid.mean() > 0.3
    assert (valid != expected.valid)[decided].sum() == 0
    both = decided & valid
    assert (pixels[0] != expected.values)[both].sum() == 0


def wrapped(source: Grid) -> Grid:
    """Return the same places in a system whose longitudes are counted from the raster's middle."""
    left, _, right, _ = source.bounds
    middle = (left + right) / 2
    crs = CRS.from_proj4(f"+proj=longlat +datum=WGS84 +lon_wrap={middle} +no_defs").to_wkt()
    return source.model_copy(update={"crs": crs})


def made(spec: WarpSpec) -> HeldPixels:
    """Return a source full of values that say where they are from."""
    rng = np.random.default_rng(1)
    shape = (spec.bands, spec.source.height, spec.source.width)
    pixels = rng.integers(-2000, 2000, shape).astype(spec.dtype)
    return HeldPixels(window=spec.source.window, pixels=pixels, mask=None)


@pytest.mark.parametrize("first", [0.0, -0.125, 20.0])
def test_longitudes_from_0_to_360_give_the_pixels_of_those_from_minus_180(first: float) -> None:
    step, width, height = 0.5, 720, 100
    whole = planned("EPSG:4326", (first, step, 0.0, 25.0, 0.0, -step), (width, height), "EPSG:3857")
    spec = whole.warp
    assert spec is not None
    assert share(whole) > 0.99
    held = made(spec)
    shift = round((first + 180) / step)
    west = first - shift * step
    rolled = HeldPixels(
        window=held.window, pixels=np.roll(held.pixels, shift, axis=2).copy(), mask=None
    )
    other = planned(
        "EPSG:4326", (west, step, 0.0, 25.0, 0.0, -step), (width, height), "EPSG:3857"
    ).warp
    assert other is not None
    near = {"resampling": "nearest", "xscale": 1.0, "yscale": 1.0, "target": spec.target}
    specs = [each.model_copy(update=near) for each in (spec, other)]
    ours, theirs = warped(specs[0], held), warped(specs[1], rolled)
    # At the seams of either raster the nearest pixel may be that on the other side.
    assert (ours != theirs).mean() < 3 * 2 / ours.shape[2]


@pytest.mark.parametrize(
    ("first", "bounds"), [(0.0, (-180.0, -25, 180, 25)), (-180.0, (0.0, -25, 360, 25))]
)
def test_bounds_a_turn_away_from_a_source_in_the_same_degrees_get_its_pixels(
    first: float, bounds: tuple[float, ...]
) -> None:
    source = (first, 0.5, 0.0, 25.0, 0.0, -0.5)
    spec = planned("EPSG:4326", source, (720, 100), "EPSG:4326", bounds=bounds).warp
    assert spec is not None
    held = made(spec)
    near = spec.model_copy(update={"resampling": "nearest", "xscale": 1.0, "yscale": 1.0})
    np.testing.assert_array_equal(warped(near, held), np.roll(held.pixels, 360, axis=2))


def test_bounds_beyond_the_antimeridian_find_a_source_that_lies_there() -> None:
    source = (170.0, 0.2, 0.0, -10.0, 0.0, -0.2)
    east = planned("EPSG:4326", source, (180, 120), "EPSG:4326", bounds=(-180, -34, -170, -10))
    assert share(east) == 1.0
    with pytest.raises(Refused, match="does not touch the source"):
        planned("EPSG:4326", source, (180, 120), "EPSG:4326", bounds=(0, -34, 10, -10))


@settings(max_examples=12, deadline=None)
@given(
    zone=st.sampled_from([1, 2, 59, 60]), south=st.booleans(), x=st.floats(2e5, 7e5),
    y=st.floats(1e6, 7e6), width=st.integers(90, 600), target=st.sampled_from([4326, 3857]),
)  # fmt: skip
def test_no_utm_raster_near_the_antimeridian_gets_a_grid_that_is_nearly_empty(
    zone: int, south: bool, x: float, y: float, width: int, target: int
) -> None:
    with environment(16 << 20):
        code = f"EPSG:{32700 + zone if south else 32600 + zone}"
        found = planned(code, (x, 500.0, 0.0, y, 0.0, -500.0), (width, 97), f"EPSG:{target}")
        assert share(found) > 0.4


def test_a_raster_across_the_edge_of_a_tiling_scheme_is_refused_and_each_side_is_not() -> None:
    crs, transform, size = ACROSS["PDC Mercator"]
    scheme = {"tiling_scheme": "WebMercatorQuad"}
    with pytest.raises(Refused, match="edge of the tiling scheme"):
        planned(crs, transform, size, "EPSG:3857", **scheme)
    bounds = (HALF - 8e5, 5.6e6, HALF, 6e6)
    assert planned(crs, transform, size, "EPSG:3857", bounds=bounds, **scheme).target_grid.bounds[
        2
    ] == pytest.approx(HALF)


def test_what_has_no_way_back_is_refused_in_a_sentence() -> None:
    beyond = (HALF - 1e6, 5000.0, 0.0, 6e6, 0.0, -5000.0)
    with pytest.raises(Refused, match=r"(49|50|51) % of the raster lies beyond"):
        planned("EPSG:3857", beyond, (400, 100), "EPSG:4326")


@pytest.mark.parametrize("first", [-180.0, -180.5, 0.0, -0.25])
def test_a_whole_turn_of_longitudes_and_a_pixel_more_are_taken(first: float) -> None:
    for width in (360, 361):
        found = planned("EPSG:4326", (first, 1.0, 0.0, 60.0, 0.0, -1.0), (width, 120), "EPSG:3857")
        assert share(found) > 0.97
        # The seam is no place of another scale: Mercator's varies twice from here to 60 degrees.
        assert found.scales is not None
        assert found.scales.minimum > 0.4 * found.scales.maximum
        assert not any("antimeridian" in warning for warning in found.warnings)


# --- the poles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dst_crs", ["EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031", "EPSG:3995"])
def test_a_polar_raster_that_holds_the_pole_goes_around_the_world_and_fills_its_grid(
    crs: str, dst_crs: str
) -> None:
    found = planned(crs, (-2e6, 1e4, 0.0, 2.1e6, 0.0, -1e4), (401, 411), dst_crs)
    left, bottom, right, top = found.target_grid.bounds
    turn = 180.0 if dst_crs == "EPSG:4326" else HALF
    pixel = found.target_grid.transform[1]
    assert (left, right) == pytest.approx((-turn, turn), abs=2 * pixel)
    assert share(found) > 0.6
    pole, edge = (bottom, top) if crs == "EPSG:3031" else (top, bottom)
    assert abs(pole) == pytest.approx(90.0 if turn == 180 else HALF, abs=3 * pixel)
    corners = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lats = corners.transform([-2e6, 2.01e6] * 2, [2.1e6, 2.1e6, -2.01e6, -2.01e6])[1]
    lowest = float(np.abs(lats).min())
    there = Transformer.from_crs("EPSG:4326", dst_crs, always_xy=True)
    assert abs(edge) <= there.transform(0, lowest)[1] + 3 * pixel


@pytest.mark.parametrize("dst_crs", ["EPSG:3857", "EPSG:3395", "EPSG:3832"])
@pytest.mark.parametrize("first", [-180.0, 0.0, -180.5])
def test_the_world_in_degrees_ends_at_85_degrees_in_mercator_and_says_so(
    first: float, dst_crs: str
) -> None:
    found = planned("EPSG:4326", (first, 1.0, 0.0, 90.0, 0.0, -1.0), (360, 180), dst_crs)
    left, bottom, right, top = found.target_grid.bounds
    assert max(map(abs, (left, right))) < HALF * 1.01
    assert 0.98 < top / HALF < 1.01
    assert 0.98 < -bottom / HALF < 1.01
    assert share(found) > 0.95
    assert any("85.05" in warning for warning in found.warnings)


def test_the_world_in_degrees_on_a_tiling_scheme_is_the_scheme() -> None:
    found = planned(
        "EPSG:4326", (-180.0, 0.5, 0.0, 90.0, 0.0, -0.5), (720, 360), "EPSG:3857",
        tiling_scheme="GoogleMapsCompatible",
    )  # fmt: skip
    assert found.target_grid.bounds == pytest.approx((-HALF, -HALF, HALF, HALF))


@pytest.mark.parametrize("dst_crs", ["EPSG:3413", "EPSG:3031", "EPSG:3995"])
def test_the_pole_of_the_other_side_is_refused_and_bounds_are_the_way_out(dst_crs: str) -> None:
    world = "EPSG:4326", (-180.0, 0.25, 0.0, 90.0, 0.0, -0.25), (1440, 720), dst_crs
    with pytest.raises(Refused, match="infinitely far") as caught:
        planned(*world)
    assert "--bounds" in caught.value.remedy
    found = planned(*world, bounds=(-3e6, -3e6, 3e6, 3e6))
    assert found.target_grid.bounds == pytest.approx((-3e6, -3e6, 3e6, 3e6))
    # A quarter of a degree of latitude is 28 km; of longitude, less and less towards the pole.
    assert 5e3 < found.target_grid.transform[1] < 28e3
    assert share(found) > 0.99


@pytest.mark.parametrize("dst_crs", ["EPSG:3413", "EPSG:3995"])
def test_one_half_of_the_world_goes_around_its_own_pole(dst_crs: str) -> None:
    found = planned("EPSG:4326", (-180.0, 0.5, 0.0, 90.0, 0.0, -0.5), (720, 80), dst_crs)
    left, bottom, right, top = found.target_grid.bounds
    edge = abs(Transformer.from_crs("EPSG:4326", dst_crs, always_xy=True).transform(-45, 50)[1])
    assert max(map(abs, (left, bottom, right, top))) < 1.1 * edge * np.sqrt(2)
    assert share(found) > 0.7


# --- other bodies ------------------------------------------------------------------------------

MARS = (
    'GEOGCS["GCS_Mars_2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190.0,'
    '169.8944472236118]],PRIMEM["Reference_Meridian",0.0],UNIT["Degree",0.0174532925199433]]'
)
MARS_MERCATOR = (
    f'PROJCS["Mars_Equi",{MARS},PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],'
    'PARAMETER["central_meridian",0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],'
    'UNIT["metre",1]]'
)


@pytest.mark.parametrize(
    ("source", "target", "radius"),
    [
        ("IAU_2015:30100", "IAU_2015:30110", 1737400.0),
        ("IAU_2015:49900", "IAU_2015:49910", 3396190.0),
        (MARS, MARS_MERCATOR, 3396190.0),
    ],
    ids=["Moon", "Mars", "Mars as custom WKT"],
)
def test_a_raster_of_another_body_is_reprojected_on_that_body(
    source: str, target: str, radius: float
) -> None:
    found = planned(source, (10.0, 0.1, 0.0, 20.0, 0.0, -0.1), (211, 97), target)
    assert found.target_grid.bounds[0] == pytest.approx(np.radians(10.0) * radius, rel=1e-6)
    assert found.target_grid.bounds[3] == pytest.approx(np.radians(20.0) * radius, rel=0.01)
    assert share(found) > 0.99
    spec = found.warp
    assert spec is not None
    held = made(spec)
    assert (warped(spec, held) != -9999).mean() > 0.98


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("IAU_2015:49900", "EPSG:4326"),
        ("EPSG:4326", "IAU_2015:49910"),
        ("IAU_2015:30100", "IAU_2015:49900"),
        (MARS, "EPSG:3857"),
    ],
)
def test_one_body_is_never_taken_for_another(source: str, target: str) -> None:
    with pytest.raises(Refused, match="two planets or moons") as caught:
        planned(source, (10.0, 0.1, 0.0, 20.0, 0.0, -0.1), (211, 97), target)
    assert "--dst-crs" in caught.value.remedy


def test_a_footprint_on_the_moon_is_in_its_own_degrees() -> None:
    moon = crs_text("IAU_2015:30110")
    step = np.radians(1.0) * 1737400.0
    grid = Grid(crs=moon, transform=(0.0, step, 0.0, 0.0, 0.0, -step), width=10, height=20)
    assert lonlat_area(grid) == pytest.approx((0.0, -20.0, 10.0, 0.0))
    ellipsoid = degrees_of(CRS.from_user_input(moon)).ellipsoid
    assert ellipsoid is not None
    assert ellipsoid.semi_major_metre == 1737400.0


# --- heights, local and other systems ----------------------------------------------------------

BERNE: GeoTransform = (7.0, 0.01, 0.0, 47.0, 0.0, -0.01)


@pytest.mark.parametrize("crs", ["EPSG:9705", "EPSG:4326+5773", "EPSG:4979"])
def test_heights_are_left_alone_and_named_where_the_target_has_none(crs: str) -> None:
    found = planned(crs, BERNE, (211, 97), "EPSG:3857")
    assert any("values stay as they are" in warning for warning in found.warnings)
    plain = planned("EPSG:4326", BERNE, (211, 97), "EPSG:3857")
    assert found.target_grid == plain.target_grid


def test_a_target_of_the_same_heights_keeps_them() -> None:
    found = planned("EPSG:4326+5773", BERNE, (211, 97), "EPSG:32632+5773")
    assert CRS(found.target_grid.crs).is_compound
    assert not any("values stay" in warning for warning in found.warnings)
    assert share(found) > 0.9


@pytest.mark.parametrize(
    ("source", "target"),
    [("EPSG:4326", "EPSG:9705"), ("EPSG:4326+5773", "EPSG:4326+3855"), ("EPSG:4326", "EPSG:4979")],
)
def test_a_target_never_says_of_pixels_that_they_are_other_heights(
    source: str, target: str
) -> None:
    with pytest.raises(Refused, match="never shifted"):
        height_warnings(crs_text(source), crs_text(target))
    with pytest.raises(Refused, match="never shifted"):
        planned(source, BERNE, (211, 97), target)


LOCAL = 'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'  # noqa: E501


@pytest.mark.parametrize(
    ("crs", "kind", "copied"),
    [
        ("EPSG:3855", "Vertical CRS", False),
        ("EPSG:4978", "Geocentric CRS", True),
        ('LOCAL_CS["site",UNIT["metre",1]]', "Engineering CRS", True),
        (LOCAL, "Engineering CRS", False),
    ],
)
def test_a_system_that_is_no_map_is_named_and_copied_where_a_geotiff_can_hold_it(
    crs: str, kind: str, copied: bool
) -> None:
    image = layout((211, 97), (64, 64), samples=1)
    wkt = CRS.from_user_input(crs).to_wkt()
    source = structure(image, None, transform=BERNE).model_copy(update={"crs": wkt})
    with pytest.raises(Refused, match=f"\\({kind}\\) has no place on a map"):
        make_plan(source, PlanOptions(dst_crs="EPSG:3857"), "seams")
    if copied:
        assert make_plan(source, PlanOptions(), "seams").copies
    else:
        with pytest.raises(Refused, match="a GeoTIFF cannot hold the coordinate system"):
            make_plan(source, PlanOptions(), "seams")


def test_a_better_grid_that_is_missing_is_named_with_its_loss_in_metres() -> None:
    found = planned("EPSG:4267", (-100.0, 0.01, 0.0, 40.0, 0.0, -0.01), (211, 97), "EPSG:4326")
    assert any(
        "us_noaa_conus" in warning and "loses 5.5 m of accuracy" in warning
        for warning in found.warnings
    )
    assert found.operation is not None
    assert found.operation.loss_m == 5.5


# --- cylinders ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crs", "period", "centre"),
    [
        ("EPSG:4326", 360.0, 0.0),
        ("EPSG:4807", 400.0, 0.0),
        ("EPSG:3857", 2 * HALF, 0.0),
        ("EPSG:3832", 2 * HALF, 0.0),
        ("EPSG:3395", 2 * HALF, 0.0),
        ("EPSG:4087", 2 * HALF, 0.0),
        ("EPSG:6933", 34734731.0, 0.0),
    ],
)
def test_a_cylinder_comes_round_after_its_period(crs: str, period: float, centre: float) -> None:
    found = seams.cylinder(crs_text(crs))
    assert found is not None
    assert found.period == pytest.approx(period, rel=1e-5)
    assert found.centre == pytest.approx(centre, abs=1e-6)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3413", "EPSG:3035", "EPSG:27700", "EPSG:2154"])
def test_other_projections_do_not_come_round(crs: str) -> None:
    assert seams.cylinder(crs_text(crs)) is None
