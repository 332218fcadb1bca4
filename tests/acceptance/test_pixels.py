"""Every pixel and place of the mask, against GDAL over the whole image, NumPy, and gdalwarp."""

from __future__ import annotations

import hashlib
import subprocess
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.harness import matrix, oracle, sources
from tests.harness.command import Typed
from tests.harness.figure import Figure
from tests.harness.matrix import Made, Shelf
from tests.harness.once import once
from tests.harness.picture import Picture, both_nan, differing, result
from tests.harness.reference import reference_warp, rounded

from cogmill.raster.geometry.grid import Grid
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.warp_spec import WarpSpec

#: Width and height; one output tile.
REFERENCE_SIZE = (411, 397)
#: Of gdalwarp's own kernels, those that agree between GDAL's versions (issue 2).
SAME_KERNELS = ("nearest", "bilinear", "cubic")

PLANTS = {
    "half a pixel": """
def warp(spec, held, window):
    x0, dx, rx, y0, ry, dy = spec.target.transform
    moved = spec.target.model_copy(update={"transform": (x0 + dx / 2, dx, rx, y0, ry, dy)})
    return exact(spec.model_copy(update={"target": moved}), held, window)
""",
    "tile-local geotransform": """
def warp(spec, held, window):
    local = spec.model_copy(update={"target": spec.target.window_grid(window)})
    here = exact(local, held, window.shift(-window.col_off, -window.row_off))
    return module.Warped(window, here.pixels, here.mask)
""",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = ("layout", "kernel", "way", "kind")
    if set(names) <= set(metafunc.fixturenames):
        rows = matrix.rows(metafunc.config.getoption("--full"))
        metafunc.parametrize(names, rows, ids=[", ".join(row) for row in rows])
    elif {"layout", "same_kernel"} <= set(metafunc.fixturenames):
        cut = list(product(sources.LAYOUTS, SAME_KERNELS))
        if not metafunc.config.getoption("--full"):
            cut = list(zip(sources.LAYOUTS, cycle(SAME_KERNELS), strict=False))
        metafunc.parametrize(("layout", "same_kernel"), cut, ids=map("-".join, cut))


def expected(source: Path, plan: dict[str, Any]) -> Picture:
    """Return what must come of a source, computed once for all ways that lead there."""
    asked = str((source, *(plan[part] for part in ("target_grid", "warp", "validity"))))
    name = f"expected {hashlib.sha256(asked.encode()).hexdigest()}"
    folder = once(name, lambda folder: oracle.whole(source, plan, folder).save(folder))
    return Picture.load(folder)


def test_mosaic_and_one_cog_equal_a_whole_image_exact_warp_by_the_same_gdal(
    layout: str,
    kernel: str,
    way: str,
    kind: str,
    shelf: Shelf,
    figure: Figure,
) -> None:
    made = shelf.made(layout, kernel, way, kind)
    figure.command, figure.seed = made.text, sources.SEED
    assert made.plan["strategy"] == way
    assert made.plan["tiles"]["output"] >= 9
    found = result(made.destination, made.plan["target_grid"])
    count = differing(found, expected(shelf.source(layout), made.plan))
    figure.measured(count, 0)
    assert count == 0
    _is_no_desert(found)


def _is_no_desert(found: Picture) -> None:
    """Fail where equality would prove nothing: hardly any pixel, or none that is invalid."""
    values = found.pixels[0][~both_nan(found.pixels, found.pixels)[0]]
    assert len(np.unique(values)) > 50
    if found.mask is not None:
        assert 0.5 < (found.mask > 0).mean() < 1


@pytest.mark.parametrize("defect", PLANTS)
def test_a_planted_defect_makes_the_comparison_fail(
    defect: str, typed: Typed, shelf: Shelf, tmp_path: Path, figure: Figure
) -> None:
    # Into the running program itself: every process of the command loads it.
    (tmp_path / "sitecustomize.py").write_text(
        f"import cogmill.raster.warp.exact_warp as module\nexact = module.warp\n{PLANTS[defect]}\n"
        "module.warp = warp\n"
    )
    layout, kernel = "tiled float32 with nodata", "bilinear"
    destination = f"{tmp_path}/planted/"
    options = ("--dst-crs", "EPSG:3857", "--resampling", kernel, "--workers", 1)
    source = shelf.source(layout)
    ran = typed.run(source, destination, *sources.SMALL, *options, plant=tmp_path)
    found = result(destination, ran.plan["target_grid"])
    count = differing(found, expected(source, ran.plan))
    figure.command, figure.seed = ran.text, sources.SEED
    figure.measured(count, "more than 0")
    assert count > 0


@pytest.mark.parametrize("kernel", ["nearest", "bilinear"])
@pytest.mark.parametrize("layout", list(sources.LAYOUTS))
def test_a_numpy_and_pyproj_reference_gives_the_same_at_about_400_x_400(
    layout: str, kernel: str, tmp_path: Path, figure: Figure
) -> None:
    raster = sources.Raster(sources.LAYOUTS[layout]).sized(*REFERENCE_SIZE)
    source = sources.make(tmp_path / "source.tif", raster)
    made = matrix.make(source, f"{tmp_path}/one.tif", dst_crs="EPSG:3857", resampling=kernel)
    spec, held = _asked(source, made.plan)
    found = result(made.destination, made.plan["target_grid"])
    wrong = undecided = 0
    for band, pixels in enumerate(found.pixels):
        reference = reference_warp(spec, held, band)
        values, half = rounded(reference.values, spec)
        valid = _valid(found, band, spec)
        sure = ~reference.undecided
        wrong += int((valid != reference.valid)[sure].sum())
        both = valid & reference.valid & sure & ~half
        if spec.is_float:
            # GDAL weighs in double precision, in another order.
            gap = np.abs(pixels.astype(float) - values) > 1e-6 * np.maximum(np.abs(values), 1)
        else:
            gap = pixels != values
        wrong += int(gap[both].sum())
        undecided += int((~sure | half).sum())
    figure.command, figure.seed = made.text, sources.SEED
    figure.measured(f"{wrong} differ, {undecided} at a decision's boundary", 0)
    assert wrong == 0
    # Of 16-bit values, one in twenty lies so near a half that either way would be right.
    assert undecided < 0.1 * found.pixels.size


def _asked(source: Path, plan: dict[str, Any]) -> tuple[WarpSpec, HeldPixels]:
    """Return what the reference takes: the job's grids and the whole source."""
    grid, validity = plan["target_grid"], plan["validity"]
    with rasterio.open(source) as dataset:
        pixels = dataset.read()
        from_grid = Grid(
            crs=dataset.crs.to_wkt(),
            transform=dataset.transform.to_gdal(),
            width=dataset.width,
            height=dataset.height,
        )
    spec = WarpSpec(
        source=from_grid,
        target=Grid.model_validate(grid),
        resampling=plan["warp"]["resampling"],
        coordinate_operation=plan["warp"]["coordinate_operation"],
        dtype=pixels.dtype.name,
        bands=len(pixels),
        source_nodata=validity["source_nodata"],
        target_nodata=validity["target_nodata"],
        target_mask=validity["target_mask"],
    )
    return spec, HeldPixels(window=from_grid.window, pixels=pixels, mask=None)


def _valid(found: Picture, band: int, spec: WarpSpec) -> Any:
    if found.mask is not None:
        return found.mask > 0
    assert spec.target_nodata is not None
    return found.pixels[band] != spec.target_nodata[band]


@pytest.mark.external("gdalwarp", "gdal_translate")
def test_the_commands_of_the_plan_give_the_same_pixels(
    layout: str, same_kernel: str, shelf: Shelf, tmp_path: Path, figure: Figure
) -> None:
    options: dict[str, Any] = {"dst_crs": "EPSG:3857", "resampling": same_kernel}
    made = matrix.make(shelf.source(layout), f"{tmp_path}/one.tif", **options)
    theirs = gdalwarp(made, tmp_path)
    found = result(made.destination, made.plan["target_grid"])
    figure.command, figure.seed = " && ".join(made.plan["gdalwarp"]), sources.SEED
    different, worst, flips = apart(found, theirs)
    figure.measured(f"{different} differ, by up to {worst:g}; {flips} valid or not", "1, 1e-6")
    assert flips == 0
    limit = 1 if found.pixels.dtype.kind in "iu" else 1e-6
    assert worst <= limit


def gdalwarp(job: Made, folder: Path) -> Picture:
    """Type the plan's commands into a shell and return what they made."""
    for command in job.plan["gdalwarp"]:
        subprocess.run(
            ["sh", "-c", command], cwd=folder, check=True, capture_output=True, timeout=100
        )
    (made,) = (path for path in folder.glob("*.tif") if path.name != "one.tif")
    with rasterio.open(made) as dataset:
        if dataset.count == len(job.plan["structure"]["nodata"]):
            return Picture(dataset.read(), None)
        # One more band says which pixels are valid.
        *bands, valid = dataset.read()
        return Picture(np.stack(bands), np.where(valid > 0, 255, 0).astype(np.uint8))


def apart(found: Picture, other: Picture) -> tuple[int, float, int]:
    """Return how many values differ, the largest difference, and how often only one is valid.

    Differences of floats are relative.
    """
    one, two = found.pixels, other.pixels
    assert one.shape == two.shape
    flips = int((np.isnan(one) != np.isnan(two)).sum()) if one.dtype.kind == "f" else 0
    if found.mask is not None:
        assert other.mask is not None
        flips += int(((found.mask > 0) != (other.mask > 0)).sum())
    different = (one != two) & ~both_nan(one, two)
    gap = np.abs(one[different].astype(float) - two[different].astype(float))
    if one.dtype.kind == "f":
        gap = gap / np.maximum(np.abs(one[different]), 1e-30)
    return int(different.sum()), float(np.nanmax(gap)) if gap.size else 0.0, flips
