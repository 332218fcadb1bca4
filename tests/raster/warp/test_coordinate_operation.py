"""One coordinate operation for a whole raster, and the grid that it leads to."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from pyproj import CRS, Transformer

from cogmill.errors import Refused
from cogmill.raster.arrays import Floats
from cogmill.raster.gdal import environment
from cogmill.raster.geometry.crs import (
    crs_text,
    lonlat_area,
    same_crs,
    transform_points,
    transform_points_back,
)
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.geometry.target import target_grid
from cogmill.raster.warp import coordinate_operation, probing
from cogmill.raster.warp.coordinate_operation import CrsPolicy, choose_operation
from cogmill.raster.warp.probing import proj_disagreement

MERCATOR = "EPSG:3857"
#: Side of a source pixel in metres.
PIXEL = 10.0
ACROSS_31_6 = (31.0, 44.5, 32.2, 45.5)
TURKEY = (31.0, 39.5, 32.2, 40.5)
BRITAIN = (-3.0, 51.0, -2.0, 52.0)
OSTN15 = "uk_os_OSTN15_NTv2_OSGBtoETRS.tif"


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with environment(16 << 20):
        yield


def wkt(code: str) -> str:
    return crs_text(code)


@pytest.mark.parametrize("code", ["EPSG:23036", "EPSG:4230"])
def test_ed50_across_31_6_east_has_no_step(code: str) -> None:
    ends = wkt(code), wkt(MERCATOR)
    operation = choose_operation(ends, ACROSS_31_6, PIXEL)
    lons = np.linspace(31.5, 31.7, 2001)
    to_source = Transformer.from_crs("EPSG:4230", code, always_xy=True)
    points = to_source.transform(lons, np.full(lons.shape, 45.0))
    xs, ys = transform_points(ends, operation.pipeline, *points)
    assert np.hypot(np.diff(xs, 2), np.diff(ys, 2)).max() < 0.01
    if code == "EPSG:4230":  # what GDAL does by itself, so that this test can fail
        torn = rasterio.warp.transform(code, MERCATOR, *(list(each) for each in points))
        assert np.hypot(*(np.diff(each, 2) for each in torn)).max() > 10
    assert operation.accuracy_m is None
    assert "beyond the area" in operation.warnings[0]


def test_the_most_accurate_operation_that_covers_all_of_the_raster_is_taken() -> None:
    operation = choose_operation((wkt("EPSG:4230"), wkt(MERCATOR)), TURKEY, PIXEL)
    assert "ED50 to WGS 84 (30)" in operation.name
    assert operation.accuracy_m == 2.0
    assert operation.warnings == ()


def test_british_national_grid_names_the_missing_grid_and_the_loss() -> None:
    operation = choose_operation((wkt("EPSG:27700"), wkt(MERCATOR)), BRITAIN, PIXEL)
    assert operation.missing_grids == (OSTN15,)
    assert operation.loss_m == 1.0
    assert operation.accuracy_m == 2.0
    assert any(OSTN15 in warning and "1 m" in warning for warning in operation.warnings)


def test_a_missing_better_grid_is_refused_when_strict() -> None:
    with pytest.raises(Refused, match=OSTN15):
        choose_operation((wkt("EPSG:27700"), wkt(MERCATOR)), BRITAIN, PIXEL, CrsPolicy(strict=True))


@pytest.mark.parametrize(
    ("src", "dst", "area"),
    [
        ("EPSG:32633", MERCATOR, (10.0, 45.0, 20.0, 47.0)),
        ("EPSG:4326", MERCATOR, (-180.0, -90.0, 180.0, 90.0)),
        ("EPSG:3413", "EPSG:4326", (-60.0, 60.0, 30.0, 80.0)),
        ("EPSG:32661", "EPSG:4326", (-60.0, 60.0, 30.0, 80.0)),
        ("EPSG:5041", "EPSG:4326", (-60.0, 60.0, 30.0, 80.0)),
    ],
)
def test_a_change_of_projection_alone_costs_nothing(
    src: str, dst: str, area: tuple[float, float, float, float]
) -> None:
    operation = choose_operation((wkt(src), wkt(dst)), area, PIXEL, CrsPolicy(strict=True))
    assert operation.accuracy_m == 0
    assert operation.warnings == ()


@pytest.mark.parametrize(
    ("src", "dst", "area"),
    [
        ("EPSG:4326", MERCATOR, (5.0, 45.0, 6.0, 46.0)),
        ("EPSG:2180", "EPSG:4326", (18.0, 50.0, 19.0, 51.0)),
        ("EPSG:31467", "EPSG:25832", (8.0, 50.0, 9.0, 51.0)),
        ("EPSG:23036", "EPSG:4258", (31.0, 39.5, 31.3, 40.5)),
    ],
)
def test_pyproj_and_gdal_put_points_at_one_place_in_any_axis_order(
    src: str, dst: str, area: tuple[float, float, float, float]
) -> None:
    ends = wkt(src), wkt(dst)
    operation = choose_operation(ends, area, PIXEL)
    points = Transformer.from_crs("OGC:CRS84", src, always_xy=True).transform(
        *np.meshgrid(np.linspace(area[0], area[2], 9), np.linspace(area[1], area[3], 9))
    )
    flat = points[0].ravel(), points[1].ravel()
    assert proj_disagreement(ends, operation.pipeline, flat) < 1e-6
    # Independent of how this project turns axes: PROJ's own, x before y.
    if CRS(src).geodetic_crs == CRS(dst).geodetic_crs:
        expected = Transformer.from_crs(src, dst, always_xy=True).transform(*flat)
        assert np.allclose(transform_points(ends, operation.pipeline, *flat), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("apart", "said"),
    [(0.9e-3, None), (1.1e-3, "1.1 mm, 0.0011 pixels"), (0.4, "400 mm, 0.4 pixels")],
)
def test_what_two_proj_differ_is_judged_by_the_pixel(
    monkeypatch: pytest.MonkeyPatch, apart: float, said: str | None
) -> None:
    monkeypatch.setattr(coordinate_operation, "proj_disagreement", lambda *_: apart)
    ends = wkt("EPSG:32633"), wkt(MERCATOR)
    warnings = choose_operation(ends, (14.0, 45.0, 16.0, 47.0), 1.0).warnings
    assert [said in each for each in warnings if said] == [True] * bool(said)
    # The same difference is nothing to a pixel a thousand times as large.
    assert choose_operation(ends, (14.0, 45.0, 16.0, 47.0), 1000.0).warnings == ()


def test_two_proj_that_differ_by_more_than_half_a_pixel_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coordinate_operation, "proj_disagreement", lambda *_: 0.6)
    with pytest.raises(Refused, match=r"0\.6 pixels"):
        choose_operation((wkt("EPSG:32633"), wkt(MERCATOR)), (14.0, 45.0, 16.0, 47.0), 1.0)


def test_the_probe_sees_a_shift_of_two_millimetres(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = wkt("EPSG:32633"), wkt("EPSG:32633")
    points = np.array([4e5, 5e5, 4e5, 5e5]), np.array([5e6, 5e6, 5.1e6, 5.1e6])
    assert proj_disagreement(ends, "proj=affine xoff=0", points) < 1e-6

    def two_millimetres_off(*arguments: Any) -> tuple[Floats, Floats]:
        xs, ys = transform_points_back(*arguments)
        return xs + 0.002, ys

    monkeypatch.setattr(probing, "transform_points_back", two_millimetres_off)
    assert proj_disagreement(ends, "proj=affine xoff=0", points) == pytest.approx(0.002, abs=1e-5)


UNKNOWN = "is not known, so latitudes and longitudes are taken over as they are"
MODIS = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"


@pytest.mark.parametrize(
    "code",
    [
        MODIS,
        "EPSG:3408",
        "EPSG:3410",
        "+proj=latlong +R=6371229 +no_defs",
        "+proj=utm +zone=15 +ellps=GRS80 +units=m +no_defs",
        "+proj=lcc +lat_1=25 +lat_2=60 +lat_0=42 +lon_0=-100 +ellps=GRS80 +no_defs",
        "+proj=longlat +ellps=bessel +no_defs",
    ],
)
def test_a_datum_that_is_not_known_keeps_its_latitudes_and_longitudes(code: str) -> None:
    ends, area = (wkt(code), wkt("EPSG:4326")), (-95.0, 40.0, -93.0, 42.0)
    operation = choose_operation(ends, area, PIXEL)
    assert [UNKNOWN in each for each in operation.warnings] == [True]
    lons, lats = np.array([-94.5, -93.5]), np.array([40.5, 41.5])
    geodetic = CRS(code).geodetic_crs
    places = Transformer.from_crs(geodetic, CRS(code), always_xy=True).transform(lons, lats)
    found = transform_points(ends, operation.pipeline, *places)
    np.testing.assert_allclose(found, (lons, lats), atol=1e-9)
    with pytest.raises(Refused, match=UNKNOWN):
        choose_operation(ends, area, PIXEL, CrsPolicy(strict=True))


@pytest.mark.parametrize("code", [MODIS, "+proj=utm +zone=30 +ellps=GRS80 +units=m +no_defs"])
def test_a_datum_that_is_not_known_needs_leave_to_become_one_far_from_those_of_today(
    code: str,
) -> None:
    ends = wkt(code), wkt("EPSG:27700")
    with pytest.raises(Refused, match="though the other datum is far") as caught:
        choose_operation(ends, BRITAIN, PIXEL)
    assert "--allow-ballpark" in caught.value.remedy
    pipeline = caught.value.remedy.rpartition("--coordinate-operation ")[2].strip("'")
    allowed = choose_operation(ends, BRITAIN, PIXEL, CrsPolicy(allow_ballpark=True))
    assert choose_operation(ends, BRITAIN, PIXEL, CrsPolicy(pipeline)).pipeline == allowed.pipeline


@pytest.mark.parametrize(
    ("one", "other", "is_taken"),
    [
        ("+proj=longlat +R=6371229", "+proj=laea +R=6370997", True),
        ("+proj=longlat +ellps=bessel", "+proj=merc +ellps=bessel", True),
        ("+proj=longlat +ellps=bessel", "+proj=longlat +ellps=clrk66", False),
        ("+proj=longlat +R=6371229", "+proj=longlat +ellps=clrk66", False),
    ],
)
def test_two_datums_that_are_not_known_are_taken_for_one_where_their_shapes_agree(
    one: str, other: str, is_taken: bool
) -> None:
    ends = wkt(one), wkt(other)
    if is_taken:
        assert choose_operation(ends, BRITAIN, PIXEL).pipeline
        return
    with pytest.raises(Refused, match="is not known"):
        choose_operation(ends, BRITAIN, PIXEL)


@pytest.mark.parametrize(
    ("code", "area"),
    [
        ("EPSG:4490", (114.0, 30.0, 115.0, 31.0)),
        ("EPSG:4547", (114.0, 30.0, 115.0, 31.0)),
        ("EPSG:6322", (-158.0, 21.0, -157.0, 22.0)),  # NAD83(PA11)
        ("EPSG:8237", (-100.0, 50.0, -99.0, 51.0)),  # NAD83(CSRS)v3
    ],
)
def test_datums_of_today_are_within_metres_and_that_is_said_in_pixels(
    code: str, area: tuple[float, float, float, float]
) -> None:
    ends = wkt(code), wkt("EPSG:4326")
    operation = choose_operation(ends, area, 10.0)
    assert any("so the difference between their datums is ignored" in each
               and "pixels" in each for each in operation.warnings)  # fmt: skip
    with pytest.raises(Refused, match="is ignored"):
        choose_operation(ends, area, 10.0, CrsPolicy(strict=True))


@pytest.mark.parametrize(
    ("code", "area"),
    [
        ("EPSG:8042", (14.0, 48.0, 15.0, 49.0)),  # Gusterberg, longitudes from Ferro
        ("EPSG:4818", (14.0, 48.0, 15.0, 49.0)),  # S-JTSK, from Ferro
        ("EPSG:4001", (14.0, 48.0, 15.0, 49.0)),
    ],
)
def test_a_difference_that_is_large_or_unknown_is_refused_with_ways_out(
    code: str, area: tuple[float, float, float, float]
) -> None:
    ends = wkt(code), wkt("EPSG:4326")
    try:
        operation = choose_operation(ends, area, 10.0)
    except Refused as refused:
        assert "--allow-ballpark" in refused.remedy
        allowed = choose_operation(ends, area, 10.0, CrsPolicy(allow_ballpark=True))
        assert allowed.warnings
    else:
        assert "ballpark" not in operation.name.lower() or UNKNOWN in operation.warnings[0]


@pytest.mark.parametrize(
    ("code", "area"),
    [
        ("EPSG:4179", (-4.0, 40.0, -3.0, 41.0)),  # of Poland and its neighbours, over Spain
        ("EPSG:8998", (10.0, 45.0, 11.0, 46.0)),  # ITRF2005: by operations for other continents
        ("EPSG:9014", (10.0, 45.0, 11.0, 46.0)),  # IGS14
    ],
)
def test_an_area_of_use_refuses_nothing(code: str, area: tuple[float, float, float, float]) -> None:
    operation = choose_operation((wkt(code), wkt("EPSG:4326")), area, PIXEL)
    assert "ballpark" not in operation.name.lower()
    assert "beyond the area" in operation.warnings[0]


@pytest.mark.parametrize("target", ["EPSG:6933", "EPSG:8857", "EPSG:3035", "EPSG:6931"])
def test_equal_area_targets_are_taken_whatever_two_proj_make_of_millimetres(target: str) -> None:
    area = (-46.0, -24.0, -44.0, -22.0) if target in {"EPSG:6933", "EPSG:8857"} else (9, 50, 11, 52)
    assert choose_operation((wkt("EPSG:4326"), wkt(target)), area, 15.0).accuracy_m is not None


def test_a_named_operation_is_taken_and_said_to_be_beyond_its_area() -> None:
    operation = choose_operation(
        (wkt("EPSG:23036"), wkt(MERCATOR)), TURKEY, PIXEL, CrsPolicy("EPSG:1133")
    )
    assert "ED50 to WGS 84 (1)" in operation.name
    assert "beyond the area" in operation.warnings[0]


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("EPSG:9999", "EPSG:1133"),
        ("nonsense", "pipeline"),
        ("proj=pipeline step inv proj=webmerc", "axis order"),
    ],
)
def test_an_operation_that_leads_elsewhere_is_refused(given: str, remedy: str) -> None:
    with pytest.raises(Refused) as caught:
        choose_operation((wkt("EPSG:23036"), wkt(MERCATOR)), TURKEY, PIXEL, CrsPolicy(given))
    assert remedy in caught.value.remedy


def test_a_pipeline_in_the_order_of_gis_software_is_refused() -> None:
    gis = "proj=pipeline step proj=unitconvert xy_in=deg xy_out=rad step proj=webmerc"
    with pytest.raises(Refused, match="axis order"):
        choose_operation(
            (wkt("EPSG:4326"), wkt(MERCATOR)), (10.0, 45.0, 11.0, 46.0), PIXEL, CrsPolicy(gis)
        )
    own = gis.replace("step", "step proj=axisswap order=2,1 step", 1)
    assert (
        choose_operation(
            (wkt("EPSG:4326"), wkt(MERCATOR)), (10, 45, 11, 46), PIXEL, CrsPolicy(own)
        ).pipeline
        == own
    )


@pytest.mark.parametrize("text", ["EPSG:0", "nonsense", "", 'LOCAL_CS["x"]', "EPSG:5773"])
def test_what_is_no_system_on_the_earth_is_refused_with_the_option(text: str) -> None:
    with pytest.raises(Refused, match="--dst-crs"):
        crs_text(text, "--dst-crs")


def test_equal_systems_have_equal_text() -> None:
    spellings = ["EPSG:32633", CRS(32633).to_wkt("WKT1_GDAL"), CRS(32633).to_json()]
    assert len({crs_text(each) for each in spellings}) == 1
    assert same_crs(CRS(4326).to_wkt(), "OGC:CRS84")
    assert not same_crs("EPSG:4326", "EPSG:4258")


def test_a_footprint_is_in_degrees_and_may_cross_the_antimeridian() -> None:
    grid = Grid(
        crs=wkt("EPSG:32601"),
        transform=(1e5, 100.0, 0.0, 6e6, 0.0, -100.0),
        width=4000,
        height=500,
    )
    west, south, east, north = lonlat_area(grid)
    assert 170 < west < 180
    assert -180 < east < -172
    assert 53 < south < north < 55


# --- the target grid ---------------------------------------------------------------------------


def utm(transform: tuple[float, float, float, float, float, float]) -> Grid:
    return Grid(crs=wkt("EPSG:32633"), transform=transform, width=3000, height=2000)


NORTH_UP = (250000.0, 10.0, 0.0, 5300000.0, 0.0, -10.0)


def to_mercator(source: Grid, **named: tuple[float, ...]) -> Grid:
    target = wkt(MERCATOR)
    pipeline = choose_operation((source.crs, target), lonlat_area(source), PIXEL).pipeline
    return target_grid(source, target, pipeline, **named)  # type: ignore[arg-type]  # by name


def test_named_bounds_and_resolution_hold_exactly() -> None:
    bounds = (1300000.0, 6040000.0, 1340000.3, 6070000.0)
    grid = to_mercator(utm(NORTH_UP), bounds=bounds, resolution=(7.0, 9.0))
    assert grid.transform == (bounds[0], 7.0, 0.0, bounds[3], 0.0, -9.0)
    assert (grid.width, grid.height) == (5714, 3333)
    adjusted = to_mercator(utm(NORTH_UP), bounds=bounds)
    assert adjusted.bounds == pytest.approx(bounds, rel=1e-12)


@pytest.mark.parametrize(
    "named",
    [
        {"resolution": (0.0, 1.0)},
        {"resolution": (-1.0, 1.0)},
        {"resolution": (math.nan, 1.0)},
        {"resolution": (1e-6, 1e-6)},
        {"resolution": (1e-12, 1e9)},
        {"resolution": (1e9, 1e9)},
        {"bounds": (0.0, 0.0, 0.0, 1.0)},
        {"bounds": (0.0, 1.0, 1.0, 0.0)},
        {"bounds": (0.0, 0.0, math.inf, 1.0)},
    ],
)
def test_an_absurd_grid_is_refused_with_a_remedy(named: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(Refused) as caught:
        to_mercator(utm(NORTH_UP), **named)
    assert "--resolution" in caught.value.remedy or "--bounds" in caught.value.remedy


@pytest.mark.external("gdalwarp")
@pytest.mark.parametrize(
    ("transform", "named", "options"),
    [
        (NORTH_UP, {}, []),
        ((250000.0, 10.0, 2.0, 5300000.0, 1.0, -10.0), {}, []),
        ((250000.0, 10.0, 0.0, 5300000.0, 0.0, 10.0), {}, []),
        (NORTH_UP, {"resolution": (20.0, 23.0)}, ["-tr", "20", "23"]),
    ],
)
def test_the_grid_is_the_one_that_gdalwarp_chooses(
    tmp_path: Path,
    transform: tuple[float, float, float, float, float, float],
    named: dict[str, tuple[float, ...]],
    options: list[str],
) -> None:
    source = utm(transform)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "sparse_ok": True}
    size = {"width": source.width, "height": source.height}
    with rasterio.open(
        tmp_path / "in.tif", "w", crs=source.crs, transform=source.affine, **profile, **size
    ):
        pass
    command = ["gdalwarp", "-q", "-of", "VRT", "-t_srs", MERCATOR, *options]
    subprocess.run([*command, tmp_path / "in.tif", tmp_path / "out.vrt"], check=True)
    with rasterio.open(tmp_path / "out.vrt") as chosen:
        expected = chosen.transform.to_gdal(), chosen.width, chosen.height
    grid = to_mercator(source, **named)
    assert (grid.width, grid.height) == expected[1:]
    assert grid.transform == pytest.approx(expected[0], rel=1e-12)
