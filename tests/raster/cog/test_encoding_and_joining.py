"""Encoded tiles and the one COG made of them: other readers see the pixels that went in."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
import tifffile
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow
from rio_cogeo.cogeo import cog_validate
from tests.harness import gdal_validator
from tests.harness.cog_scenes import BLOCK, CASES, UTM, Case, image_of, pushed, scene

from cogmill.errors import PermanentError, Refused
from cogmill.raster.cog.block_index import EncodedBlocks, EncodedTile
from cogmill.raster.cog.block_rows import PixelRows
from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.file_layout import EncodedLevel, cog_header
from cogmill.raster.cog.joining import EncodedPart, JoinedParts, one_cog
from cogmill.raster.cog.reduction import Method, overview_count
from cogmill.raster.cog.tile_encoding import EncodedFile, encode_memory, encode_tile
from cogmill.raster.cog.upper_levels import UpperLevels
from cogmill.raster.cog.verify import verify_cog
from cogmill.raster.geometry.grid import Grid, Window

Array = npt.NDArray[Any]


TILE = 512


def levels_of(image: CogImage, rows: PixelRows, method: Method, count: int) -> list[PixelRows]:
    levels = [rows]
    for _ in range(count):
        levels.append(image.reduction(method).halve(*levels[-1]))
    return levels


def assert_gdal_reads(file: bytes, image: CogImage, levels: list[PixelRows]) -> None:
    with MemoryFile(file) as memory:
        for number, (pixels, mask) in enumerate(levels):
            level = {} if number == 0 else {"overview_level": number - 1}
            with memory.open(**level) as dataset:
                np.testing.assert_array_equal(dataset.read(), pixels)
                assert dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT", "COG") == "COG"
                if mask is not None:
                    np.testing.assert_array_equal(dataset.read_masks(1) != 0, mask)


def assert_tifffile_reads(file: bytes, image: CogImage, levels: list[PixelRows]) -> None:
    with tifffile.TiffFile(io.BytesIO(file)) as tiff:
        step = 2 if image.has_mask else 1
        assert len(tiff.pages) == step * len(levels)
        for number, (pixels, mask) in enumerate(levels):
            found = tiff.pages[number * step].asarray()
            if image.planes == 1 and image.bands > 1:
                found = np.moveaxis(found, -1, 0)
            np.testing.assert_array_equal(found.reshape(pixels.shape), pixels)
            if mask is not None:
                page = tiff.pages[number * step + 1]
                np.testing.assert_array_equal(page.asarray().reshape(mask.shape) != 0, mask)


def assert_valid_cog(path: Path, file: bytes) -> None:
    path.write_bytes(file)
    valid, errors, warnings = cog_validate(str(path), strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize("size", [(200, 137), (64, 64)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_gdal_and_tifffile_read_every_level_of_an_encoded_tile(
    tmp_path: Path, case: Case, size: tuple[int, int]
) -> None:
    image = image_of(case, *size)
    rows = scene(image)
    encoded = encode_tile(image, pushed(rows), case.method)
    levels = levels_of(image, rows, case.method, 3)
    assert_gdal_reads(encoded.data, image, levels)
    assert_tifffile_reads(encoded.data, image, levels)
    assert_valid_cog(tmp_path / "a.tif", encoded.data)
    verify_cog(encoded.data, image, 3, encoded.tile)
    assert len(encoded.data) == encoded.tile.size
    with rasterio.open(tmp_path / "a.tif") as dataset:
        tags = dataset.tags()
        assert tags == {"KEEP": "me", "AREA_OR_POINT": "Area"}
        assert encoded.tile.valid_pixels == count_valid(dataset)
        if image.color_interpretation:
            names = tuple(color.name for color in dataset.colorinterp)
            assert names == image.color_interpretation


def count_valid(dataset: Any) -> int:
    """Return the pixels that GDAL finds valid in any band."""
    colors = [band for band in dataset.indexes if dataset.colorinterp[band - 1].name != "alpha"]
    return int(np.count_nonzero(dataset.read_masks(colors).any(axis=0)))


@pytest.mark.parametrize("case", [CASES[1], CASES[7], CASES[4]], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (5, 1), (5, 5), (1, 90), (100, 37)], ids=str)
def test_the_smallest_tiles_carry_three_overviews_too(case: Case, size: tuple[int, int]) -> None:
    image = image_of(case, *size)
    rows = scene(image)
    encoded = encode_tile(image, pushed(rows), case.method)
    assert len(encoded.tile.blocks.sizes) == 4
    levels = levels_of(image, rows, case.method, 3)
    assert_tifffile_reads(encoded.data, image, levels)
    verify_cog(encoded.data, image, 3, encoded.tile)


def test_how_the_rows_arrive_does_not_change_a_byte() -> None:
    image = image_of(CASES[1], 150, 300)
    rows = scene(image)
    files = {encode_tile(image, pushed(rows, step), "average").data for step in (64, 128, 512)}
    assert len(files) == 1


def test_rows_that_do_not_make_up_the_tile_are_refused() -> None:
    image = image_of(CASES[0], 100, 100)
    pixels, _ = scene(image)
    with pytest.raises(ValueError, match="64 rows of pixels for a tile of 100"):
        encode_tile(image, [(pixels[:, :64], None)], "average")
    with pytest.raises(ValueError, match="are due"):
        encode_tile(image, [(pixels[:, :30], None), (pixels[:, 30:], None)], "average")
    with pytest.raises(ValueError, match="a mask where the image has none"):
        encode_tile(image, [(pixels, np.ones((100, 100), bool))], "average")
    with pytest.raises(ValueError, match="uint16"):
        encode_tile(image, [(pixels.astype("uint16"), None)], "average")


def test_what_gdal_says_of_an_image_is_written_as_gdal_writes_it() -> None:
    image = image_of(Case(3, "int16"), 70, 70).model_copy(
        update={
            "nodata": (-5.0,) * 3,
            "scales": (0.5, 1.0, 2.0),
            "offsets": (10.0, 0.0, -3.0),
            "units": ("m", None, "K"),
            "descriptions": ("height", None, "heat"),
            "color_interpretation": ("blue", "green", "red"),
            "band_tags": ({"WAVE": "1"}, {"STATISTICS_MEAN": "4"}, {}),
            "area_or_point": "Point",
        }
    )
    encoded = encode_tile(image, pushed(scene(image)), "average")
    verify_cog(encoded.data, image, 3, encoded.tile)
    with MemoryFile(encoded.data) as memory, memory.open() as dataset:
        assert dataset.nodata == -5
        assert dataset.scales == image.scales
        assert dataset.offsets == image.offsets
        assert dataset.units == ("m", None, "K")
        assert dataset.descriptions == image.descriptions
        assert [color.name for color in dataset.colorinterp] == ["blue", "green", "red"]
        assert dataset.tags(1) == {"WAVE": "1"}
        assert dataset.tags(2) == {}
        assert dataset.tags()["AREA_OR_POINT"] == "Point"
        assert dataset.transform.to_gdal() == pytest.approx(UTM, rel=1e-15)


@pytest.mark.parametrize("code", ["EPSG:7405", "EPSG:5498", "EPSG:7415", "EPSG:6349"])
def test_a_system_with_heights_that_has_a_code_of_its_own_survives(code: str) -> None:
    image = image_of(Case(), 64, 64)
    # As inspection reads it from a file: the text names the whole by its code, and no part.
    crs = CRS.from_user_input(code)
    grid = image.grid.model_copy(update={"crs": crs.to_wkt(version="WKT2_2019")})
    image = image.model_copy(update={"grid": grid})
    data = encode_tile(image, pushed(scene(image)), "average").data
    with MemoryFile(data) as file, file.open() as dataset:
        assert dataset.crs == crs


def test_what_a_geotiff_cannot_hold_is_refused() -> None:
    with pytest.raises(Refused, match="different nodata"):
        CogImage(**(image_of(Case(2), 9, 9).model_dump() | {"nodata": (1.0, 2.0)}))
    strange = image_of(Case(), 9, 9)
    grid = strange.grid.model_copy(update={"crs": "no such thing"})
    with pytest.raises(Refused, match="does not know the coordinate system"):
        encode_tile(strange.model_copy(update={"grid": grid}), pushed(scene(strange)), "average")


class Made(NamedTuple):
    """A mosaic and the one COG of it."""

    image: CogImage
    files: dict[tuple[int, int], EncodedFile]
    missing: dict[tuple[int, int], EncodedFile]
    levels: list[PixelRows]
    data: bytes


def make_one_cog(case: Case, width: int, height: int) -> Made:
    image = image_of(case, width, height)
    rows = scene(image)
    pixels, mask = rows
    if case.validity in ("nodata", "nan"):
        pixels[:, TILE : 2 * TILE, :TILE] = image.nodata_value
    elif case.validity == "alpha":
        pixels[:, TILE : 2 * TILE, :TILE] = 0
    elif mask is not None:
        pixels[:, TILE : 2 * TILE, :TILE] = 0
        mask[TILE : 2 * TILE, :TILE] = False
    files: dict[tuple[int, int], EncodedFile] = {}
    missing: dict[tuple[int, int], EncodedFile] = {}
    for row in range(-(-height // TILE)):
        for col in range(-(-width // TILE)):
            encoded = encode_place(image, rows, case.method, (row, col))
            (files if encoded.tile.valid_pixels else missing)[row, col] = encoded
    parts = [part_of(file, place) for place, file in files.items()]
    datas = [file.data for file in files.values()]
    mosaic = JoinedParts(
        image, parts, 3, lambda n, offset, length: datas[n][offset : offset + length]
    )
    upper = upper_levels(image, case.method)
    above = b"".join(upper.chunks(mosaic.coarsest()))
    index = EncodedBlocks.model_validate_json(upper.blocks().model_dump_json())
    whole = one_cog(mosaic, index, lambda offset, length: above[offset : offset + length])
    data = b"".join(whole.chunks())
    assert len(data) == whole.header.size
    levels = levels_of(image, rows, case.method, len(whole.levels) - 1)
    return Made(image, files, missing, levels, data)


def part_of(file: EncodedFile, place: tuple[int, int]) -> EncodedPart:
    told = EncodedTile.model_validate_json(file.tile.model_dump_json())
    width, height = told.blocks.sizes[0]
    window = Window(col_off=place[1] * TILE, row_off=place[0] * TILE, width=width, height=height)
    return EncodedPart(window, told.blocks)


def upper_levels(image: CogImage, method: Method) -> UpperLevels:
    count = overview_count(image.grid.width, image.grid.height, image.block)
    return UpperLevels(image, method, range(4, count + 1), given=3)


def encode_place(
    image: CogImage, rows: PixelRows, method: Method, place: tuple[int, int]
) -> EncodedFile:
    pixels, mask = rows
    area = tuple(slice(index * TILE, (index + 1) * TILE) for index in place)
    part = pixels[:, *area]
    x0, dx, _, y0, _, dy = image.grid.transform
    grid = Grid(
        crs=image.grid.crs,
        transform=(x0 + area[1].start * dx, dx, 0, y0 + area[0].start * dy, 0, dy),
        width=part.shape[2],
        height=part.shape[1],
    )
    tile = image.model_copy(update={"grid": grid})
    return encode_tile(tile, pushed((part, None if mask is None else mask[area])), method)


ONE_COGS = [CASES[i] for i in (1, 2, 4, 6, 7, 8, 10)]


@pytest.mark.parametrize("case", ONE_COGS, ids=lambda case: "-".join(map(str, case)))
def test_the_one_cog_holds_the_very_blocks_of_its_tiles(tmp_path: Path, case: Case) -> None:
    made = make_one_cog(case, 1100, 1301)
    assert len(made.levels) == 6
    assert set(made.missing) == (set() if case.validity == "palette" else {(1, 0)})
    assert_gdal_reads(made.data, made.image, made.levels)
    assert_tifffile_reads(made.data, made.image, made.levels)
    assert_valid_cog(tmp_path / "one.tif", made.data)
    verify_cog(made.data, made.image, 5)
    whole = blocks_of(made.data)
    compared = 0
    for (row, col), file in (made.files | made.missing).items():
        tile = blocks_of(file.data)
        for page in range(len(tile)):
            level = page // 2 if made.image.has_mask else page
            per_tile = (TILE >> level) // BLOCK
            area = (
                slice(row * per_tile, row * per_tile + tile[page].shape[1]),
                slice(col * per_tile, col * per_tile + tile[page].shape[2]),
            )
            np.testing.assert_array_equal(whole[page][:, *area], tile[page])
            compared += tile[page].size
    assert compared == sum(page.size for page in whole[: len(blocks_of(file.data))])


def pages_of(tiff: Any) -> Any:
    return list(tiff.pages)


def blocks_of(data: bytes) -> list[npt.NDArray[np.object_]]:
    """Return the encoded blocks of each directory, shape ``(plane, row, col)``, by tifffile."""
    found = []
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        for page in pages_of(tiff):
            cols = -(-page.imagewidth // BLOCK)
            rows = -(-page.imagelength // BLOCK)
            blocks = np.empty(len(page.dataoffsets), object)
            for index, (offset, count) in enumerate(
                zip(page.dataoffsets, page.databytecounts, strict=True)
            ):
                blocks[index] = data[offset : offset + count]
                assert int.from_bytes(data[offset - 4 : offset], "little") == count
                assert data[offset + count : offset + count + 4] == blocks[index][-4:]
            found.append(blocks.reshape(-1, rows, cols))
    return found


def test_a_one_cog_that_fits_in_a_tile_is_that_tile() -> None:
    for size in ((100, 37), (512, 512), (3, 400)):
        made = make_one_cog(CASES[1], *size)
        assert made.data == made.files[0, 0].data


def test_a_tile_file_that_changed_is_not_copied() -> None:
    image = image_of(CASES[0], 100, 37)
    encoded = encode_tile(image, pushed(scene(image)), "average")
    upper = upper_levels(image, "average")
    assert b"".join(upper.chunks(iter(()))) == b""
    for data in (encoded.data[:-9], b"\0" * 3 + encoded.data):

        def read(number: int, at: int, size: int, data: bytes = data) -> bytes:
            return data[at : at + size]

        mosaic = JoinedParts(image, [part_of(encoded, (0, 0))], 3, read)
        with pytest.raises(PermanentError, match="not there any more"):
            list(one_cog(mosaic, upper.blocks(), lambda at, size: b"").chunks())


def test_tiles_of_another_grid_are_refused() -> None:
    image = image_of(CASES[0], 100, 37)
    encoded = encode_tile(image, pushed(scene(image)), "average")
    other = image_of(CASES[0], 600, 37)
    part = part_of(encoded, (0, 0))
    with pytest.raises(ValueError, match="does not end on a block of level 3"):
        JoinedParts(other, [part], 3, lambda *_: b"")
    with pytest.raises(ValueError, match="does not begin on a block of level 3"):
        JoinedParts(other, [replace(part, window=part.window.shift(256, 0))], 3, lambda *_: b"")
    wider = part.window.model_copy(update={"width": 512})
    with pytest.raises(ValueError, match="not its own"):
        JoinedParts(other, [replace(part, window=wider)], 3, lambda *_: b"")
    upper = upper_levels(image_of(CASES[0], 600, 37), "average")
    with pytest.raises(ValueError, match="lead to levels"):
        UpperLevels(image, "average", range(4, 5), given=5)
    with pytest.raises(ValueError, match="not handed over"):
        upper.blocks()


def faked(image: CogImage, count: int) -> list[EncodedLevel]:
    """Return one level of three blocks whose encoded size is only said."""
    counts = np.array([2_000_000_000, 2_000_000_000, count], np.int64)
    return [EncodedLevel(image.grid.width, image.grid.height, counts)]


def test_bigtiff_begins_exactly_where_offsets_no_longer_fit() -> None:
    image = image_of(CASES[0], 3 * BLOCK, BLOCK)
    room = (1 << 32) - 1 - cog_header(image, faked(image, 0)).size
    largest = cog_header(image, faked(image, room))
    assert (largest.size, largest.bigtiff) == ((1 << 32) - 1, False)
    larger = cog_header(image, faked(image, room + 1))
    assert larger.bigtiff
    assert larger.size > 1 << 32


def test_gdal_and_tifffile_read_a_block_behind_four_gigabytes(tmp_path: Path) -> None:
    image = image_of(CASES[0], 3 * BLOCK, BLOCK)
    block = (np.arange(BLOCK * BLOCK) % 251).astype("uint8").reshape(BLOCK, BLOCK)
    data = image.codec.encode(block)
    levels = faked(image, len(data))
    levels[0].image_byte_counts[1] = 2_500_000_000
    head = cog_header(image, levels)
    assert head.bigtiff
    path = tmp_path / "sparse.tif"
    with path.open("wb") as file:
        file.write(head.data)
        file.seek(head.size - 4 - len(data))
        file.write(data + data[-4:])
    assert path.stat().st_size == head.size
    with rasterio.open(path) as dataset:
        window = RasterioWindow(2 * BLOCK, 0, BLOCK, BLOCK)
        np.testing.assert_array_equal(dataset.read(1, window=window), block)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.pages.first.dataoffsets[2] == head.size - 4 - len(data)


def test_every_directory_lies_before_the_data_and_small_overviews_before_large() -> None:
    image = image_of(CASES[1], 1000, 700)
    encoded = encode_tile(image, pushed(scene(image)), "average")
    with tifffile.TiffFile(io.BytesIO(encoded.data)) as tiff:
        offsets = [page.offset for page in pages_of(tiff)]
        kinds = [int(page.subfiletype) for page in pages_of(tiff)]
        starts = [page.dataoffsets[0] for page in tiff.pages[::2]]
        assert kinds == [0, 4, 1, 5, 1, 5, 1, 5]
        assert offsets == sorted(offsets)
        assert starts == sorted(starts, reverse=True)
        assert max(offsets) < min(starts)
        for page, mask in zip(tiff.pages[::2], tiff.pages[1::2], strict=True):
            ends = np.array(page.dataoffsets) + np.array(page.databytecounts)
            np.testing.assert_array_equal(ends + 8, mask.dataoffsets)


@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=str)
def test_the_ghost_area_is_the_one_that_gdals_driver_writes(tmp_path: Path, case: Case) -> None:
    image = image_of(case, 100, 37)
    rows = scene(image)
    mine = encode_tile(image, pushed(rows), "average").data
    with MemoryFile(mine) as memory, memory.open() as dataset:
        rasterio.shutil.copy(dataset, tmp_path / "gdal.tif", driver="COG")
    theirs = (tmp_path / "gdal.tif").read_bytes()
    first = int.from_bytes(theirs[4:8], "little")
    assert mine[:first] == theirs[:first]


def test_the_ghost_area_says_that_bands_lie_apart_and_nothing_of_their_mask() -> None:
    image = image_of(CASES[7], 100, 37)
    data = encode_tile(image, pushed(scene(image)), "average").data
    ghost = data[8 : int.from_bytes(data[4:8], "little")]
    size = int(ghost[len("GDAL_STRUCTURAL_METADATA_SIZE=") :][:6])
    assert len(ghost) - 43 - size in (0, 1)
    assert b"\nINTERLEAVE=BAND\n" in ghost
    assert b"MASK_INTERLEAVED" not in ghost


@pytest.mark.parametrize("case", [CASES[i] for i in (1, 4, 8, 6)], ids=str)
def test_blocks_hold_the_fill_outside_the_image(case: Case) -> None:
    image = image_of(case, 100, 37)
    block = blocks_of(encode_tile(image, pushed(scene(image)), "average").data)[0][0, 0, 1]
    decoded = image.codec.decode(block)
    for outside in (decoded[37:], decoded[:, 100 - BLOCK :]):
        np.testing.assert_array_equal(outside, np.full_like(outside, image.fill))


def test_the_memory_of_a_tile_is_said_in_bytes() -> None:
    image = image_of(Case(4, "float32", "raw"), 4096, 4096)
    raw = 4096 * 4096 * 4 * 4
    assert raw * 4 / 3 < encode_memory(image) < raw * 4 / 3 * 1.2
    assert encode_memory(image, 0.5) < encode_memory(image)


@pytest.mark.external("gdalinfo")
@pytest.mark.parametrize("case", [CASES[i] for i in (1, 4, 6, 7)], ids=str)
def test_gdals_own_validator_finds_nothing(tmp_path: Path, case: Case) -> None:
    made = make_one_cog(case, 1100, 1301)
    for name, data in (("one.tif", made.data), ("tile.tif", made.files[0, 0].data)):
        (tmp_path / name).write_bytes(data)
        gdal_validator.assert_valid(tmp_path / name)
