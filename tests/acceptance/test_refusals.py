"""What cannot be done is refused before anything is recorded, in one line, and leaves no trace."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import rasterio
import tifffile
from rasterio.control import GroundControlPoint
from tests.harness import sources
from tests.harness.command import Mill, Typed
from tests.harness.figure import Figure
from tests.harness.picture import hashes
from tests.harness.rasters import Case

SIDE = 300
STRIPED = Case(bands=3, options=sources.strips(16, compress="deflate"), nodata=0)


def good(folder: Path, crs: str | None = "EPSG:32633") -> Path:
    """Make a source that nothing is wrong with."""
    raster = sources.Raster(STRIPED, SIDE, SIDE, crs=crs)
    return sources.make(folder / "source.tif", raster)


def missing(folder: Path) -> Path:
    return folder / "source.tif"


def empty(folder: Path) -> Path:
    (folder / "source.tif").touch()
    return folder / "source.tif"


def text(folder: Path) -> Path:
    (folder / "source.tif").write_text("This is not a picture.\n" * 100)
    return folder / "source.tif"


def a_folder(folder: Path) -> Path:
    good(folder)
    return folder


def without_crs(folder: Path) -> Path:
    return good(folder, crs=None)


def with_gcps_only(folder: Path) -> Path:
    path = folder / "source.tif"
    corners = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)]
    points = [GroundControlPoint(row, col, 12 + col / 1e4, 47 - row / 1e4) for row, col in corners]
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="uint8",
        gcps=points, crs="EPSG:4326",
    ) as dataset:  # fmt: skip
        dataset.write(sources.picture(sources.Raster(Case(), SIDE, SIDE)))
    return path


def cut_short(folder: Path) -> Path:
    path = good(folder)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    return path


@dataclass(frozen=True)
class Refusal:
    """A command that must be refused: what its source is, where it goes, what it is told."""

    says: tuple[str, ...]
    source: Callable[[Path], Path] = good
    destination: str = "out/"
    options: tuple[str, ...] = ("--dst-crs", "EPSG:3857")
    before: Callable[[Path], object] = lambda folder: None


def foreign(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "holiday.txt").write_text("not yours")


REFUSALS = {
    "missing file": Refusal(("source.tif", "does not exist"), missing),
    "empty file": Refusal(("source.tif", "empty"), empty),
    "text file": Refusal(("source.tif", "TIFF"), text),
    "folder as source": Refusal(("folder", "name one"), a_folder, destination="../out/"),
    "no CRS": Refusal(("--src-crs",), without_crs),
    "unknown CRS": Refusal(("EPSG:999999",), options=("--dst-crs", "EPSG:999999")),
    "unwritable destination": Refusal(("/proc/cogmill",), destination="/proc/cogmill/out/"),
    "destination below a file": Refusal(("source.tif",), destination="source.tif/out/"),
    "foreign files in the destination": Refusal(("holiday.txt", "--overwrite"), before=foreign),
    "foreign file in place of the one COG": Refusal(
        ("taken.tif", "--overwrite"),
        destination="taken.tif",
        before=lambda folder: (folder / "taken.tif").write_text("not yours"),
    ),
    "a mask that readers would take for the one COG's": Refusal(
        ("one.tif.msk", "move it away"),
        destination="one.tif",
        before=lambda folder: (folder / "one.tif.msk").write_text("left behind"),
    ),
    "source inside the destination": Refusal(("source.tif", "somewhere else"), destination="."),
    "source equal to the destination": Refusal(
        ("source.tif", "somewhere else"), destination="source.tif"
    ),
    "too little memory": Refusal(("--memory", "256 MB"), options=("--memory", "10MB")),
    "too little memory for the work": Refusal(
        ("--memory",), options=("--dst-crs", "EPSG:3857", "--memory", "256MB", "--workers", "64")
    ),
    "more memory than there is": Refusal(("--memory", "at most"), options=("--memory", "900TB")),
    "bounds beside the source": Refusal(
        ("--bounds", "does not touch"),
        options=("--dst-crs", "EPSG:3857", "--bounds", "0", "0", "9999", "9999"),
    ),
    "negative resolution": Refusal(
        ("-10", "positive"), options=("--dst-crs", "EPSG:3857", "--resolution", "-10")
    ),
    "absurdly fine resolution": Refusal(
        ("--resolution",), options=("--dst-crs", "EPSG:3857", "--resolution", "1e-9")
    ),
    "absurdly coarse resolution": Refusal(
        ("--resolution",), options=("--dst-crs", "EPSG:3857", "--resolution", "1e12")
    ),
    "unknown resampling": Refusal(("best", "bilinear"), options=("--resampling", "best")),
    "unknown profile": Refusal(("zip", "deflate"), options=("--profile", "zip")),
    "unknown option": Refusal(("--fast", "--help"), options=("--fast",)),
    "GCP-only": Refusal(("control points",), with_gcps_only),
    "blocks that lie past the end of the file": Refusal(("past the end",), cut_short),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_exit_2_with_one_line_that_names_the_remedy_and_nothing_left_behind(
    case: Refusal, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    _is_refused(case, mill, mill, tmp_path, figure)


@pytest.mark.parametrize(
    "name", ["unknown option", "text file", "foreign files in the destination"]
)
def test_a_process_says_and_leaves_the_same_for_wrong_usage_a_bad_source_and_a_bad_destination(
    name: str, typed: Typed, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    _is_refused(REFUSALS[name], typed, mill, tmp_path, figure)


def _is_refused(
    case: Refusal, command: Typed | Mill, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    source = case.source(folder)
    case.before(folder)
    before = hashes(tmp_path), sorted(tmp_path.rglob("*"))
    ran = command("run", source, os.path.join(folder, case.destination), *case.options)
    figure.command = ran.text
    figure.measured(ran.exit_code, 2)
    assert ran.exit_code == 2, ran.said
    lines = ran.said.strip().splitlines()
    assert len(lines) == 1, ran.said
    assert [part for part in case.says if part not in lines[0]] == [], lines[0]
    assert ran.document["status"] == "refused"
    # What is wrong; what to do.
    assert ran.document["failure"]["message"] in lines[0]
    assert ran.document["failure"]["remedy"] in lines[0]
    assert ran.document["failure"]["remedy"]
    assert (hashes(tmp_path), sorted(tmp_path.rglob("*"))) == before
    recorded = mill("jobs", "--limit", "1000").document["jobs"]
    assert str(folder) not in " ".join(str(job["source"]) for job in recorded)


@pytest.mark.parametrize("destination", ["out/", "out.tif"])
def test_a_block_that_does_not_decode_fails_the_job_with_its_address_and_publishes_nothing(
    destination: str, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    source = good(tmp_path)
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages.first
        offset, size = page.dataoffsets[7], page.databytecounts[7]
    with source.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)
    place = tmp_path / "results"
    place.mkdir()
    ran = mill("run", source, place / destination, *sources.SMALL, "--dst-crs", "EPSG:3857")
    figure.command = ran.text
    figure.measured(ran.exit_code, 1)
    assert ran.exit_code == 1, ran.said
    assert ran.document["status"] == "failed"
    assert ran.document["outputs"] is None
    failure = ran.document["failure"]
    assert failure["code"] == "block-undecodable"
    assert str(offset) in failure["message"]
    assert failure["message"] in ran.said
    assert "Traceback" not in ran.said
    visible = [
        path
        for path in place.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    ]
    assert visible == []
    # Not retried: a task that failed for good was attempted once.
    shown = mill("show", ran.document["job_id"]).document
    assert sum(stage["failed"] for stage in shown["stages"]) >= 1
    assert sum(stage["retrying"] for stage in shown["stages"]) == 0
    assert mill("show", ran.document["job_id"][:8]).document["failure"] == failure


def test_a_staging_area_that_cannot_be_written_is_refused_before_the_work(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COGMILL_STAGING", f"{tmp_path}/file/area")
    ran = mill("run", good(tmp_path), tmp_path / "out.tif")
    assert ran.exit_code == 2
    assert f"{tmp_path}/file/area/ cannot be written" in ran.said
