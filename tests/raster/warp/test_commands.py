"""The same pixels by Debian's gdalwarp, which has another GDAL and another PROJ."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.harness.reference import KINDS, make_held, make_spec

from cogmill.raster.gdal import environment
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.commands import RESULT, gdalwarp_commands
from cogmill.raster.warp.exact_warp import mark_nan, warp
from cogmill.raster.warp.warp_spec import WarpSpec

pytestmark = pytest.mark.external("gdalwarp", "gdal_translate")


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


def write(path: Path, spec: WarpSpec, held: HeldPixels) -> None:
    profile = {
        "driver": "GTiff",
        "count": len(held.pixels),
        "dtype": spec.dtype,
        "crs": spec.source.crs,
        "transform": spec.source.affine,
        "width": spec.source.width,
        "height": spec.source.height,
        # Of a grey file the first extra band would be the alpha band.
        "photometric": "RGB" if spec.source_alpha else "MINISBLACK",
    }
    if spec.source_alpha:
        profile["ALPHA"] = "YES"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile) as file,
    ):
        file.write(held.pixels)
        if held.mask is not None:
            file.write_mask(held.mask)


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize(
    "kind",
    [
        "uint8x3",
        "uint8-nodata-0",
        "uint8-mask",
        "uint8-alpha",
        "uint16x4",
        "int16",
        "float32-nodata",
    ],
)
def test_gdalwarp_gives_the_same_pixels(tmp_path: Path, kind: str, kernel: str) -> None:
    spec = make_spec("utm-3857", KINDS[kind], kernel)
    held = mark_nan(spec, make_held(spec))
    write(tmp_path / "in.tif", spec, held)
    for command in gdalwarp_commands(spec, "in.tif"):
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    with rasterio.open(tmp_path / RESULT) as file:
        assert file.transform.to_gdal() == spec.target.transform
        theirs = file.read()
    warped = warp(spec, held, spec.target.window)
    ours = warped.pixels
    if warped.mask is not None:
        assert np.array_equal(theirs[-1] > 0, warped.mask > 0)
        theirs = theirs[:-1]
    off = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    # Two builds of PROJ differ in last bits: rounding, or the nearest pixel, may go either way.
    different = int((off > (1e-6 * np.abs(ours).max() if spec.is_float else 0)).sum())
    print(f"{kind}, {kernel}: {different} of {off.size} values differ, by {off.max():g} at most")
    assert different <= off.size * 1e-5


@pytest.mark.parametrize("kind", ["uint8-mask", "uint8-alpha"])
def test_nodata_of_the_file_that_the_plan_overrules_is_overruled_there_too(
    tmp_path: Path, kind: str
) -> None:
    spec = make_spec("utm-3857", KINDS[kind], "nearest")
    held = make_held(spec)
    write(tmp_path / "in.tif", spec, held)
    value = int(np.bincount(held.pixels[0].ravel()).argmax())
    with rasterio.open(tmp_path / "in.tif", "r+") as file:
        file.nodata = value
    for command in gdalwarp_commands(spec, "in.tif"):
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    with rasterio.open(tmp_path / RESULT) as file:
        theirs = file.read(1)
    ours = warp(spec, held, spec.target.window).pixels[0]
    assert np.count_nonzero(ours != theirs) <= 1e-4 * ours.size
