"""What inspection finds, in how many reads, and what it refuses in which words."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from tests.harness.rasters import CASES, HEIGHT, WIDTH, Case, FileBytes, sidecar, write

from cogmill.errors import Refused
from cogmill.raster.gdal import environment, versions
from cogmill.raster.inspect.structure import Structure, inspect_tiff
from cogmill.raster.plan.decisions import holds_classes
from cogmill.raster.tiff.block_table import BlockTable


def seen(path: Path) -> Structure:
    return inspect_tiff(FileBytes(path), str(path), sidecar(path))


@pytest.fixture
def case(tmp_path: Path) -> Callable[[str], Structure]:
    return lambda name: seen(write(tmp_path / "raster.tif", CASES[name]))


def test_strips_come_from_the_tags_and_not_from_gdal(tmp_path: Path) -> None:
    path = write(tmp_path / "raster.tif", CASES["one strip"])
    image = seen(path).image
    assert (image.striped, image.block_width, image.block_height) == (True, WIDTH, HEIGHT)
    assert image.blocks.length == 1
    with rasterio.open(path) as dataset:
        assert dataset.block_shapes[0][0] < HEIGHT


def test_one_tile_as_wide_as_the_raster_is_tiled(case: Callable[[str], Structure]) -> None:
    image = case("one tile wide").image
    assert (image.striped, image.block_width, image.blocks_across) == (False, 224, 1)


def test_layout_byte_order_and_codec_are_those_of_the_file(
    case: Callable[[str], Structure],
) -> None:
    found = case("striped uint16 x4, big-endian")
    assert (found.tiff.byte_order, found.tiff.bigtiff, found.dtype, found.bands) == (
        "big",
        False,
        "uint16",
        4,
    )
    image = found.image
    assert (image.planar, image.compression, image.predictor) == ("pixel", "deflate", 2)
    assert (image.block_height, image.blocks_down, image.planes) == (9, 20, 1)
    assert image.block_bytes == WIDTH * 9 * 4 * 2
    by_band = case("int16 by band").image
    assert (by_band.planar, by_band.planes, by_band.blocks.length) == ("band", 3, 3 * 16)
    assert case("bigtiff").tiff.bigtiff


def test_a_plan_carries_it_as_json_without_loss(case: Callable[[str], Structure]) -> None:
    found = case("tiled float32")
    text = found.model_dump_json()
    assert "NaN" not in text.replace('"NaN"', "")
    again = Structure.model_validate_json(text)
    assert again.model_dump_json() == text
    assert np.isnan(again.nodata[0] or 0)
    np.testing.assert_array_equal(again.image.blocks.offsets, found.image.blocks.offsets)


def test_many_strips_stay_small_in_a_plan_and_take_few_reads(tmp_path: Path) -> None:
    path = tmp_path / "many.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, width=4, height=60000, blockysize=1,
        transform=Affine(1, 0, 5, 0, -1, 5),
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((1, 60000, 4), np.uint8))
    file = FileBytes(path)
    found = inspect_tiff(file, str(path))
    assert found.image.blocks.length == 60000
    assert len(found.model_dump_json()) < 10000
    assert len(file.ranges) <= 6


def test_a_block_table_is_what_went_into_it() -> None:
    offsets = np.array([2**40, 0, 8, 2**62], np.int64)
    counts = np.array([5, 0, 2**33, 1], np.int64)
    table = BlockTable.model_validate_json(BlockTable.of(offsets, counts).model_dump_json())
    np.testing.assert_array_equal(table.offsets, offsets)
    np.testing.assert_array_equal(table.byte_counts, counts)
    assert table.sparse.tolist() == [False, True, False, False]


def test_meaning_comes_from_gdal_and_statistics_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rich.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="int16", count=2, width=20, height=10, crs="EPSG:27700",
        transform=Affine(2, 0, 100, 0, -2, 900), nodata=-1, alpha="yes",
    ) as dataset:  # fmt: skip
        dataset.write(np.zeros((2, 10, 20), np.int16))
        dataset.update_tags(season="dry", STATISTICS_MEAN="4")
        dataset.update_tags(2, STATISTICS_MAXIMUM="7", sensor="x")
        dataset.update_tags(ns="private", key="value")
        dataset.scales, dataset.offsets = (0.5, 2.0), (1.0, 0.0)
        dataset.units = ("m", "")
        dataset.descriptions = ("height", None)
        dataset.update_tags(AREA_OR_POINT="Point")
    found = seen(path)
    assert found.crs is not None
    assert rasterio.crs.CRS.from_wkt(found.crs).to_epsg() == 27700
    assert list(found.transform or ()) == [100, 2, 0, 900, 0, -2]
    assert list(found.nodata) == [-1, -1]
    assert (found.alpha_band, found.color_interpretation) == (2, ("gray", "alpha"))
    assert (found.scales, found.offsets) == ((0.5, 2.0), (1.0, 0.0))
    assert (found.units, found.descriptions) == (("m", None), ("height", None))
    assert (found.tags, found.band_tags) == ({"season": "dry"}, ({}, {"sensor": "x"}))
    assert (found.tag_domains, found.area_or_point) == (("private",), "Point")


def test_palette_and_one_bit_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "bits.tif", CASES["one bit"])
    assert seen(path).image.bits == 1
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, width=8, height=8,
        transform=Affine(1, 0, 5, 0, -1, 5),
    ) as dataset:  # fmt: skip
        dataset.write(np.zeros((1, 8, 8), np.uint8))
        dataset.write_colormap(1, {0: (1, 2, 3, 255), 7: (9, 8, 7, 255)})
    palette = seen(path).palette
    assert palette is not None
    assert len(palette) == 256
    assert (palette[0], palette[7]) == ((1, 2, 3, 255), (9, 8, 7, 255))


def test_a_raster_without_place_has_neither_crs_nor_transform(tmp_path: Path) -> None:
    path = tmp_path / "bare.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(
            path, "w", driver="GTiff", dtype="uint8", count=1, width=8, height=8
        ) as dataset,
    ):
        dataset.write(np.zeros((1, 8, 8), np.uint8))
    found = seen(path)
    assert (found.crs, found.transform, found.gcps, found.rpcs) == (None, None, (), None)


def test_masks_overviews_and_sparse_blocks_are_found(
    case: Callable[[str], Structure], tmp_path: Path
) -> None:
    inside, beside = case("internal mask"), case("sidecar mask")
    assert (inside.mask_source, beside.mask_source) == ("internal", "sidecar")
    assert beside.mask is not None
    assert (beside.mask.width, beside.mask.samples) == (WIDTH, 1)
    assert [Path(name).name for name in beside.contributing_files] == [
        "raster.tif",
        "raster.tif.msk",
    ]
    assert case("sparse").sparse_blocks == 16 - 2
    path = write(tmp_path / "levels.tif", CASES["internal mask"])
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
    assert seen(path).overviews == ((106, 87), (53, 44))


def test_sidecars_are_found_without_listing_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "raster.tif", CASES["sidecar mask"])
    with rasterio.open(path) as dataset:
        wkt = dataset.crs.to_wkt()
    bare = tmp_path / "bare.tif"
    with rasterio.open(
        bare, "w", driver="GTiff", dtype="uint8", count=1, width=8, height=8,
        transform=Affine(1, 0, 5, 0, -1, 5),
    ) as dataset:  # fmt: skip
        dataset.write(np.zeros((1, 8, 8), np.uint8))
    (tmp_path / "bare.tif.aux.xml").write_text(f"<PAMDataset><SRS>{wkt}</SRS></PAMDataset>")
    with environment(1 << 24):
        assert seen(path).mask_source == "sidecar"
        found = seen(bare)
    assert found.crs is not None
    assert [Path(name).name for name in found.contributing_files] == [
        "bare.tif",
        "bare.tif.aux.xml",
    ]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def _cut_in_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _short_table(path: Path) -> None:
    """Set the image's length to twice its own."""
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 257, 3, 1))
    content[at + 8 : at + 12] = struct.pack("<I", 2 * HEIGHT)
    path.write_bytes(content)


