"""Control points and rational polynomials place a raster as GDAL's own transformers do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.placed_by_points import make_spec, points, rational, source_grid
from tests.harness.reference import HEIGHT, WIDTH, Array, transformer

from cogmill.errors import Refused
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.control import Control, control_by_points, residuals
from cogmill.raster.geometry.crs import transform_points_back
from cogmill.raster.geometry.grid import PIXELS, Grid
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.exact_warp import warp
from cogmill.raster.warp.footprint import source_positions
from cogmill.raster.warp.roundtrip import refuse_folded

WAYS = ("1", "2", "3", "tps", "rpc")


@pytest.fixture(autouse=True, scope="module")
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


def there_by_gdal(control: Control, cols: Array, rows: Array) -> tuple[Array, Array]:
    """Return x, y of places by GDAL."""
    with transformer(control) as theirs:
        if control.kind == "spline":
            down, across = theirs.rowcol(cols, rows, op=np.positive)
            return np.asarray(across), np.asarray(down)
        # It means the centres of pixels by whole numbers, and we their corners.
        xs, ys = theirs.xy(rows, cols, offset="ul")
        return np.asarray(xs), np.asarray(ys)


def back_by_gdal(control: Control, xs: Array, ys: Array) -> tuple[Array, Array]:
    """Return columns, rows of coordinates by GDAL."""
    with transformer(control) as theirs:
        if control.kind == "spline":
            across, down = theirs.xy(ys, xs, offset="ul")
            return np.asarray(across), np.asarray(down)
        down, across = theirs.rowcol(xs, ys, op=np.positive)
        return np.asarray(across), np.asarray(down)


places = st.tuples(st.floats(-40, WIDTH + 40), st.floats(-40, HEIGHT + 40))


@given(
    st.sampled_from(["1", "2", "tps", "rpc"]),
    st.integers(0, 2**31),
    st.lists(places, min_size=1, max_size=20),
)
def test_there_and_back_agree_with_gdals_transformers(
    how: str, seed: int, some: list[tuple[float, float]]
) -> None:
    control: Control = rational(at=seed % 900)
    if how != "rpc":
        listed = points(noise=1e-4, seed=seed)
        control = control_by_points(
            listed[:5:2] + listed[-2:-1] if how == "1" else listed, how, "it"
        )
    cols, rows = (np.array(each) for each in zip(*some, strict=True))
    xs, ys = control.positions(cols, rows)
    # To coordinates GDAL iterates until a tenth of a pixel is left.
    slack = 2e-4 if how == "rpc" else 1e-9
    np.testing.assert_allclose((xs, ys), there_by_gdal(control, cols, rows), atol=slack, rtol=0)
    back = control.places(xs, ys)
    np.testing.assert_allclose(back, back_by_gdal(control, xs, ys), atol=1e-4, rtol=0)
    if how in ("rpc", "tps"):
        np.testing.assert_allclose(back, (cols, rows), atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", WAYS)
def test_the_warp_takes_every_pixel_from_where_the_plan_says(how: str) -> None:
    spec = make_spec(how, "bilinear", "float64-nan")
    spec = spec.model_copy(update={"bands": 2, "xscale": 1.0, "yscale": 1.0})
    ramp: Array = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5))
    held = HeldPixels(window=spec.source.window, pixels=np.ascontiguousarray(ramp), mask=None)
    found = warp(spec, held, spec.target.window).pixels
    centres = (np.arange(size) + 0.5 for size in (spec.target.width, spec.target.height))
    cols, rows = source_positions(spec, *np.meshgrid(*centres))
    inner = (cols > 1) & (cols < WIDTH - 1) & (rows > 1) & (rows < HEIGHT - 1)
    assert inner.mean() > 0.5
    np.testing.assert_allclose(found[0][inner], cols[inner], atol=1e-5, rtol=0)
    np.testing.assert_allclose(found[1][inner], rows[inner], atol=1e-5, rtol=0)


def test_residuals_are_those_of_the_points_and_a_spline_has_none() -> None:
    wrong = [list(point) for point in points(noise=0)]
    wrong[7][2] += 0.01
    listed = tuple((c, r, x, y, z) for c, r, x, y, z in wrong)
    cubic, spline = (residuals(control_by_points(listed, how, "it")) for how in ("3", "tps"))
    assert cubic is not None
    assert spline is not None
    assert int(cubic.argmax()) == 7
    assert 3 < cubic.max() < 10.5  # 0.01 degrees are about 10 pixels
    assert spline.max() < 1e-6
    assert residuals(rational()) is None


@pytest.mark.parametrize(("how", "needed"), [("1", 3), ("2", 6), ("3", 10), ("tps", 3)])
def test_too_few_points_are_refused_with_the_number_that_is_needed(how: str, needed: int) -> None:
    listed = points()[: needed - 1]
    with pytest.raises(Refused, match=f"has {needed - 1} .* --gcps {how} needs {needed}"):
        control_by_points(listed, how, "it")


@pytest.mark.parametrize("how", ["1", "2", "3", "tps"])
def test_points_on_a_line_are_refused(how: str) -> None:
    listed = tuple((float(n), 2.0 * n, 12 + n / 1e3, 47 - n / 1e3, 0.0) for n in range(12))
    with pytest.raises(Refused, match="lie on a line"):
        control_by_points(listed, how, "it")


def test_points_that_fix_no_polynomial_are_refused() -> None:
    listed = tuple(p for p in points(side=2)) + points(side=2, seed=1)
    with pytest.raises(Refused, match=r"fix no polynomial of order 2; use --gcps 1"):
        control_by_points(listed, "2", "it")


def test_two_points_at_one_place_are_refused_by_a_spline_alone() -> None:
    listed = points()
    twice = (*listed, (*listed[3][:2], 12.5, 46.5, 0.0))
    with pytest.raises(Refused, match=r"at one place \(column 308\.25, row 0\)"):
        control_by_points(twice, "tps", "it")
    assert control_by_points(twice, "1", "it").points == twice


def test_more_points_than_a_task_has_time_for_are_refused_by_a_spline_alone() -> None:
    many = points(side=32)
    with pytest.raises(Refused, match="1024 ground control points, and a spline takes at most"):
        control_by_points(many, "tps", "it")
    assert control_by_points(many, "3", "it").points == many


def test_a_point_that_is_no_number_is_refused() -> None:
    with pytest.raises(Refused, match="is no number"):
        control_by_points((*points(), (5.0, 5.0, float("nan"), 1.0, 0.0)), "1", "it")


def test_a_polynomial_that_folds_is_refused_and_a_bent_one_is_not() -> None:
    def folded(strength: float) -> Grid:
        bent = tuple((c, r, x + strength * (x - 12.15) ** 2, y, z) for c, r, x, y, z in points())
        return source_grid("2").model_copy(update={"control": control_by_points(bent, "2", "it")})

    target = make_spec("2", "nearest", dst="EPSG:4326").target
    refuse_folded(folded(0.5), target, None, "it")
    with pytest.raises(Refused, match=r"fold over .* % of the raster"):
        refuse_folded(folded(4.0), target, None, "it")


def test_an_echo_of_the_raster_elsewhere_on_the_target_is_refused() -> None:
    source = source_grid("3")
    near = make_spec("3", "nearest", dst="EPSG:4326").target
    refuse_folded(source, near, None, "it")
    far = Grid(crs=near.crs, transform=(0.0, 0.05, 0.0, 60.0, 0.0, -0.05), width=500, height=500)
    cols, rows = np.meshgrid(np.arange(500.0), np.arange(500.0))
    at = source.place_arrays(
        *transform_points_back((near.crs, near.crs), None, *far.position_arrays(cols, rows))
    )
    echoes = (at[0] > 0) & (at[0] < WIDTH) & (at[1] > 0) & (at[1] < HEIGHT)
    assert echoes.sum() > 150  # the raster itself is 10 x 10 pixels of this grid
    with pytest.raises(Refused, match="of the target grid"):
        refuse_folded(source, far, None, "it")


def test_an_echo_that_is_small_on_a_grid_of_the_world_is_refused() -> None:
    source = source_grid("rpc")
    world = Grid(crs=source.crs, transform=(-180, 0.05, 0, 90, 0, -0.05), width=7200, height=3600)
    # 20 degrees east of the raster.
    around = np.meshgrid(np.arange(1400.0, 1700.0), np.arange(800.0, 1000.0))
    cols, rows = source.place_arrays(*world.position_arrays(*around))
    assert ((cols > 0) & (cols < WIDTH) & (rows > 0) & (rows < HEIGHT)).sum() > 100
    with pytest.raises(Refused, match=r"of the target grid.*; correct them, or give --bounds"):
        refuse_folded(source, world, None, "it")


def test_a_raster_is_placed_in_one_way() -> None:
    with pytest.raises(ValueError, match="not both"):
        Grid(crs="EPSG:4326", transform=(1, 1, 0, 0, 0, 1), width=9, height=9, control=rational())
    assert Grid(crs="", transform=PIXELS, width=9, height=9).position(3, 4) == (3.0, 4.0)
