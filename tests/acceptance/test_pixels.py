"""Every pixel and place of the mask, against GDAL over the whole image, NumPy, and gdalwarp."""

from __future__ import annotations

import subprocess
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.acceptance import oracle, rasters
from tests.acceptance.conftest import Figure
from tests.acceptance.running import Mill, Picture, Ran, both_nan, differing, pairwise, result

KERNELS = ("nearest", "bilinear", "cubic", "average")
WAYS = ("direct", "two-stage")
KINDS = ("mosaic", "one COG")
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
    axes = (tuple(rasters.LAYOUTS), KERNELS, WAYS, KINDS)
    names = ("layout", "kernel", "way", "kind")
    if set(names) <= set(metafunc.fixturenames):
        full = metafunc.config.getoption("--full")
        rows = list(product(*axes)) if full else pairwise(*axes)
        metafunc.parametrize(names, rows, ids=[", ".join(row) for row in rows])


class Bench:
    """Sources and what must come of them, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = cache(self._source)
        self.expected = cache(self._expected)

    def _source(self, layout: str) -> Path:
        raster = rasters.Raster(rasters.LAYOUTS[layout])
        return rasters.make(self.folder / f"{layout.replace(' ', '-')}.tif", raster)

    def _expected(self, layout: str, kernel: str, plan: _Plan) -> Picture:
        return oracle.whole(self.source(layout), plan.values, self.folder)


class _Plan:
    """A plan that stands for its target: two that lead to the same pixels are the same."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self._key = str([values[part] for part in ("target_grid", "warp", "validity")])

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Plan) and other._key == self._key


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("pixels"))


def _destination(folder: Path, kind: str) -> str:
    return f"{folder}/mosaic/" if kind == "mosaic" else f"{folder}/one.tif"


def _options(kernel: str, way: str = "auto") -> tuple[str, ...]:
    return (*rasters.SMALL, "--dst-crs", "EPSG:3857", "--resampling", kernel, "--strategy", way)


def test_mosaic_and_one_cog_equal_a_whole_image_exact_warp_by_the_same_gdal(
    layout: str,
    kernel: str,
    way: str,
    kind: str,
    mill: Mill,
    bench: Bench,
    tmp_path: Path,
    figure: Figure,
) -> None:
    destination = _destination(tmp_path, kind)
    ran = mill.run(bench.source(layout), destination, *_options(kernel, way))
    figure.command, figure.seed = ran.text, rasters.SEED
    plan = ran.plan
    assert plan["strategy"] == way
    assert plan["tiles"]["output"] >= 9
    found = result(destination, plan["target_grid"])
    expected = bench.expected(layout, kernel, _Plan(plan))
    count = differing(found, expected)
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
    defect: str, mill: Mill, bench: Bench, tmp_path: Path, figure: Figure
) -> None:
    # Into the running program itself: every process of the command loads it.
    (tmp_path / "sitecustomize.py").write_text(
        f"import cogmill.raster.warp as module\nexact = module.warp\n{PLANTS[defect]}\n"
        "module.warp = warp\n"
    )
    layout, kernel = "tiled float32 with nodata", "bilinear"
    destination = f"{tmp_path}/planted/"
    ran = mill.run(bench.source(layout), destination, *_options(kernel), plant=tmp_path)
    expected = bench.expected(layout, kernel, _Plan(ran.plan))
    count = differing(result(destination, ran.plan["target_grid"]), expected)
    figure.command, figure.seed = ran.text, rasters.SEED
    figure.measured(count, "more than 0")
    assert count > 0


@pytest.mark.external("gdalwarp", "gdal_create")
@pytest.mark.parametrize("kernel", SAME_KERNELS)
@pytest.mark.parametrize("layout", list(rasters.LAYOUTS))
def test_the_commands_of_the_plan_give_the_same_pixels(
    layout: str, kernel: str, mill: Mill, bench: Bench, tmp_path: Path, figure: Figure
) -> None:
    destination = f"{tmp_path}/one.tif"
    ran = mill.run(bench.source(layout), destination, *_options(kernel))
    theirs = gdalwarp(ran, tmp_path)
    found = result(destination, ran.plan["target_grid"])
    figure.command, figure.seed = " && ".join(ran.plan["gdalwarp"]), rasters.SEED
    different, worst, flips = apart(found, theirs)
    figure.measured(f"{different} differ, by up to {worst:g}; {flips} valid or not", "1, 1e-6")
    assert flips == 0
    limit = 1 if found.pixels.dtype.kind in "iu" else 1e-6
    assert worst <= limit


def gdalwarp(ran: Ran, folder: Path) -> Picture:
    """Type the plan's commands into a shell and return what they made."""
    for command in ran.plan["gdalwarp"]:
        subprocess.run(
            ["sh", "-c", command], cwd=folder, check=True, capture_output=True, timeout=100
        )
    (made,) = (path for path in folder.glob("*.tif") if path.name != "one.tif")
    with rasterio.open(made) as dataset:
        flags = dataset.mask_flag_enums[0]
        masked = rasterio.enums.MaskFlags.nodata not in flags
        bands = [
            index + 1
            for index, each in enumerate(dataset.colorinterp)
            if each != rasterio.enums.ColorInterp.alpha
        ]
        return Picture(dataset.read(bands), dataset.dataset_mask() if masked else None)


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
