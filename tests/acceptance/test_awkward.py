"""Inputs that nobody tried while the engine was written, reprojected, against the same oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio
from tests.harness import matrix, oracle, sources
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.picture import differing, result

OPTIONS = (*sources.SMALL, "--dst-crs", "EPSG:3857")
#: What each must still be after the warp.
KEPT = {
    "rgb with alpha": ("red", "green", "blue", "alpha"),
    "internal mask": ("red", "green", "blue"),
    "palette": ("palette",),
}
CORPUS = (
    "RGB.byte.tif",
    "RGBA.byte.tif",
    "RGBA.uint16.tif",
    "image_colormap.tif",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"name", "kind"} <= set(metafunc.fixturenames):
        rows = matrix.both_kinds(tuple(sources.AWKWARD), metafunc.config.getoption("--full"))
        metafunc.parametrize(("name", "kind"), rows, ids=[", ".join(row) for row in rows])


def test_alpha_mask_and_palette_equal_a_whole_image_exact_warp(
    name: str, kind: str, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    source = sources.make_awkward(tmp_path / "source.tif", name)
    destination = f"{tmp_path}/mosaic/" if kind == "mosaic" else f"{tmp_path}/one.tif"
    ran = mill.run(source, destination, *OPTIONS)
    figure.command, figure.seed = ran.text, sources.SEED
    found = result(destination, ran.plan["target_grid"])
    count = differing(found, oracle.whole(source, ran.plan, tmp_path))
    figure.measured(count, 0)
    assert count == 0
    made = next((tmp_path / "mosaic").glob("*.tif")) if kind == "mosaic" else Path(destination)
    with rasterio.open(source) as one, rasterio.open(made) as two:
        assert tuple(each.name for each in two.colorinterp) == KEPT[name]
        if name == "palette":
            assert two.colormap(1) == one.colormap(1)
            assert ran.plan["warp"]["resampling"] == "nearest"


@pytest.mark.external
@pytest.mark.parametrize("name", CORPUS)
def test_a_real_file_equals_a_whole_image_exact_warp(
    name: str, mill: Mill, corpus: Path, tmp_path: Path, figure: Figure
) -> None:
    destination = f"{tmp_path}/one.tif"
    ran = mill.run(corpus / name, destination, *OPTIONS)
    figure.command = ran.text
    found = result(destination, ran.plan["target_grid"])
    count = differing(found, oracle.whole(corpus / name, ran.plan, tmp_path))
    figure.measured(count, 0)
    assert count == 0
