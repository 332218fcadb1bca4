"""Targets coarser than the source: every kernel widened, against NumPy and against itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.harness.reference import KINDS, make_held, make_spec
from tests.harness.synthetic import layout, structure
from tests.harness.warping import by_windows, differing, odd_windows, whole_image

from cogmill.errors import Refused
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.crs import crs_text
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.options.plan_options import RESAMPLING, PlanOptions
from cogmill.raster.plan.planning import make_plan
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.warp.exact_warp import warp
from cogmill.raster.warp.footprint import source_positions
from cogmill.raster.warp.scales import kernel_scales
from cogmill.raster.warp.warp_spec import KERNELS, WarpSpec

SMOOTH = ("bilinear", "cubic", "cubic_spline", "lanczos")


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


def coarser(factor: int, size: tuple[int, int], kernel: str, dtype: str = "float64") -> WarpSpec:
    """Return the warp to pixels `factor` times as large, on the same corner."""
    crs = crs_text("EPSG:32633")
    width, height = size
    source = Grid(crs=crs, transform=(3e5, 10.0, 0.0, 5e6, 0.0, -10.0), width=width, height=height)
    pixel = 10.0 * factor
    target = Grid(
        crs=crs,
        transform=(3e5, pixel, 0.0, 5e6, 0.0, -pixel),
        width=width // factor,
        height=height // factor,
    )
    spec = WarpSpec(source=source, target=target, resampling=kernel, dtype=dtype, bands=1)
    scales = kernel_scales(spec)
    return spec.model_copy(update={"xscale": scales.xscale, "yscale": scales.yscale})


def held_of(spec: WarpSpec, pixels: npt.NDArray[Any]) -> HeldPixels:
    return HeldPixels(
        window=spec.source.window,
        pixels=np.ascontiguousarray(pixels[np.newaxis].astype(spec.dtype)),
        mask=None,
    )


@pytest.mark.parametrize("kind", ["float32-nodata", "uint8-mask"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_each_kernel_gives_the_pixels_of_the_whole_image_at_two_sizes_of_work_tile(
    kernel: str, kind: str
) -> None:
    spec = make_spec("utm-3857", KINDS[kind], kernel, scale=4.3)
    assert max(spec.xscale, spec.yscale) < 0.3
    held = make_held(spec)
    expected = whole_image(spec, held)
    for side in (37, 53):
        assert differing(by_windows(spec, held, odd_windows(spec, side)), expected) == 0


def test_the_kernels_that_are_offered_are_those_that_are_computed() -> None:
    assert {*RESAMPLING} == {*KERNELS}
    assert len(KERNELS) == 13


def quantile(block: npt.NDArray[np.float64], part: float) -> float:
    """Return GDAL's quantile: of the sorted values the one at that part, without mixing two."""
    ordered = np.sort(block.ravel())
    return float(ordered[int(np.ceil(part * len(ordered))) - 1])


#: From the pixels that a target pixel covers, all of them whole.
OF_A_BLOCK: dict[str, Callable[[npt.NDArray[np.float64]], Any]] = {
    "average": np.mean,
    "rms": lambda block: np.sqrt(np.mean(block**2)),
    "min": np.min,
    "max": np.max,
    "med": lambda block: quantile(block, 0.5),
    "q1": lambda block: quantile(block, 0.25),
    "q3": lambda block: quantile(block, 0.75),
    "mode": lambda block: np.bincount(block.ravel().astype(int)).argmax(),
}


@pytest.mark.parametrize("factor", [4, 33])
@pytest.mark.parametrize("kernel", OF_A_BLOCK)
def test_a_kernel_of_the_pixels_covered_equals_numpy(kernel: str, factor: int) -> None:
    spec = coarser(factor, (factor * 5, factor * 4), kernel)
    rng = np.random.default_rng(factor)
    shape = spec.source.height, spec.source.width
    pixels = rng.integers(0, 9, shape) if kernel == "mode" else rng.permutation(shape[0] * shape[1])
    pixels = pixels.reshape(shape).astype(np.float64)
    if kernel == "mode":  # One value that wins in every block.
        pixels[::2] = 3
    found = warp(spec, held_of(spec, pixels), spec.target.window).pixels[0]
    blocks = pixels.reshape(4, factor, 5, factor).swapaxes(1, 2)
    expected = np.array([[OF_A_BLOCK[kernel](block) for block in row] for row in blocks])
    assert np.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("factor", [4, 16, 100])
