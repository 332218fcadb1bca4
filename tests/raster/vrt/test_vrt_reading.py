"""VRTs: the same bytes however they are cut, and a member that cannot be read fails the job."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from tests.harness import vrt_makers as virtual
from tests.harness.rasters import HEIGHT, WIDTH, Case, write
from tests.harness.reference import Kind, make_spec
from tests.harness.whole_job import SMALL, WholeJob, tools

from cogmill.errors import BlockUndecodable, Refused, SourceChanged, SourceWindowTooSmall
from cogmill.job_types.raster_to_cog.members import inspected_vrt
from cogmill.raster import gdal
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.inspect.source_file import VrtSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.vrt import vrt_document
from cogmill.raster.vrt.vrt_reading import opened_vrt, window_portions
from cogmill.raster.warp.exact_warp import warp
from cogmill.storage.location import Location

MERCATOR: dict[str, Any] = {**SMALL, "dst_crs": "EPSG:3857"}
A, B = virtual.source("a.tif"), virtual.source("b.tif")
BIG = {"height": 4 * HEIGHT + 3, "width": 6 * WIDTH + 5}
KINDS: dict[str, virtual.Maker] = {
    "mosaic of tiles": virtual.mosaic(bands=3),
    "mosaic of strips": virtual.mosaic(dtype="int16", nodata="-7", options=virtual.STRIPS),
    "nested": virtual.nested(bands=2),
    "mask": virtual.masked,
    "bands apart": virtual.of(virtual.band(A), virtual.band(B)),
    "computed": virtual.of(
        virtual.band(
            "<PixelFunctionType>diff</PixelFunctionType>" + A + B, "Int16", "VRTDerivedRasterBand"
        )
    ),
    "lets through": virtual.of(
        virtual.band(A + virtual.source("b.tif", kind="ComplexSource", inner="<NODATA>7</NODATA>"))
    ),
}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    with gdal.environment(16 << 20):
        yield


def seen(path: Path) -> Structure:
    return inspected_vrt(Location.parse(str(path)), None, tools())


def read(structure: Structure, window: Window | None = None) -> Any:
    assert isinstance(structure.file, VrtSource)
    whole = Window(col_off=0, row_off=0, width=structure.width, height=structure.height)
    with opened_vrt(structure, structure.file) as reader:
        return reader.read(window or whole)


def translated(path: Path) -> Path:
    made = path.with_name("translated.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        rasterio.shutil.copy(path, made, driver="GTiff", tiled=True, blockxsize=64, blockysize=64)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_the_raster_that_gdal_makes_of_it_however_it_is_cut(
    kind: str, tmp_path: Path
) -> None:
    path = KINDS[kind](tmp_path)
    ways: dict[str, tuple[Path, dict[str, Any], int]] = {
        "plain": (path, {}, 1 << 30),
        "fragments": (path, {"work_tile": 64}, 1 << 30),
        "direct": (path, {"strategy": "direct", "work_tile": 128}, 1 << 30),
        "two stages": (path, {"strategy": "two-stage"}, 1 << 30),
        "translated": (translated(path), {}, 1 << 30),
    }
    made = {}
    for way, (source, options, memory) in ways.items():
        out = tmp_path / f"as {way}.tif"
        WholeJob(source, str(out), options={**MERCATOR, **options}, memory=memory).run()
        made[way] = hashlib.sha256(out.read_bytes()).hexdigest()
    assert set(made.values()) == {made["plain"]}


def test_the_bytes_do_not_depend_on_the_memory(tmp_path: Path) -> None:
    size = (BIG["width"], BIG["height"])
    whole = f'xSize="{size[0]}" ySize="{size[1]}"'
    text = virtual.source("a.tif", size=size)
    text = text.replace(f'xSize="{WIDTH}" ySize="{HEIGHT}"', whole)
    write(tmp_path / "a.tif", Case("float32", 1, virtual.STRIPS), **BIG)
    path = virtual.document(tmp_path / "input.vrt", [virtual.band(text, "Float32")], size)
    sums, plans = set(), set()
    for number, memory in enumerate((1 << 30, 155 << 20, 153 << 20)):
        out = tmp_path / f"{number}.tif"
        job = WholeJob(path, str(out), options=MERCATOR, memory=memory).run()
        sums.add(hashlib.sha256(out.read_bytes()).hexdigest())
        prepared: Any = job.found.prepared
        tiles = prepared["summary"]["tiles"]
        plans.add((tiles["pieces"], tiles["fragments"], *tiles["work"]))
    assert len(plans) == 3
    assert len(sums) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_what_gdal_reads_of_the_file_itself(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path)
    structure = seen(path)
    random = np.random.default_rng(1)
    with rasterio.open(path) as dataset:
        pixels, mask = dataset.read(), dataset.dataset_mask()
    for _ in range(12):
        cols = sorted(random.choice(structure.width + 1, 2, replace=False).tolist())
        rows = sorted(random.choice(structure.height + 1, 2, replace=False).tolist())
        window = Window.spanning(cols[0], rows[0], cols[1], rows[1])
        assert window is not None
        held = read(structure, window)
        np.testing.assert_array_equal(held.pixels, pixels[:, *window.slices])
        if structure.mask is not None:
            np.testing.assert_array_equal(held.mask, mask[window.slices])


def test_portions_cover_a_window_once_and_hold_whole_blocks(tmp_path: Path) -> None:
    layout = seen(virtual.mosaic()(tmp_path)).image
    window = Window(col_off=3, row_off=5, width=400, height=300)
    covered = np.zeros((layout.height, layout.width), np.uint8)
    for part in window_portions(layout, window):
        covered[part.slices] += 1
        assert part.row_off // layout.block_height == (part.row_stop - 1) // layout.block_height
    expected = np.zeros_like(covered)
    expected[window.slices] = 1
    np.testing.assert_array_equal(covered, expected)


def _delete(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _text(path: Path) -> None:
    path.write_text("no raster")


def _other_size(path: Path) -> None:
    path.unlink()
    write(path, Case(bands=1), height=HEIGHT - 9)


SPOILS: list[Callable[[Path], None]] = [_delete, _cut, _text, _other_size]


@pytest.mark.parametrize("make", [virtual.mosaic(), virtual.nested()], ids=["flat", "nested"])
@pytest.mark.parametrize("spoil", SPOILS[:3])
def test_a_member_that_cannot_be_read_is_never_read_as_nodata(
    make: virtual.Maker, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    path = make(tmp_path)
    structure = seen(path)
    (member,) = tmp_path.rglob("b.tif")
    good = member.read_bytes()
    for value in range(5):
        spoil(member)
        with pytest.raises(BlockUndecodable, match="cannot be read"):
            read(structure)
        # What GDAL keeps of the failure must not speak for the member once it is back.
        member.unlink(missing_ok=True)
        member.write_bytes(good)
        with rasterio.open(member, "r+") as dataset:
            dataset.write(np.full((1, HEIGHT, WIDTH), value + 1, np.uint8))
        found = read(structure).pixels[0, :HEIGHT, WIDTH:]
        np.testing.assert_array_equal(found, value + 1)


def test_a_reader_that_failed_once_reads_no_more(tmp_path: Path) -> None:
    structure = seen(virtual.mosaic()(tmp_path))
    assert isinstance(structure.file, VrtSource)
    with opened_vrt(structure, structure.file) as reader:
        (tmp_path / "b.tif").unlink()
        window = Window(col_off=0, row_off=0, width=2 * WIDTH, height=HEIGHT)
        with pytest.raises(BlockUndecodable):
            reader.read(window)
        with pytest.raises(ValueError, match="could not be read"):
            reader.read(window)


@pytest.mark.parametrize("strategy", ["direct", "two-stage"])
@pytest.mark.parametrize("spoil", [*SPOILS, lambda path: os.utime(path, (1, 1))])
@pytest.mark.parametrize("name", ["b.tif", "input.vrt", "middle.vrt", "b.tif.aux.xml"])
def test_whatever_changes_after_planning_fails_the_job(
    name: str, spoil: Callable[[Path], None], strategy: str, tmp_path: Path
) -> None:
    path = virtual.nested()(tmp_path)
    (member,) = tmp_path.rglob("b.tif")
    member.with_name("b.tif.aux.xml").write_text("<PAMDataset/>")
    job = WholeJob(path, f"{tmp_path}/out/", options={**MERCATOR, "strategy": strategy})
    job.preflight()
    (changed,) = tmp_path.rglob(name)
    spoil(changed)
    with pytest.raises(SourceChanged, match=f"{changed} (changed|is gone)"):
        job.run_planned()
    assert not list((tmp_path / "out").glob("*.tif"))


def test_every_file_of_a_vrt_is_part_of_the_sources_identity(tmp_path: Path) -> None:
    path = virtual.nested()(tmp_path)
    (member,) = tmp_path.rglob("b.tif")
    first = WholeJob(path, f"{tmp_path}/out/", options=MERCATOR).preflight()
    os.utime(member, (1, 1))
    second = WholeJob(path, f"{tmp_path}/out/", options=MERCATOR).preflight()
    assert first.source_identity != second.source_identity
    names = {Path(name).name for name in seen(path).contributing_files}
    assert names == {"input.vrt", "middle.vrt", "mosaic.vrt", "a.tif", "b.tif", "c.tif"}


def test_a_destination_that_is_a_member_is_refused(tmp_path: Path) -> None:
    path = virtual.mosaic()(tmp_path)
    for destination in ("b.tif", "./"):
        job = WholeJob(path, str(tmp_path / destination), overwrite=True)
        with pytest.raises(Refused, match="lies in the destination"):
            job.preflight()


def test_a_vrt_that_is_reached_by_a_link_names_its_members_from_where_it_lies(
    tmp_path: Path,
) -> None:
    there, here = tmp_path / "there" / "deep", tmp_path / "here"
    there.mkdir(parents=True)
    here.mkdir()
    virtual.members(there.parent, "a.tif")
    virtual.document(there / "input.vrt", [virtual.band(virtual.source("../a.tif"))])
    (here / "link.vrt").symlink_to(there / "input.vrt")
    with rasterio.open(here / "link.vrt") as dataset:
        np.testing.assert_array_equal(read(seen(here / "link.vrt")).pixels, dataset.read())


@pytest.mark.parametrize("absolute", [False, True])
def test_a_member_beyond_a_linked_folder_is_the_one_that_the_file_system_finds(
    tmp_path: Path, *, absolute: bool
) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    virtual.members(tmp_path, "a.tif", "real/a.tif")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    name = f"{tmp_path}/./link//../a.tif" if absolute else "link/../a.tif"
    band = virtual.band(virtual.source(name, relative=int(not absolute)))
    path = virtual.document(tmp_path / "input.vrt", [band])
    with rasterio.open(tmp_path / "real" / "a.tif") as dataset:
        np.testing.assert_array_equal(read(seen(path)).pixels, dataset.read())


def test_blocks_are_those_of_the_members_where_they_agree(tmp_path: Path) -> None:
    tiles = seen(virtual.mosaic()(_folder(tmp_path, "tiles"))).image
    assert (tiles.block_width, tiles.block_height, tiles.striped) == (64, 48, False)
    strips = seen(virtual.of(virtual.band(A), options=virtual.STRIPS)(_folder(tmp_path, "one")))
    assert (strips.image.block_height, strips.image.striped) == (16, True)
    beside = seen(virtual.mosaic(options=virtual.STRIPS)(_folder(tmp_path, "beside"))).image
    assert (beside.block_width, beside.block_height, beside.striped) == (WIDTH, 16, False)
    unlike = virtual.mosaic()(_folder(tmp_path, "unlike"))
    write(unlike.with_name("b.tif"), Case(options=virtual.STRIPS))
    image = seen(unlike).image
    assert (image.block_width, image.block_height, image.striped) == (128, 128, False)


@pytest.mark.parametrize("said", ["none", "64.0", "", "-3", "0", "9" * 5000])
def test_a_side_of_blocks_that_is_no_number_is_the_one_that_gdal_takes_of_itself(
    said: str, tmp_path: Path
) -> None:
    sides = f"<BlockXSize>{said}</BlockXSize><BlockYSize>64</BlockYSize>"
    path = virtual.of(virtual.band(A + B), extra=sides)(tmp_path)
    write(path.with_name("b.tif"), Case(options=virtual.STRIPS))
    image = seen(path).image
    assert (image.block_width, image.block_height) == (128, 64)


@pytest.mark.parametrize("name", ["subClass", "subclass", "SUBCLASS"])
def test_what_a_vrt_is_counts_in_any_case_of_the_attributes_name(name: str, tmp_path: Path) -> None:
    path = virtual.of(virtual.band("<PixelFunctionType>sum</PixelFunctionType>" + A + B))(tmp_path)
    text = path.read_text().replace(
        "<VRTRasterBand", f'<VRTRasterBand {name}="VRTDerivedRasterBand"'
    )
    path.write_text(text)
    file = seen(path).file
    assert isinstance(file, VrtSource)
    assert file.pixel_scratch >= 2 * 8
    path.write_text(text.replace("<VRTDataset", f'<VRTDataset {name}="VRTWarpedDataset"'))
    with pytest.raises(Refused, match="is a VRT with a VRTWarpedDataset"):
        seen(path)


def test_vrts_that_name_each_other_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = virtual.nested(bands=2)(tmp_path)
    file = seen(path).file
    assert isinstance(file, VrtSource)
    assert file.text.count("c.tif") == 2**3  # each of two bands, in three VRTs
    monkeypatch.setattr(vrt_document, "_LONGEST", len(file.text) // 2)
    with pytest.raises(Refused, match=r"input\.vrt names .*\.vrt too often to be written out"):
        seen(path)


def test_a_vrt_that_says_it_is_endless_has_no_endless_table(tmp_path: Path) -> None:
    virtual.members(tmp_path, "a.tif")
    size = (2**31 - 1, 2**31 - 1)
    path = virtual.document(tmp_path / "input.vrt", [virtual.band(A)], size)
    assert seen(path).image.blocks.length <= 1 << 20
    with pytest.raises(Refused, match="output tiles"):
        WholeJob(path, f"{tmp_path}/out/").preflight()


def test_what_gdal_may_hold_is_no_part_of_what_decides_the_bytes(tmp_path: Path) -> None:
    prepared: Any = WholeJob(virtual.mosaic()(tmp_path), f"{tmp_path}/out/").preflight().prepared
    plan = RasterPlan.model_validate(prepared["plan"])
    structure = plan.structure
    roomy = structure.file.model_copy(update={"decoding_bytes": 1 << 30})
    other = plan.model_copy(update={"structure": structure.model_copy(update={"file": roomy})})
    assert other.structure.file != structure.file
    assert RasterPlan.model_validate(other.model_dump()).identity == plan.identity


def test_files_that_are_replaced_are_read_anew_by_the_same_process(tmp_path: Path) -> None:
    path = virtual.nested()(tmp_path)
    (member,) = tmp_path.rglob("b.tif")
    structure = seen(path)
    for seed in range(6):
        write(member.with_name("new.tif"), Case(options=virtual.TILES, seed=seed)).replace(member)
        with rasterio.open(member) as dataset:
            expected = dataset.read()
        found = read(structure).pixels[:, :HEIGHT, WIDTH:]
        np.testing.assert_array_equal(found, expected)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def test_what_is_fetched_is_an_estimate_from_the_members_and_said_to_be(tmp_path: Path) -> None:
    path = virtual.mosaic(bands=3)(tmp_path)
    job = WholeJob(path, f"{tmp_path}/out/", options=MERCATOR)
    prepared: Any = job.preflight().prepared
    assert any(line.startswith("Estimates: ") for line in prepared["explained"])
    structure = prepared["summary"]["structure"]
    assert structure["members"] == 3
    assert structure["text"].startswith("VRT of 3 rasters, ")
    stored = sum((tmp_path / name).stat().st_size for name in virtual.MOSAIC)
    fetched = prepared["summary"]["cost"]["two-stage"]["bytes"]
    assert 0.8 * stored < fetched <= stored


def test_a_vrt_of_more_tiles_than_a_plan_can_hold_is_refused_where_pixels_are_copied(
    tmp_path: Path,
) -> None:
    virtual.members(tmp_path, "a.tif")
    path = virtual.document(tmp_path / "input.vrt", [virtual.band(A)], (2**31 - 1, 1))
    with pytest.raises(Refused, match="2147483647 x 1 pixels"):
        WholeJob(path, f"{tmp_path}/out/").preflight()


def test_a_block_size_that_is_no_number_is_not_heeded(tmp_path: Path) -> None:
    unlike = virtual.mosaic()(tmp_path)
    write(unlike.with_name("b.tif"), Case(options=virtual.STRIPS))
    end = "</VRTDataset>"
    odd = "<BlockXSize>a few</BlockXSize><BlockYSize> 64 </BlockYSize>" + end
    unlike.write_text(unlike.read_text().replace(end, odd))
    assert (seen(unlike).image.block_width, seen(unlike).image.block_height) == (128, 64)


@pytest.mark.parametrize(("said", "nodata"), [("1", None), ("yes", None), ("0", 7.0), ("no", 7.0)])
def test_a_nodata_value_that_is_hidden_only_fills(
    said: str, nodata: float | None, tmp_path: Path
) -> None:
    path = virtual.mosaic(nodata="7")(tmp_path)
    hidden = f"</NoDataValue><HideNoDataValue>{said}</HideNoDataValue>"
    path.write_text(path.read_text().replace("</NoDataValue>", hidden))
    structure = seen(path)
    assert structure.nodata == (nodata,)
    with rasterio.open(path) as dataset:
        assert dataset.nodatavals == (nodata,)
        np.testing.assert_array_equal(read(structure).pixels, dataset.read())


@pytest.mark.parametrize(
    ("function", "sources"), [("diff", A + B + A), ("nosuch", A), ("interpolate_linear", A + B)]
)
@pytest.mark.parametrize("where", ["band", "mask", "nested"])
def test_a_function_that_fails_is_refused_for_gdal_may_give_zeros_instead(
    function: str, sources: str, where: str, tmp_path: Path
) -> None:
    virtual.members(tmp_path, "a.tif", "b.tif")
    name = f"<PixelFunctionType>{function}</PixelFunctionType>"
    bands = [virtual.band(name + sources, subclass="VRTDerivedRasterBand")]
    path = tmp_path / "input.vrt"
    match where:
        case "band":
            virtual.document(path, bands)
        case "mask":
            virtual.document(path, [virtual.band(A)], extra=f"<MaskBand>{bands[0]}</MaskBand>")
        case _:
            virtual.document(tmp_path / "inner.vrt", bands)
            virtual.document(path, [virtual.band(virtual.source("inner.vrt"))])
    with pytest.raises(Refused, match=f"function '{function}', which fails"):
        seen(path)


def test_a_band_is_named_in_digits_that_gdal_reads(tmp_path: Path) -> None:
    path = virtual.of(virtual.band(virtual.source("a.tif", band="\u0661")))(tmp_path)
    with pytest.raises(Refused, match="reads band \u0661 of"):
        seen(path)


def test_a_document_type_is_refused_before_it_is_expanded(tmp_path: Path) -> None:
    path = virtual.of(virtual.band(A))(tmp_path)
    path.write_text('<?xml version="1.0"?><!DOCTYPE V [<!ENTITY a "b">]>' + path.read_text())
    with pytest.raises(Refused, match="declares a document type"):
        seen(path)


def test_a_window_that_is_too_small_fails_a_second_time_after_a_vrt_in_a_vrt(
    tmp_path: Path,
) -> None:
    read(seen(virtual.nested()(tmp_path)))
    spec = make_spec("utm-3857", Kind("float32"), "bilinear")
    for _ in range(3):
        corner = Window(col_off=0, row_off=0, width=40, height=40)
        held = HeldPixels(window=corner, pixels=np.ones((1, 40, 40), np.float32), mask=None)
        with pytest.raises(SourceWindowTooSmall):
            warp(spec, held, spec.target.window)
