"""Inputs that nobody tried while the engine was written, reprojected, against the same oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio
from tests.harness import matrix, oracle, sources
from tests.harness.figure import Figure
from tests.harness.picture import differing, result

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
    name: str, kind: str, tmp_path: Path, figure: Figure
) -> None:
    source = sources.make_awkward(tmp_path / "source.tif", name)
    job = matrix.make(source, matrix.destination(tmp_path, kind), dst_crs="EPSG:3857")
    figure.command, figure.seed = job.text, sources.SEED
    found = result(job.destination, job.plan["target_grid"])
    count = differing(found, oracle.whole(source, job.plan, tmp_path))
    figure.measured(count, 0)
    assert count == 0
    made = Path(job.destination)
    if kind == "mosaic":
        made = next(made.glob("*.tif"))
    with rasterio.open(source) as one, rasterio.open(made) as two:
        assert tuple(each.name for each in two.colorinterp) == KEPT[name]
        if name == "palette":
            assert two.colormap(1) == one.colormap(1)
            assert job.plan["warp"]["resampling"] == "nearest"


@pytest.mark.external
@pytest.mark.parametrize("name", CORPUS)
def test_a_real_file_equals_a_whole_image_exact_warp(
    name: str, corpus: Path, tmp_path: Path, figure: Figure
) -> None:
    job = matrix.make(corpus / name, f"{tmp_path}/one.tif", dst_crs="EPSG:3857")
    figure.command = job.text
    found = result(job.destination, job.plan["target_grid"])
    count = differing(found, oracle.whole(corpus / name, job.plan, tmp_path))
    figure.measured(count, 0)
    assert count == 0