@pytest.mark.parametrize("kernel", SMOOTH)
def test_what_is_finer_than_the_target_is_averaged_and_never_aliased(
    kernel: str, factor: int
) -> None:
    spec = coarser(factor, (factor * 11, factor * 9), kernel)
    assert spec.xscale == pytest.approx(1 / factor)
    assert spec.reach >= factor
    rows, cols = np.indices((spec.source.height, spec.source.width))
    stripes = ((rows + cols) % 3 == 0) * 300.0  # Its mean is 100.
    found = warp(spec, held_of(spec, stripes), spec.target.window).pixels[0]
    inner = found[3:-3, 3:-3]
    assert np.abs(inner - 100).max() < 2
    # The test of the test: a kernel of the source's own pixels sees stripes.
    narrow = spec.model_copy(update={"xscale": 1.0, "yscale": 1.0})
    aliased = warp(narrow, held_of(spec, stripes), spec.target.window).pixels[0]
    assert np.abs(aliased - 100).max() > 20


def planned(factor: float, **options: Any) -> RasterPlan:
    """Plan a target of about 600 x 500 pixels."""
    size = round(601 * factor), round(503 * factor)
    made = structure(layout(size, (256, 256), samples=1), transform=(4e5, 1.0, 0.0, 6e6, 0.0, -1.0))
    asked = {"resolution": (factor,) * 2, "blocksize": 64, "tile_size": 512, **options}
    return make_plan(made, PlanOptions.parse(asked), "coarser")


@pytest.mark.parametrize("factor", [4, 16, 100])
def test_the_source_window_grows_with_the_kernel_and_the_plan_stays_in_memory(
    factor: int,
) -> None:
    memory = 512 << 20
    found = planned(factor, resampling="lanczos", memory=memory)
    assert found.memory.total <= memory
    assert found.warp is not None
    assert found.warp.reach == 3 * factor


def test_a_source_window_that_does_not_fit_is_refused_with_the_memory_that_would_do() -> None:
    with pytest.raises(Refused, match="needs") as caught:
        planned(100, blocksize=512, tile_size=4096, resampling="bilinear", memory=1 << 30)
    assert "--memory" in caught.value.remedy


@pytest.mark.parametrize(("factor", "warned"), [(1.5, False), (4, True)])
def test_nearest_says_how_many_pixels_it_leaves_out(factor: float, warned: bool) -> None:
    found = planned(factor, resampling="nearest")
    assert any("one source pixel of 16" in warning for warning in found.warnings) == warned


def test_a_scale_that_varies_too_much_for_one_kernel_is_warned_of_with_figures() -> None:
    made = structure(
        layout((1000, 1900), (256, 256), samples=1), "EPSG:3857",
        transform=(0.0, 10000.0, 0.0, 19e6, 0.0, -10000.0),
    )  # fmt: skip
    found = make_plan(made, PlanOptions(dst_crs="EPSG:4326", resolution=(0.3, 0.3)), "uneven")
    assert found.scales is not None
    assert found.scales.uneven
    (said,) = [warning for warning in found.warnings if "sampled, not averaged" in warning]
    assert f"{found.scales.median:.3g}" in said
    assert f"{found.scales.minimum:.3g}" in said
    # The figure is the Jacobian's: at the place of the smallest scale a target pixel spans most.
    spec = found.warp
    assert spec is not None
    rows = np.linspace(0.5, spec.target.height - 0.5, 400)
    cols = np.full_like(rows, spec.target.width / 2)
    above, below = (source_positions(spec, cols, rows + step)[1] for step in (-0.5, 0.5))
    left, right = (source_positions(spec, cols + step, rows)[0] for step in (-0.5, 0.5))
    scale = 1 / np.sqrt(np.abs((below - above) * (right - left)))
    assert found.scales.minimum == pytest.approx(scale.min(), rel=0.05)


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({}, "bilinear"),
        ({"palette": ((0, 0, 0, 255), (9, 9, 9, 255))}, "nearest"),
        ({"categories": True}, "nearest"),
    ],
)
def test_the_kernel_is_chosen_by_the_data(changes: dict[str, Any], kernel: str) -> None:
    made = structure(layout((600, 500), (256, 256), samples=1), **changes)
    assert make_plan(made, PlanOptions(dst_crs="EPSG:3857"), "default").resampling == kernel


def test_complex_numbers_and_single_bits_are_never_mixed() -> None:
    image = layout((600, 500), (256, 256), samples=1, dtype="complex64")
    made = structure(image)
    assert make_plan(made, PlanOptions(dst_crs="EPSG:3857"), "complex").resampling == "nearest"
    bits = layout((600, 500), (256, 256), samples=1, bits=1)
    made = structure(bits)
    assert make_plan(made, PlanOptions(dst_crs="EPSG:3857"), "bits").resampling == "nearest"
