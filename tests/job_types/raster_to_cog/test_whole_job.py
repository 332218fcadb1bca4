"""What a whole job leaves in its destination: indexes, and nothing of an older result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.harness.whole_job import WholeJob, write_raster

from cogmill.errors import Refused, SourceChanged
from cogmill.job_types.raster_to_cog import pixel_tasks
from cogmill.storage.local_store import LocalReader, LocalStore
from cogmill.storage.location import Location

MOON = (
    'GEOGCS["Moon",DATUM["D_Moon",SPHEROID["Moon",1737400,0]],PRIMEM["0",0],'
    'UNIT["degree",0.0174532925199433]]'
)
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
#: The whole disc that a satellite sees: no pixel on the raster's edge lies on Earth.
DISC = "+proj=geos +lon_0=-75 +h=35786023 +sweep=x +ellps=GRS80 +units=m"


def ramp(height: int = 700, width: int = 1100, dtype: str = "uint8") -> np.ndarray[Any, Any]:
    rows, cols = np.mgrid[:height, :width]
    return (1 + (rows + cols) % 200).astype(dtype)[np.newaxis]


@pytest.mark.parametrize("crs", [MOON, LOCAL, DISC], ids=["the Moon", "local", "a whole disc"])
def test_pixels_without_an_outline_on_earth_are_copied_and_indexed(tmp_path: Path, crs: str):
    transform = rasterio.Affine(10000, 0, -5500000, 0, -15700, 5500000)
    if crs == MOON:
        transform = rasterio.Affine(0.1, 0, 0, 0, -0.1, 40)
    source = write_raster(tmp_path / "in.tif", ramp(), crs=crs, transform=transform)
    job = WholeJob(source, f"{tmp_path}/out/").run()
    with rasterio.open(str(job.outputs.main)) as file:
        assert np.array_equal(file.read(), ramp())
    index = json.loads((tmp_path / "out" / "mosaic.geojson").read_bytes())
    assert len(index["features"]) == 6
    assert any(each["geometry"] is None for each in index["features"])


def test_a_tile_of_nan_alone_reads_as_nan_from_the_mosaic(tmp_path: Path):
    pixels = ramp(dtype="float32")
    pixels[:, :512, :512] = np.nan
    source = write_raster(tmp_path / "in.tif", pixels)
    job = WholeJob(source, f"{tmp_path}/out/").run()
    assert job.outputs.empty_tiles == 1
    with rasterio.open(str(job.outputs.main)) as file:
        assert np.array_equal(file.read(), pixels, equal_nan=True)


def holes(path: Path, *places: tuple[int, int]) -> Path:
    """Write a raster in which these output tiles have no valid pixel."""
    pixels = ramp()
    for row, col in places:
        pixels[:, row * 512 : (row + 1) * 512, col * 512 : (col + 1) * 512] = 0
    return write_raster(path, pixels, nodata=0)


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def listed(folder: Path) -> set[str]:
    manifest = json.loads((folder / "cogmill.json").read_bytes())
    return {"cogmill.json", *(each["name"] for each in manifest["files"])}


def test_what_a_new_result_does_not_write_again_goes(tmp_path: Path):
    out = tmp_path / "out"
    first = WholeJob(holes(tmp_path / "in.tif"), f"{out}/").run()
    assert "in_r0000_c0001.tif" in names(out)
    holes(tmp_path / "in.tif", (0, 1))
    second = first.next().run()
    assert names(out) == listed(out) == names(out) - {"in_r0000_c0001.tif"}
    holes(tmp_path / "in.tif", (0, 0))
    second.next().run()
    assert names(out) == listed(out)
    assert "in_r0000_c0001.tif" in names(out)


def test_overwriting_another_lineage_leaves_its_tiles_nowhere_and_strangers_alone(tmp_path: Path):
    out = tmp_path / "out"
    WholeJob(holes(tmp_path / "old.tif"), f"{out}/").run()
    (out / "notes.txt").write_text("mine")
    changed = out / "old_r0001_c0001.tif"
    changed.write_bytes(b"mine too")
    WholeJob(holes(tmp_path / "new.tif"), f"{out}/", generation=2, overwrite=True).run()
    assert names(out) == listed(out) | {"notes.txt", changed.name}


def test_a_publish_that_is_repeated_behind_its_successor_withdraws_nothing(tmp_path: Path):
    out = tmp_path / "out"
    job = WholeJob(holes(tmp_path / "in.tif"), f"{out}/").run(until="overviews")
    job.publish()()
    before = {each: each.stat().st_mtime_ns for each in out.glob("*.*") if each.is_file()}
    job.publish()()
    assert {each: each.stat().st_mtime_ns for each in before} == before


def test_two_names_of_one_destination_have_one_owner(tmp_path: Path):
    source = holes(tmp_path / "in.tif")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    owners = {
        WholeJob(source, f"{tmp_path}/{name}/out/").preflight().owns for name in ("real", "link")
    }
    assert owners == {f"{tmp_path.resolve()}/real/out/"}


def test_a_source_that_is_replaced_after_it_was_asked_about_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = WholeJob(holes(tmp_path / "in.tif"), f"{tmp_path}/out/")
    job.preflight()
    replaced = LocalStore.open

    def open_another(store: LocalStore, location: Location) -> LocalReader:
        holes(tmp_path / "in.tif", (0, 0))
        return replaced(store, location)

    monkeypatch.setattr(LocalStore, "open", open_another)
    with pytest.raises(SourceChanged, match="changed while the job ran"):
        job.run_planned()


def test_a_result_that_was_looked_at_is_still_ours(tmp_path: Path):
    out = tmp_path / "out"
    job = WholeJob(holes(tmp_path / "in.tif"), f"{out}/").run()
    (out / "mosaic.vrt.aux.xml").write_text("<PAMDataset/>")
    job.next().preflight()
    (out / "foreign.tif.aux.xml").write_text("<PAMDataset/>")
    with pytest.raises(Refused, match=r"foreign\.tif\.aux\.xml"):
        job.next().preflight()


def test_one_cog_is_the_same_however_few_of_its_tiles_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = holes(tmp_path / "in.tif")
    WholeJob(source, f"{tmp_path}/all/one.tif").run()
    monkeypatch.setattr(pixel_tasks, "MOST_OPEN", 1)
    WholeJob(source, f"{tmp_path}/few/one.tif").run()
    made = [(tmp_path / folder / "one.tif").read_bytes() for folder in ("all", "few")]
    assert made[0] == made[1]


def test_the_mosaic_says_of_itself_what_its_tiles_say(tmp_path: Path):
    source = holes(tmp_path / "in.tif")
    with rasterio.open(source, "r+") as file:
        file.update_tags(scene="7", TIFFTAG_DATETIME="2020:01:01 00:00:00")
        file.update_tags(1, channel="red", STATISTICS_MEAN="3")
    main = Path(str(WholeJob(source, f"{tmp_path}/out/").run().outputs.main))
    for path in (main, main.with_name("in_r0000_c0000.tif")):
        with rasterio.open(path) as file:
            assert file.tags() == {"scene": "7", "AREA_OR_POINT": "Area"}
            assert file.tags(1) == {"channel": "red"}


def test_colours_that_are_multiplied_by_alpha_are_warned_about(tmp_path: Path):
    pixels = np.repeat(ramp(), 4, axis=0)
    source = write_raster(tmp_path / "in.tif", pixels, photometric="RGB", alpha="PREMULTIPLIED")
    found = WholeJob(source, f"{tmp_path}/out/").preflight()
    assert "multiplied by the alpha band" in json.dumps(found.prepared)
