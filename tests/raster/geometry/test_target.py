"""Grids that a user asks for: aligned, like another raster's, on the tiles of a scheme."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import morecantile
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.synthetic import layout, structure

from cogmill.errors import Refused
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.crs import crs_text
from cogmill.raster.geometry.grid import GeoTransform, Grid
from cogmill.raster.geometry.target import reference_grid, target_grid
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.planning import make_plan

UTM: GeoTransform = (250000.3, 10.0, 0.0, 5300000.7, 0.0, -10.0)
SIZE = (611, 457)


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


def planned(reference: Grid | None = None, **options: Any) -> Grid:
    """Return the target grid of a made-up raster in UTM."""
    image = layout(SIZE, (256, 256), samples=1)
    made = structure(image, "EPSG:32633", transform=UTM)
    return make_plan(made, PlanOptions.parse(options), "grids", reference).target_grid


def write(path: Path, crs: str, transform: GeoTransform, size: tuple[int, int]) -> Path:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8"}
    affine = rasterio.Affine.from_gdal(*transform)
    with rasterio.open(
        path, "w", crs=crs, transform=affine, width=size[0], height=size[1], **profile
    ) as file:
        file.write(np.full((1, size[1], size[0]), 7, np.uint8))
    return path


# --- aligned -----------------------------------------------------------------------------------


@pytest.mark.external("gdalwarp")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resolution": (20.0, 23.0)}, ["-tr", "20", "23"]),
        ({"resolution": (0.7, 0.7)}, ["-tr", "0.7", "0.7"]),
        (
            {"resolution": (30.0, 30.0), "bounds": (1299990.0, 6070001.0, 1305001.0, 6074000.0)},
            ["-tr", "30", "30", "-te", "1299990", "6070001", "1305001", "6074000"],
        ),
    ],
)
def test_an_aligned_grid_is_that_of_gdalwarp_tap(
    tmp_path: Path, options: dict[str, Any], words: list[str]
) -> None:
    source = write(tmp_path / "in.tif", "EPSG:32633", UTM, SIZE)
    command = ["gdalwarp", "-q", "-of", "VRT", "-t_srs", "EPSG:3857", "-tap", *words]
    subprocess.run([*command, source, tmp_path / "out.vrt"], check=True)
    with rasterio.open(tmp_path / "out.vrt") as chosen:
        expected = chosen.transform.to_gdal(), chosen.width, chosen.height
    grid = planned(dst_crs="EPSG:3857", align=True, **options)
    assert grid.transform == pytest.approx(expected[0], rel=1e-12)
    assert (grid.width, grid.height) == expected[1:]


@given(
    left=st.floats(-1e6, 1e6),
    bottom=st.floats(-1e6, 1e6),
    width=st.floats(1, 1e4),
    size=st.floats(0.01, 1e3),
)
def test_an_aligned_grid_holds_its_bounds_and_grows_by_less_than_a_pixel_a_side(
    left: float, bottom: float, width: float, size: float
) -> None:
    bounds = left, bottom, left + width, bottom + width
    source = Grid(crs="EPSG:32633", transform=UTM, width=50, height=50)
    grid = target_grid(source, source.crs, None, (size, size), bounds, True)
    slack = 1e-6 * size
    grown = np.abs(np.subtract(grid.bounds, bounds))
    assert (grown < size + slack).all()
    assert grid.bounds[0] <= left + slack
    assert grid.bounds[1] <= bottom + slack
    assert grid.bounds[2] >= bounds[2] - slack
    assert grid.bounds[3] >= bounds[3] - slack
    multiples = np.array([grid.transform[0], grid.transform[3]]) / size
    assert np.abs(multiples - np.round(multiples)).max() < 1e-6


def test_to_align_a_grid_that_is_aligned_changes_nothing() -> None:
    bounds = (250000.0, 5296000.0, 256000.0, 5300000.0)
    once = planned(resolution=(20.0, 20.0), bounds=bounds, align=True)
    assert once == planned(resolution=(20.0, 20.0), bounds=once.bounds, align=True)
    assert once.bounds == bounds


# --- like --------------------------------------------------------------------------------------


def test_the_grid_of_a_reference_is_taken_to_the_last_bit(tmp_path: Path) -> None:
    transform = (1300000.1, 7.3, 0.0, 6074000.3, 0.0, -9.1)
    path = write(tmp_path / "ref.tif", "EPSG:3857", transform, (517, 391))
    like = reference_grid(str(path), "ref.tif")
    assert like == Grid(crs=crs_text("EPSG:3857"), transform=transform, width=517, height=391)
    assert planned(like, like=str(path)) == like


def test_a_reference_in_the_source_s_own_grid_means_a_copy(tmp_path: Path) -> None:
    path = write(tmp_path / "ref.tif", "EPSG:32633", UTM, SIZE)
    image = layout(SIZE, (256, 256), samples=1)
    made = structure(image, "EPSG:32633", transform=UTM)
    like = reference_grid(str(path), "ref.tif")
    assert make_plan(made, PlanOptions(like=str(path)), "grids", like).copies


def test_a_reference_elsewhere_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "ref.tif", "EPSG:3857", (0.0, 10.0, 0.0, 0.0, 0.0, -10.0), (99, 99))
    with pytest.raises(Refused, match=r"ref\.tif does not touch"):
        planned(reference_grid(str(path), "ref.tif"), like=str(path))


def test_what_is_no_reference_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("nothing")
    with pytest.raises(Refused, match="--like"):
        reference_grid(str(tmp_path / "text.tif"), "text.tif")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        bare = write(tmp_path / "bare.tif", "EPSG:3857", (0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (9, 9))
    with pytest.raises(Refused, match="has no geotransform"):
        reference_grid(str(bare), "bare.tif")


# --- tiling schemes ----------------------------------------------------------------------------


@pytest.mark.parametrize("blocksize", [256, 512])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ZOOM_LEVEL_STRATEGY": "LOWER"},
        {"ZOOM_LEVEL_STRATEGY": "UPPER"},
        {"ZOOM_LEVEL": "11"},
    ],
    ids=str,
)
def test_blocks_lie_where_gdal_s_cog_driver_lays_them(
    tmp_path: Path, blocksize: int, options: dict[str, str]
) -> None:
    source = write(tmp_path / "in.tif", "EPSG:32633", UTM, SIZE)
    scheme = {"TILING_SCHEME": "GoogleMapsCompatible", **options}
    rasterio.shutil.copy(
        source, tmp_path / "cog.tif", driver="COG", BLOCKSIZE=str(blocksize), **scheme
    )
    with rasterio.open(tmp_path / "cog.tif") as theirs:
        expected = theirs.transform.to_gdal(), theirs.width, theirs.height
    grid = planned(creation_options=scheme, blocksize=blocksize)
    assert grid.transform == pytest.approx(expected[0], rel=1e-12)
    assert (grid.width, grid.height) == expected[1:]


@given(
    lon=st.floats(-179, 178), lat=st.floats(-84, 83), pixel=st.floats(1e-5, 0.01),
    block=st.sampled_from([256, 512]),
)  # fmt: skip
def test_every_block_is_a_tile_of_the_scheme(
    lon: float, lat: float, pixel: float, block: int
) -> None:
    with environment(16 << 20):
        made = structure(
            layout((97, 83), (97, 16), samples=1),
            "EPSG:4326",
            transform=(lon, pixel, 0.0, lat, 0.0, -pixel),
        )
        options = PlanOptions(tiling_scheme="WebMercatorQuad", blocksize=block)
        grid = make_plan(made, options, "grids").target_grid
    assert grid.width % block == 0
    assert grid.height % block == 0
    tms = morecantile.tms.get("WebMercatorQuad")
    side = block * grid.transform[1]
    tile = morecantile.Tile(
        x=round((grid.bounds[0] + 20037508.342789244) / side),
        y=round((20037508.342789244 - grid.bounds[3]) / side),
        z=round(np.log2(2 * 20037508.342789244 / side)),
    )
    bounds = tms.xy_bounds(tile)
    assert bounds.left == pytest.approx(grid.bounds[0], abs=1e-6)
    assert bounds.top == pytest.approx(grid.bounds[3], abs=1e-6)
    assert bounds.right == pytest.approx(grid.bounds[0] + side, abs=1e-6)


def test_bounds_choose_blocks_and_not_the_zoom_level() -> None:
    whole = planned(tiling_scheme="WebMercatorQuad", blocksize=256)
    left, _, _, top = whole.bounds
    few = planned(
        tiling_scheme="webmercatorquad",
        blocksize=256,
        bounds=(left + 300, top - 5000, left + 900, top - 300),
    )
    assert few.transform[1] == whole.transform[1]
    assert (few.width, few.height) == (256, 256 * 2)
    assert (few.bounds[0] - left) / few.transform[1] % 256 == pytest.approx(0)


def test_a_scheme_in_another_system_is_used_in_its_own() -> None:
    grid = planned(tiling_scheme="EuropeanETRS89_LAEAQuad", zoom_level=11, blocksize=256)
    assert grid.crs == crs_text("EPSG:3035")
    assert grid.transform[1] == pytest.approx(17578.125 / 2**11)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "align without a resolution": ({"align": True, "dst_crs": "EPSG:3857"}, "--resolution"),
    "like and another grid": ({"like": "r.tif", "bounds": (0, 0, 1, 1)}, "--bounds"),
    "like and a system": ({"like": "r.tif", "dst_crs": "EPSG:3857"}, "--dst-crs"),
    "like and align": ({"like": "r.tif", "align": True}, "--align"),
    "a scheme and a resolution": (
        {"tiling_scheme": "WebMercatorQuad", "resolution": (10, 10)},
        "--resolution",
    ),
    "a scheme and another system": (
        {"tiling_scheme": "WebMercatorQuad", "dst_crs": "EPSG:32633"},
        "--dst-crs",
    ),
    "a scheme that is none": ({"tiling_scheme": "Nonsense"}, "WebMercatorQuad"),
    "a scheme of varying width": ({"tiling_scheme": "GNOSISGlobalGrid"}, "WebMercatorQuad"),
    "a level that is none": (
        {"tiling_scheme": "WebMercatorQuad", "zoom_level": 99},
        "use 0 to 24",
    ),
    "a level of no scheme": ({"zoom_level": 3, "dst_crs": "EPSG:3857"}, "--tiling-scheme"),
    "a level by --co of no scheme": ({"creation_options": {"ZOOM_LEVEL": "3"}}, "TILING_SCHEME"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_options_that_contradict_each_other_are_refused_with_the_way_out(
    case: tuple[dict[str, Any], str],
) -> None:
    options, remedy = case
    with pytest.raises(Refused) as caught:
        planned(**options)
    assert remedy in caught.value.remedy


def test_a_custom_scheme_is_none_as_in_gdal() -> None:
    assert not PlanOptions(creation_options={"TILING_SCHEME": "CUSTOM"}).changes_grid
