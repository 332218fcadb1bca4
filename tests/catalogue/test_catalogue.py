"""The manifest and the two indexes, read back by the software that they are written for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pydantic import ValidationError
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from cogmill.catalogue.manifest import (
    Manifest,
    ManifestFile,
    ResultGrid,
    parse_manifest,
)
from cogmill.catalogue.mosaic import (
    VRT_NAME,
    MosaicBand,
    MosaicIndex,
    MosaicTile,
    TileOutline,
    mosaic_geojson,
    mosaic_vrt,
)
from cogmill.errors import Refused

TRANSFORM = (500000.1234567891, 10.123456789012345, 0.0, 5200000.3, 0.0, -10.1)
GRID = ResultGrid(crs="EPSG:32633", transform=TRANSFORM, width=300, height=275)
TILE = 128
MISSING = (1, 2)


def checksum(digit: str) -> str:
    return digit * 64


def manifest(**changes: Any) -> Manifest:
    files = (
        ManifestFile(name="b.tif", size=20, sha256=checksum("b"), window=(128, 0, 128, 128)),
        ManifestFile(name="a.tif", size=10, sha256=checksum("a"), window=(0, 0, 128, 128)),
    )
    given: dict[str, Any] = {"kind": "mosaic", "grid": GRID, "tile_size": TILE, "files": files}
    return Manifest(**{**given, **changes})


class TestManifest:
    def test_a_manifest_read_back_is_the_same_to_the_byte(self):
        data = manifest(empty_tiles=3).to_bytes()
        assert parse_manifest(data) == manifest(empty_tiles=3)
        assert parse_manifest(data).to_bytes() == data

    def test_the_order_of_the_files_does_not_change_the_bytes(self):
        one = manifest()
        other = manifest(files=tuple(reversed(one.files)))
        assert one.to_bytes() == other.to_bytes()
        names = [each["name"] for each in json.loads(one.to_bytes())["files"]]
        assert names == ["a.tif", "b.tif"]

    def test_a_manifest_says_what_the_result_is_and_nothing_of_its_making(self):
        assert set(json.loads(manifest().to_bytes())) == {
            "version",
            "kind",
            "grid",
            "tile_size",
            "files",
            "empty_tiles",
        }

    def test_floats_survive_to_the_last_bit(self):
        awkward = (0.1 + 0.2, 1 / 3, 0.0, 1e22, 0.0, -5e-324)
        grid = ResultGrid(crs=None, transform=awkward, width=1, height=1)
        made = manifest(grid=grid, files=())
        assert parse_manifest(made.to_bytes()).grid.transform == awkward

    @pytest.mark.parametrize("name", ["", "/a.tif", "../a.tif", "x/../../a.tif", "x//a.tif", "./a"])
    def test_no_name_leads_out_of_the_destination(self, name):
        with pytest.raises(ValidationError):
            ManifestFile(name=name, size=1, sha256=checksum("a"))

    @pytest.mark.parametrize(
        "window", [(-1, 0, 5, 5), (0, 0, 0, 5), (299, 0, 2, 1), (0, 274, 1, 2)]
    )
    def test_no_file_lies_outside_the_grid(self, window):
        file = ManifestFile(name="a.tif", size=1, sha256=checksum("a"), window=window)
        with pytest.raises(ValidationError, match="grid"):
            manifest(files=(file,))

    def test_a_name_is_listed_once_and_the_manifest_does_not_list_itself(self):
        file = ManifestFile(name="a.tif", size=1, sha256=checksum("a"))
        for files in ((file, file), (file.model_copy(update={"name": "cogmill.json"}),)):
            with pytest.raises(ValidationError):
                manifest(files=files)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff\xfe",
            b"[]",
            b"{}",
            b'{"version": 1}',
            b"[" * 100_000,
            manifest().to_bytes()[:-20],
            manifest().to_bytes().replace(b'"mosaic"', b'"heap"'),
        ],
    )
    def test_a_damaged_manifest_is_refused_with_a_remedy(self, data):
        with pytest.raises(Refused) as caught:
            parse_manifest(data)
        assert "--overwrite" in caught.value.remedy

    def test_a_manifest_of_a_newer_form_asks_for_a_newer_cogmill(self):
        data = manifest().to_bytes().replace(b'"version": 1', b'"version": 2')
        with pytest.raises(Refused) as caught:
            parse_manifest(data)
        assert "newer cogmill" in caught.value.remedy


class Written:
    """Tiles of 3 x 3 with the middle right one missing, and what their mosaic must show."""

    def __init__(
        self, folder: Path, pixels: np.ndarray, prefix: str = "t", **creation: Any
    ) -> None:
        self.folder = folder
        self.pixels = pixels
        self.mask = np.full(pixels.shape[1:], 255, "uint8")
        self.mask[40:200, 100:140] = 0
        self.tiles: list[MosaicTile] = []
        for row, col in np.ndindex(3, 3):
            if (row, col) != MISSING:
                self.tiles.append(self._tile(row, col, f"{prefix}_r{row}_c{col}.tif", creation))

    def _tile(self, row: int, col: int, name: str, creation: dict[str, Any]) -> MosaicTile:
        x, y = col * TILE, row * TILE
        block = self.pixels[:, y : y + TILE, x : x + TILE]
        bands, height, width = block.shape
        x0, dx, _, y0, _, dy = TRANSFORM
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            with rasterio.open(
                self.folder / name,
                "w",
                driver="GTiff",
                width=width,
                height=height,
                count=bands,
                dtype=block.dtype,
                crs=GRID.crs,
                transform=rasterio.Affine(dx, 0, x0 + x * dx, 0, dy, y0 + y * dy),
                tiled=True,
                blockxsize=64,
                blockysize=64,
                nodata=creation.get("nodata"),
            ) as tile:
                tile.write(block)
                if creation.get("mask"):
                    tile.write_mask(self.mask[y : y + TILE, x : x + TILE])
            with rasterio.open(self.folder / name, "r+") as tile:
                tile.build_overviews([2, 4, 8], Resampling.average)
        return MosaicTile(name=name, window=(x, y, width, height))

    def index(self, **details: Any) -> Path:
        band = details.pop("band", {})
        bands = (MosaicBand(dtype=self.pixels.dtype.name, **band),) * len(self.pixels)
        given: dict[str, Any] = {"grid": GRID, "block": 64, "overview_factors": (2, 4, 8)}
        made = MosaicIndex(**{**given, "bands": bands, "tiles": tuple(self.tiles), **details})
        path = self.folder / VRT_NAME
        path.write_bytes(mosaic_vrt(made))
        return path

    def expected(self, missing: float) -> np.ndarray:
        row, col = MISSING
        whole = self.pixels.copy()
        whole[:, row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE] = missing
        return whole


def noise(dtype: str, bands: int) -> np.ndarray:
    values = np.random.default_rng(5).integers(1, 250, (bands, GRID.height, GRID.width))
    return values.astype(dtype)


def without_tiles(folder: Path, band: MosaicBand) -> Path:
    path = folder / VRT_NAME
    path.write_bytes(mosaic_vrt(MosaicIndex(grid=GRID, bands=(band,), tiles=())))
    return path


class TestVrt:
    def test_the_mosaic_shows_every_pixel_of_its_tiles_and_nodata_where_one_is_missing(
        self, tmp_path
    ):
        pixels = noise("float32", 2)
        pixels[:, 100:150, 90:160] = -9999.5
        written = Written(tmp_path, pixels, nodata=-9999.5)
        with rasterio.open(written.index(band={"nodata": -9999.5})) as mosaic:
            np.testing.assert_array_equal(mosaic.read(), written.expected(-9999.5))
            np.testing.assert_array_equal(
                mosaic.read_masks(), np.where(written.expected(-9999.5) == -9999.5, 0, 255)
            )
            assert mosaic.transform.to_gdal() == TRANSFORM
            assert mosaic.crs.to_epsg() == 32633
            assert mosaic.nodatavals == (-9999.5, -9999.5)
            assert mosaic.block_shapes == [(64, 64)] * 2

    def test_the_mosaic_has_the_mask_of_its_tiles_and_none_where_one_is_missing(self, tmp_path):
        written = Written(tmp_path, noise("uint8", 3), mask=True)
        path = written.index(has_mask=True)
        with rasterio.open(path) as mosaic:
            np.testing.assert_array_equal(mosaic.read(), written.expected(0))
            mask = written.mask.copy()
            mask[TILE : 2 * TILE, 2 * TILE :] = 0
            np.testing.assert_array_equal(mosaic.dataset_mask(), mask)

    def test_nan_is_nodata(self, tmp_path):
        written = Written(tmp_path, noise("float64", 1), nodata=math.nan)
        with rasterio.open(written.index(band={"nodata": math.nan})) as mosaic:
            np.testing.assert_array_equal(mosaic.read(), written.expected(math.nan))
            assert math.isnan(mosaic.nodata)

    @pytest.mark.parametrize("factor", [2, 4, 8])
    def test_a_decimated_read_uses_the_overviews_of_the_tiles(self, tmp_path, factor):
        written = Written(tmp_path, noise("uint8", 1))
        level = [2, 4, 8].index(factor)
        for tile in written.tiles:
            with rasterio.open(tmp_path / tile.name, "r+", overview_level=level) as overview:
                overview.write(np.full((1, overview.height, overview.width), 251 + level, "uint8"))
        shape = (math.ceil(GRID.height / factor), math.ceil(GRID.width / factor))
        with rasterio.open(written.index()) as mosaic:
            assert mosaic.overviews(1) == [2, 4, 8]
            shown = mosaic.read(1, out_shape=shape)
        with rasterio.open(tmp_path / VRT_NAME, overview_level=level) as overview:
            named = overview.read(1)
        for pixels in (shown, named):
            assert set(np.unique(pixels)) == {0, 251 + level}

    def test_a_reader_that_warps_chooses_the_overviews_too(self, tmp_path):
        written = Written(tmp_path, noise("uint8", 1))
        for tile in written.tiles:
            with rasterio.open(tmp_path / tile.name, "r+", overview_level=1) as overview:
                overview.write(np.full((1, overview.height, overview.width), 252, "uint8"))
        with rasterio.open(written.index()) as mosaic, WarpedVRT(mosaic, crs="EPSG:3857") as warped:
            shown = warped.read(1, out_shape=(warped.height // 4, warped.width // 4))
        assert set(np.unique(shown)) == {0, 252}

    @pytest.mark.parametrize("level", [0, 1, 2])
    def test_an_overview_is_that_of_the_tiles_pixel_for_pixel_where_sizes_divide(
        self, tmp_path, level
    ):
        pixels = noise("uint8", 1)[:, :272, :296]
        written = Written(tmp_path, pixels)
        grid = GRID.model_copy(update={"width": 296, "height": 272})
        with rasterio.open(written.index(grid=grid), overview_level=level) as overview:
            shown = overview.read(1)
        for tile in written.tiles:
            col, row = (each >> level + 1 for each in tile.window[:2])
            with rasterio.open(tmp_path / tile.name, overview_level=level) as overview:
                wanted = overview.read(1)
            height, width = wanted.shape
            np.testing.assert_array_equal(shown[row : row + height, col : col + width], wanted)

    def test_colours_units_scales_descriptions_and_tags_are_those_of_the_tiles(self, tmp_path):
        written = Written(tmp_path, noise("uint8", 1))
        band = {
            "color_interpretation": "palette",
            "scale": 0.1,
            "offset": -3.5,
            "unit": "m",
            "description": "höhe <1>",
        }
        palette = ((1, 2, 3, 255), (250, 0, 9, 128))
        tags = {"AREA_OR_POINT": "Point", "NOTE": "a & <b> ä", "BELL": "\a"}
        with rasterio.open(written.index(band=band, palette=palette, tags=tags)) as mosaic:
            assert mosaic.colorinterp == (ColorInterp.palette,)
            found = mosaic.colormap(1)
            assert (found[0], found[1]) == palette
            assert (mosaic.scales, mosaic.offsets) == ((0.1,), (-3.5,))
            assert (mosaic.units, mosaic.descriptions) == (("m",), ("höhe <1>",))
            assert mosaic.tags() == {"AREA_OR_POINT": "Point", "NOTE": "a & <b> ä"}

    @pytest.mark.parametrize("colour", list(ColorInterp))
    def test_every_colour_interpretation_is_spelt_as_gdal_reads_it(self, tmp_path, colour):
        path = without_tiles(tmp_path, MosaicBand(dtype="uint8", color_interpretation=colour.name))
        with rasterio.open(path) as mosaic:
            assert mosaic.colorinterp == (colour,)

    @pytest.mark.parametrize(
        ("dtype", "nodata"),
        [
            ("uint8", 255),
            ("int8", -128),
            ("uint16", 65535),
            ("int16", -32768),
            ("uint32", 2**32 - 1),
            ("int32", -(2**31)),
            ("uint64", 2**64 - 1),
            ("int64", -(2**63)),
            ("float32", -3.4028234663852886e38),
            ("float64", 0.1),
            ("complex64", None),
            ("complex128", None),
        ],
    )
    def test_every_pixel_type_and_its_extreme_nodata_survive(self, tmp_path, dtype, nodata):
        path = without_tiles(tmp_path, MosaicBand(dtype=dtype, nodata=nodata))
        with rasterio.open(path) as mosaic:
            assert mosaic.dtypes == (dtype,)
            if nodata is not None:
                # rasterio's own `nodata` is a float, too coarse for 64 bits.
                assert mosaic.read(1)[0, 0] == np.dtype(dtype).type(nodata)
                assert not mosaic.read_masks(1).any()

    def test_opening_the_mosaic_opens_no_tile(self, tmp_path):
        written = Written(tmp_path, noise("uint8", 1))
        path = written.index()
        for tile in written.tiles:
            (tmp_path / tile.name).write_bytes(b"no TIFF at all")
        with rasterio.open(path) as mosaic:
            assert mosaic.shape == (GRID.height, GRID.width)

    @pytest.mark.parametrize("prefix", ["a & <b>", "50%25", " leading", "höhe'\"", "sub#1?x"])
    def test_awkward_tile_names_are_found_and_the_folder_may_move(self, tmp_path, prefix):
        home = tmp_path / "before"
        home.mkdir()
        written = Written(home, noise("uint8", 1), prefix=prefix)
        written.index()
        moved = home.rename(tmp_path / "after wards")
        with rasterio.open(moved / VRT_NAME) as mosaic:
            np.testing.assert_array_equal(mosaic.read(), written.expected(0))

    def test_the_order_of_the_tiles_does_not_change_the_bytes(self):
        tiles = tuple(
            MosaicTile(name=f"{name}.tif", window=(0, 0, 1, 1)) for name in ("c", "a", "b")
        )
        given: dict[str, Any] = {"grid": GRID, "bands": (MosaicBand(dtype="uint8"),)}
        one = MosaicIndex(**given, tiles=tiles, tags={"A": "1", "B": "2"})
        other = MosaicIndex(**given, tiles=tiles[::-1], tags={"B": "2", "A": "1"})
        assert mosaic_vrt(one) == mosaic_vrt(other)

    def test_a_pixel_type_that_gdal_lacks_is_an_error(self):
        with pytest.raises(ValidationError, match="float16"):
            MosaicBand(dtype="float16")


SQUARE = ((10.0, 50.0), (10.0, 51.0), (11.0, 51.0), (11.0, 50.0))


class TestGeoJson:
    def test_each_tile_is_a_polygon_with_its_location_sorted_by_name(self):
        data = mosaic_geojson(
            [TileOutline(name=name, outline=SQUARE) for name in ("b.tif", "a ä.tif")]
        )
        found = json.loads(data)
        assert found["type"] == "FeatureCollection"
        assert [each["properties"] for each in found["features"]] == [
            {"location": "a ä.tif"},
            {"location": "b.tif"},
        ]
        assert {each["geometry"]["type"] for each in found["features"]} == {"Polygon"}
        assert data.count(b"\n") == 3

    @pytest.mark.parametrize(
        "outline", [SQUARE, SQUARE[::-1], (*SQUARE, SQUARE[0]), (*SQUARE[::-1], SQUARE[-1])]
    )
    def test_a_ring_is_closed_and_counterclockwise_however_it_was_given(self, outline):
        feature = json.loads(mosaic_geojson([TileOutline(name="a.tif", outline=outline)]))[
            "features"
        ][0]
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert len(ring) == len(SQUARE) + 1
        turns = [
            (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
            for a, b, c in zip(ring, ring[1:], ring[2:], strict=False)
        ]
        assert all(turn > 0 for turn in turns)

    def test_the_last_bits_of_a_coordinate_do_not_change_the_bytes(self):
        def index(shift: float) -> bytes:
            outline = tuple((lon - 10 + shift, lat + shift) for lon, lat in SQUARE)
            return mosaic_geojson([TileOutline(name="a.tif", outline=outline)])

        assert index(1e-13) == index(-1e-13) == index(0.0)

    def test_a_point_that_is_no_number_is_an_error(self):
        with pytest.raises(ValidationError):
            TileOutline(name="a.tif", outline=((math.inf, 0.0), *SQUARE))

    def test_an_empty_mosaic_has_an_empty_index(self):
        assert json.loads(mosaic_geojson([]))["features"] == []