def _unknown_codec(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 259, 3, 1))
    content[at + 8 : at + 12] = struct.pack("<I", 34712)
    path.write_bytes(content)


def _cmyk(path: Path) -> None:
    write(path, Case(bands=4, options={"photometric": "cmyk", "compress": "jpeg"}, smooth=True))


def _two_images(path: Path) -> None:
    other = write(path.with_name("second.tif"), CASES["striped rgb, plain"])
    with rasterio.open(other) as dataset:
        pixels, profile = dataset.read(), dataset.profile
    profile.update(APPEND_SUBDATASET="YES")
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)


def _mask_left_out(path: Path) -> None:
    shutil.copy(write(path.with_name("other.tif"), CASES["sidecar mask"]), path)
    path.with_name("other.tif.msk").rename(path.with_name(path.name + ".msk"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b""), r"is empty; name a GeoTIFF"),
        (lambda path: path.write_text("a,b\n1,2\n" * 9), r"is not a TIFF; convert it"),
        (lambda path: path.write_bytes(b"II"), r"is not a TIFF"),
        (lambda path: path.write_bytes(b"II*\0"), r"cannot be read .*; the file is damaged"),
        (lambda path: path.write_bytes(b"II*\0" + b"\xff" * 90), r"holds no image of full size"),
        (_cut, r"1 of 25 blocks of raster.tif lie past the end .* block 24 .*; the file was cut"),
        (_cut_in_header, r"cannot be read .*damaged"),
        (_short_table, r"lists 25 blocks where its size wants 50"),
        (_unknown_codec, r"compressed with jpeg_?2000.*, which is not decoded; write it with"),
        (_cmyk, r"CMYK, of which GDAL makes red, green, blue and alpha; convert it first"),
        (_two_images, r"holds 2 images \(1: 211 x 173, 2: 211 x 173\), and one must be chosen"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_with_a_remedy(
    spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "raster.tif", CASES["striped rgb, plain"])
    spoil(path)
    with pytest.raises(Refused, match=words) as refusal:
        seen(path)
    assert refusal.value.remedy
    assert "\n" not in str(refusal.value)


def test_a_mask_file_that_was_not_handed_over_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "raster.tif", CASES["sidecar mask"])
    with pytest.raises(Refused, match=r"hand over raster\.tif\.msk too"):
        inspect_tiff(FileBytes(path), str(path))


