"""The warp: the same pixels however it is cut, and the same as oracles that are not our code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as RasterioWindow
from tests.harness.reference import (
    KINDS,
    PLACES,
    Array,
    crop,
    make_held,
    make_spec,
    reference_warp,
    rounded,
    suggested,
)
from tests.harness.warping import by_windows, differing, odd_windows, valid_share, whole_image

from cogmill.errors import Refused, SourceWindowTooSmall
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.crs import crs_text
from cogmill.raster.geometry.grid import Grid, Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp import footprint as footprints
from cogmill.raster.warp.exact_warp import Warped, warp
from cogmill.raster.warp.footprint import source_window, warp_buffer_bytes
from cogmill.raster.warp.warp_document import frame_xml, warped_xml
from cogmill.raster.warp.warp_spec import KERNELS, WarpSpec

MAIN_KERNELS = ("nearest", "bilinear", "cubic", "average")
MAIN_KINDS = ("uint8x3", "float32-nodata", "uint16x4", "int16")


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


@pytest.mark.parametrize("kind", MAIN_KINDS)
@pytest.mark.parametrize("kernel", MAIN_KERNELS)
def test_odd_windows_from_framed_sources_equal_the_whole_image(kind: str, kernel: str) -> None:
    spec = make_spec("utm-3857", KINDS[kind], kernel)
    held = make_held(spec)
    expected = whole_image(spec, held)
    found = by_windows(spec, held, odd_windows(spec))
    assert 0.3 < valid_share(spec, expected) < 0.99
    assert differing(found, expected) == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MAIN_KINDS])
@pytest.mark.parametrize("kernel", ["bilinear", "cubic"])
def test_every_way_to_be_invalid_is_the_same_however_it_is_cut(kind: str, kernel: str) -> None:
    spec = make_spec("utm-3857", KINDS[kind], kernel)
    held = make_held(spec)
    expected = whole_image(spec, held)
    assert 0.3 < valid_share(spec, expected) < 0.99
    assert differing(by_windows(spec, held, odd_windows(spec)), expected) == 0


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel not in MAIN_KERNELS])
def test_every_other_kernel_is_the_same_however_it_is_cut(kernel: str) -> None:
    spec = make_spec("utm-3857", KINDS["uint8-nodata-0"], kernel)
    held = make_held(spec)
    expected = whole_image(spec, held)
    assert differing(by_windows(spec, held, odd_windows(spec)), expected) == 0


@pytest.mark.parametrize("kernel", ["bilinear", "cubic", "lanczos", "average", "mode", "med"])
@pytest.mark.parametrize("place", ["utm-3857", "utm-rotated", "same"])
def test_scaling_down_is_the_same_however_it_is_cut(place: str, kernel: str) -> None:
    spec = make_spec(place, KINDS["float32-nodata"], kernel, scale=2.7)
    assert spec.xscale < 0.5
    held = make_held(spec)
    expected = whole_image(spec, held)
    assert differing(by_windows(spec, held, odd_windows(spec, side=43)), expected) == 0


@pytest.mark.parametrize("place", PLACES)
def test_every_pair_of_systems_is_the_same_however_it_is_cut(place: str) -> None:
    spec = make_spec(place, KINDS["uint8-nodata-0"], "cubic")
    held = make_held(spec)
    expected = whole_image(spec, held)
    assert valid_share(spec, expected) > 0.02
    assert differing(by_windows(spec, held, odd_windows(spec)), expected) == 0


def test_windows_beyond_the_limb_of_a_projection_are_not_valid() -> None:
    world = Grid(
        crs=crs_text("EPSG:4326"), transform=(-180.0, 0.6, 0.0, 90.0, 0.0, -0.6),
        width=600, height=300,
    )  # fmt: skip
    spec = suggested(
        world, "+proj=ortho +lat_0=40 +lon_0=10 +datum=WGS84", KINDS["uint8x3"], "bilinear"
    )
    held = make_held(spec)
    expected = warp(spec, held, spec.target.window)
    assert expected.mask is not None
    assert not expected.mask[:5, :150].any()
    found = by_windows(spec, held, odd_windows(spec))
    assert differing(found, (expected.pixels, expected.mask)) == 0


def test_regions_of_any_size_give_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("utm-3857", KINDS["uint8-mask"], "cubic")
    held = make_held(spec)
    expected = whole_image(spec, held)
    for side in (64, 256):
        monkeypatch.setattr(footprints, "CHUNK", side)
        footprints.footprint.cache_clear()
        whole = warp(spec, held, spec.target.window)
        assert differing((whole.pixels, whole.mask), expected) == 0
    footprints.footprint.cache_clear()


def test_a_window_one_pixel_wide_or_high_gives_the_same_pixels() -> None:
    spec = make_spec("utm-3857", KINDS["uint8-mask"], "cubic")
    held = make_held(spec)
    pixels, mask = whole_image(spec, held)
    assert mask is not None
    for size in ((1, 1), (1, 40), (40, 1)):
        window = Window(col_off=203, row_off=111, width=size[0], height=size[1])
        rows, cols = window.slices
        found = by_window(spec, held, window)
        assert differing((found.pixels, found.mask), (pixels[:, rows, cols], mask[rows, cols])) == 0


def by_window(spec: WarpSpec, held: HeldPixels, window: Window) -> Warped:
    needed = source_window(spec, window)
    assert needed is not None
    return warp(spec, crop(held, needed), window)


# --- the oracle that is not GDAL ---------------------------------------------------------------


def reference_differences(
    spec: WarpSpec, held: HeldPixels, pixels: Array, mask: Array | None
) -> int:
    """Count values that differ from the reference where the reference can tell."""
    wrong = 0
    fill = spec.fill()
    for band in range(spec.bands):
        expected = reference_warp(spec, held, band)
        values, half = rounded(expected.values, spec)
        decided = ~expected.undecided
        found = pixels[band]
        if mask is not None:
            valid = mask > 0
        elif np.isnan(fill[band]):
            valid = ~np.isnan(found)
        else:
            valid = found != fill[band]
        invalid_value = spec.invalid()[band]
        if invalid_value is not None and mask is None:
            # A valid result that equals nodata is moved off it by one.
            half |= values == np.asarray(invalid_value).astype(spec.dtype)
        wrong += int((decided & (valid != expected.valid)).sum())
        both = decided & valid & expected.valid
        if spec.is_float:
            off = np.abs(found[both].astype(float) - expected.values[both])
            limit = 1e-6 * np.maximum(
                1.0, np.abs(held.pixels[band][np.isfinite(held.pixels[band])]).max()
            )
            wrong += int((off > limit).sum())
        else:
            off = np.abs(found[both].astype(int) - values[both].astype(int))
            wrong += int((off > half[both]).sum())
    return wrong


REFERENCE_KINDS = ["uint8x3", "uint8-nodata-0", "uint8-mask", "uint16x4", "int16", "float32-nodata"]


@pytest.mark.parametrize("kind", [*REFERENCE_KINDS, "float64-nan"])
@pytest.mark.parametrize("kernel", ["nearest", "bilinear"])
@pytest.mark.parametrize("place", ["utm-3857", "4326-3857"])
def test_pixels_equal_a_reference_in_numpy_and_pyproj(place: str, kind: str, kernel: str) -> None:
    spec = make_spec(place, KINDS[kind], kernel)
    # The reference knows no scaled kernel; where one is due the scale is close to 1.
    spec = spec.model_copy(update={"xscale": 1.0, "yscale": 1.0})
    held = make_held(spec)
    pixels, mask = by_windows(spec, held, odd_windows(spec))
    assert valid_share(spec, (pixels, mask)) > 0.3
    assert reference_differences(spec, held, pixels, mask) == 0


# --- tests of these tests ----------------------------------------------------------------------


def half_a_pixel_off(spec: WarpSpec) -> WarpSpec:
    x0, dx, rx, y0, ry, dy = spec.source.transform
    moved = (x0 + dx / 2, dx, rx, y0 + dy / 2, ry, dy)
    return spec.model_copy(update={"source": spec.source.model_copy(update={"transform": moved})})


@pytest.mark.parametrize("kernel", ["nearest", "bilinear"])
def test_half_a_pixel_of_shift_is_seen_by_both_oracles(kernel: str) -> None:
    spec = make_spec("utm-3857", KINDS["uint8x3"], kernel)
    held = make_held(spec)
    shifted = half_a_pixel_off(spec)
    pixels, mask = by_windows(shifted, held, odd_windows(spec))
    assert differing((pixels, mask), whole_image(spec, held)) > 1000
    assert reference_differences(spec, held, pixels, mask) > 1000


def test_a_geotransform_of_each_window_is_seen() -> None:
    spec = make_spec("utm-3857", KINDS["float64-nan"], "bilinear")
    held = make_held(spec)
    pixels = np.zeros((1, spec.target.height, spec.target.width))
    for window in odd_windows(spec):
        local = spec.model_copy(update={"target": spec.target.window_grid(window)})
        rows, cols = window.slices
        pixels[:, rows, cols] = warp(local, held, local.target.window).pixels
    assert differing((pixels, None), whole_image(spec, held)) > 100


def test_scales_of_each_window_are_seen() -> None:
    spec = make_spec("4326-3857", KINDS["uint8x3"], "bilinear", scale=2.7)
    held = make_held(spec)
    other = spec.model_copy(update={"xscale": spec.xscale * 0.98})
    assert differing(by_windows(other, held, odd_windows(spec, 43)), whole_image(spec, held)) > 100


# --- the held window ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8x3", "uint8-mask", "uint8-alpha", "float32-nodata"])
def test_a_held_window_that_is_too_small_fails_and_never_reads_as_nodata(kind: str) -> None:
    spec = make_spec("utm-3857", KINDS[kind], "bilinear")
    held = make_held(spec)
    window = Window(col_off=64, row_off=128, width=128, height=128)
    needed = source_window(spec, window)
    assert needed is not None
    for smaller in (
        Window.spanning(needed.col_off + 40, needed.row_off, needed.col_stop, needed.row_stop),
        Window.spanning(needed.col_off, needed.row_off, needed.col_stop, needed.row_stop - 40),
    ):
        assert smaller is not None
        with pytest.raises(SourceWindowTooSmall):
            warp(spec, crop(held, smaller), window)


def test_what_is_held_too_much_changes_nothing() -> None:
    spec = make_spec("utm-3857", KINDS["uint8-mask"], "cubic")
    held = make_held(spec)
    window = Window(col_off=100, row_off=128, width=128, height=100)
    narrow = by_window(spec, held, window)
    wide = warp(spec, held, window)
    assert differing((narrow.pixels, narrow.mask), (wide.pixels, wide.mask)) == 0


def test_a_window_beyond_the_source_needs_none_and_is_invalid() -> None:
    spec = make_spec("utm-rotated", KINDS["uint8-mask"], "cubic")
    corner = Window(col_off=0, row_off=0, width=30, height=30)
    assert source_window(spec, corner) is None
    warped = warp(spec, None, corner)
    assert warped.mask is not None
    assert not warped.mask.any()


@pytest.mark.parametrize("kind", ["float32-nodata", "float32-nan", "float32-mask"])
def test_nan_spreads_to_no_neighbour(kind: str) -> None:
    spec = make_spec("utm-3857", KINDS[kind], "nearest")
    held = make_held(spec)
    for kernel in ("bilinear", "cubic"):
        smooth = spec.model_copy(update={"resampling": kernel})
        (near, near_mask), (far, far_mask) = (
            by_windows(each, held, odd_windows(spec)) for each in (spec, smooth)
        )
        if near_mask is not None and far_mask is not None:
            assert not np.isnan(far[:, far_mask > 0]).any()
            assert (far_mask >= near_mask).mean() > 0.999
        else:
            fill = spec.fill()[0]
            lost = far[0] == fill if not np.isnan(fill) else np.isnan(far[0])
            was = near[0] == fill if not np.isnan(fill) else np.isnan(near[0])
            assert (lost & ~was).mean() < 0.001


def test_only_nan_of_what_is_held_is_written_over() -> None:
    spec = make_spec("utm-3857", KINDS["float32-nodata"], "nearest")
    held = make_held(spec)
    before = held.pixels.copy()
    warp(spec, held, Window(col_off=50, row_off=50, width=10, height=10))
    assert np.array_equal(held.pixels, np.where(np.isnan(before), np.float32(-9999), before))


@pytest.mark.parametrize("kernel", ["bilinear", "cubic", "average"])
def test_a_mask_stays_a_matter_of_yes_or_no(kernel: str) -> None:
    spec = make_spec("utm-3857", KINDS["uint8-mask"], kernel)
    held = make_held(spec)
    assert held.mask is not None
    held.pixels[:] = 200
    held.pixels[:, held.mask == 0] = 7
    warped = warp(spec, held, spec.target.window)
    assert warped.mask is not None
    assert set(np.unique(warped.mask)) == {0, 255}
    assert set(np.unique(warped.pixels[:, warped.mask > 0])) == {200}
    assert set(np.unique(warped.pixels[:, warped.mask == 0])) == {0}


@pytest.mark.parametrize(("kind", "largest"), [("uint8-alpha", 255), ("uint16-alpha", 65535)])
def test_an_alpha_band_keeps_its_values(kind: str, largest: int) -> None:
    spec = make_spec("utm-3857", KINDS[kind], "nearest")
    warped = warp(spec, make_held(spec), spec.target.window)
    assert set(np.unique(warped.pixels[-1])) == {0, largest // 3, largest}


def test_a_valid_result_never_becomes_nodata() -> None:
    spec = make_spec("utm-3857", KINDS["uint8-nodata-0"], "bilinear")
    held = make_held(spec)
    held.pixels[:] = np.where(np.indices(held.pixels.shape).sum(axis=0) % 2, 1, 2)
    warped = warp(spec, held, Window(col_off=150, row_off=150, width=60, height=60))
    assert warped.pixels.min() >= 1


# --- what it refuses, and what it takes --------------------------------------------------------


def test_sum_is_refused_with_what_to_use() -> None:
    with pytest.raises(Refused, match="average"):
        make_spec("utm-3857", KINDS["int16"], "sum")


def test_two_systems_without_an_operation_are_an_error() -> None:
    spec = make_spec("utm-3857", KINDS["int16"], "nearest")
    with pytest.raises(ValueError, match="one operation"):
        WarpSpec(**{**spec.model_dump(), "coordinate_operation": None})


def test_a_spec_comes_back_from_json_to_the_last_bit() -> None:
    kind = KINDS["float32-nan"]
    spec = make_spec("utm-rotated", kind, "cubic", scale=1.3)
    spec = spec.model_copy(update={"target_nodata": (float("nan"), -1.1)})
    again = WarpSpec.model_validate_json(spec.model_dump_json())
    assert repr(again) == repr(spec)


def test_source_windows_are_tight() -> None:
    spec = make_spec("utm-3857", KINDS["uint8x3"], "bilinear")
    window = Window(col_off=128, row_off=128, width=128, height=128)
    needed = source_window(spec, window)
    assert needed is not None
    ticks = np.linspace(128, 256, 50)
    cols, rows = footprints.source_positions(spec, *np.meshgrid(ticks, ticks))
    spare = needed.width - np.ptp(cols), needed.height - np.ptp(rows)
    assert max(spare) <= 2 * 7


def test_memory_grows_with_the_region_and_not_with_the_window() -> None:
    spec = make_spec("utm-3857", KINDS["uint8x3"], "bilinear")
    some = warp_buffer_bytes(spec, Window(col_off=64, row_off=64, width=64, height=64))
    more = warp_buffer_bytes(spec, Window(col_off=64, row_off=64, width=256, height=256))
    assert some < more < 16 << 20


def test_gdal_reads_the_window_that_rasterio_is_asked_for() -> None:
    spec = make_spec("utm-3857", KINDS["int16"], "nearest")
    held = make_held(spec)
    with rasterio.open(warped_xml(spec, frame_xml(spec, held), 3, 1)) as dataset:
        part = dataset.read(1, window=RasterioWindow(100, 120, 50, 40))
    expected = whole_image(spec, held)[0][0, 120:160, 100:150]
    assert np.array_equal(part, expected)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize(("own", "taken"), [(9, 7), (6, 7), (None, 7), (9, 0)])
def test_a_valid_pixel_is_never_taken_for_the_one_nodata_of_all_bands(
    own: int | None, taken: int, kernel: str
) -> None:
    source = Grid(crs="EPSG:32633", transform=(5e5, 10, 0, 5e6, 0, -10), width=20, height=20)
    target = source.model_copy(update={"transform": (5e5 - 25, 10.3, 0, 5e6 + 22, 0, -10.3)})
    spec = WarpSpec(
        source=source,
        target=target,
        resampling=kernel,
        dtype="uint8",
        bands=1,
        source_nodata=(own,),
        target_nodata=(taken,),
    )
    pixels = np.full((1, 20, 20), taken, np.uint8)
    warped = warp(spec, HeldPixels(window=source.window, pixels=pixels, mask=None), target.window)
    rows, cols = np.mgrid[0.5:20, 0.5:20]
    at = source.place_arrays(*target.position_arrays(cols, rows))
    inside = np.logical_and.reduce([(each > 0.5) & (each < 19.5) for each in at])
    assert (np.abs(warped.pixels[0][inside].astype(int) - taken) == 1).all()
    outside = np.logical_or.reduce([(each < -0.5) | (each > 20.5) for each in at])
    assert (warped.pixels[0][outside] == taken).all()