def test_complex_integers_are_refused_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "complex.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="complex_int16", count=1, width=8, height=8,
        transform=Affine(1, 0, 5, 0, -1, 5),
    ) as dataset:  # fmt: skip
        dataset.write(np.zeros((1, 8, 8), np.complex64))
    with pytest.raises(Refused, match=r"complex integers.*-ot CFloat32"):
        seen(path)


def test_any_header_cut_anywhere_is_refused_and_never_a_traceback(tmp_path: Path) -> None:
    whole = write(
        tmp_path / "raster.tif", Case(bands=3, options={"compress": "deflate"})
    ).read_bytes()
    path = tmp_path / "cut.tif"
    for length in [*range(0, 700, 23), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(Refused):
            seen(path)


def test_damaged_tags_are_refused_or_read_and_never_a_traceback(tmp_path: Path) -> None:
    whole = write(tmp_path / "raster.tif", CASES["striped rgb, deflate"]).read_bytes()
    path = tmp_path / "damaged.tif"
    random = np.random.default_rng(5)
    for _ in range(150):
        content = bytearray(whole)
        for at in random.integers(4, 400, 3):
            content[at] = random.integers(0, 256)
        path.write_bytes(content)
        try:
            seen(path)
        except Refused as refusal:
            assert "\n" not in str(refusal)


def test_metadata_whose_domain_has_no_readable_name_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "raster.tif", CASES["one strip"])
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="names", key="value")
    path.write_bytes(path.read_bytes().replace(b"names", b"n\xfcmes"))
    with pytest.raises(Refused, match=r"the header of raster\.tif cannot be read"):
        seen(path)


def test_the_environment_reaches_gdal_in_bytes() -> None:
    with environment(33_554_432):
        found = rasterio.env.getenv()
        assert found["GDAL_CACHEMAX"] == 33_554_432
        assert found["GDAL_NUM_THREADS"] == "1" or found["GDAL_NUM_THREADS"] == 1


def test_the_engine_names_every_library_that_decides_bytes() -> None:
    found = versions()
    assert json.dumps(found)
    for part in ("gdal", "gdal_proj", "gdal_proj_data", "pyproj_proj", "numpy", "libdeflate"):
        assert found[part], part
    assert "zstd" in found


def test_a_file_beside_the_raster_that_gdal_takes_for_no_mask_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "raster.tif", CASES["one strip"])
    write(path.with_name("raster.tif.msk"), CASES["one strip"])
    assert seen(path).mask is None


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "raster.tif", CASES["one strip"])
    other = write(tmp_path / "other.tif", CASES["sidecar mask"], height=HEIGHT + 16)
    other.with_name("other.tif.msk").rename(tmp_path / "raster.tif.msk")
    with pytest.raises(Refused, match=f"{WIDTH} x {HEIGHT + 16} for pixels of {WIDTH} x {HEIGHT}"):
        seen(path)


@pytest.mark.parametrize(("dtype", "value"), [("uint64", 2**64 - 1), ("int64", -(2**53) - 1)])
def test_nodata_that_a_float_cannot_hold_is_refused(tmp_path: Path, dtype: str, value: int) -> None:
    path = tmp_path / "raster.tif"
    tag = (42113, "s", 0, str(value), True)
    tifffile.imwrite(path, np.zeros((64, 64), dtype), extratags=[tag])
    with pytest.raises(Refused, match=f"nodata value {value}"):
        seen(path)


def test_values_with_names_are_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "raster.tif", CASES["one strip"])
    names = "<CategoryNames><Category>sea</Category><Category>land</Category></CategoryNames>"
    path.with_name("raster.tif.aux.xml").write_text(
        f"<PAMDataset><PAMRasterBand band='1'>{names}"
        "<Metadata domain='mine'><MDI key='a'>1</MDI></Metadata></PAMRasterBand></PAMDataset>"
    )
    found = seen(path)
    assert found.categories
    assert found.tag_domains == ("mine",)
    assert holds_classes(found)
