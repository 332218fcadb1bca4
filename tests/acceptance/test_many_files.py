"""`cogmill run 'in/*.tif' out/`: one COG each, whatever becomes of the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.harness import sources
from tests.harness.command import Mill, begin, until_says
from tests.harness.figure import Figure
from tests.harness.picture import hashes
from tests.harness.rasters import Case

#: Three that will do, one whose block is damaged, and one that is no TIFF.
GOOD = ("a.tif", "b.tif", "c.tif")
BROKEN, JUNK = "damaged.tif", "junk.tif"
CASE = Case(bands=1, options=sources.strips(16, compress="deflate"), nodata=0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in").mkdir()
    for number, name in enumerate((*GOOD, BROKEN)):
        raster = sources.Raster(CASE).sized(300 + 31 * number, 277)
        sources.make(tmp_path / "in" / name, raster)
    data = bytearray((tmp_path / "in" / BROKEN).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    (tmp_path / "in" / BROKEN).write_bytes(data)
    (tmp_path / "in" / JUNK).write_text("no TIFF")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(document: dict[str, Any]) -> dict[str, str]:
    return {Path(job["source"]).name: job["status"] for job in document["jobs"]}


def test_a_refused_and_a_failed_file_stop_no_other(
    mill: Mill, folder: Path, figure: Figure
) -> None:
    ran = mill("run", "in/*.tif", "out/", "--workers", 2)
    figure.command = ran.text
    assert ran.exit_code == 1, ran.said
    assert status(ran.document) == {
        **dict.fromkeys(GOOD, "successful"), BROKEN: "failed", JUNK: "refused",
    }  # fmt: skip
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(GOOD)
    for job in ran.document["jobs"]:
        assert job["output"] == f"{folder}/out/{Path(job['source']).name}"
        assert (job["failure"] is None) == (job["status"] == "successful")
    table = ran.said[ran.said.index("source  ") :]
    assert "cogmill retry " in next(line for line in table.splitlines() if BROKEN in line)
    assert "convert it first" in next(line for line in table.splitlines() if JUNK in line)
    figure.measured("3 successful, 1 failed, 1 refused")


def test_the_same_command_makes_what_is_missing_and_says_what_was_made(
    mill: Mill, folder: Path
) -> None:
    alone = mill.run("in/a.tif", "out/a.tif")
    ran = mill("run", "in/a.tif", "in/b.tif", "out/")
    assert ran.exit_code == 0, ran.said
    assert [job["already_made"] for job in ran.document["jobs"]] == [True, False]
    assert ran.document["jobs"][0]["job_id"] == alone.document["job_id"]
    before = hashes(folder / "out")
    again = mill("run", "in/?.tif", "out/")
    assert (again.exit_code, again.said.count("already made")) == (0, 2)
    assert hashes(folder / "out").items() >= before.items()


def test_refused_files_alone_are_2(mill: Mill, folder: Path) -> None:
    ran = mill("run", "in/a.tif", f"in/{JUNK}", "out/")
    assert ran.exit_code == 2
    assert status(ran.document) == {"a.tif": "successful", JUNK: "refused"}


def test_what_cannot_be_is_refused_before_a_job_is_recorded(mill: Mill, folder: Path) -> None:
    before = mill("jobs").document
    ran = mill("run", "in/a.tif", "in/../in/a.tif", "in/b.tif", "out/")
    assert (ran.exit_code, ran.document["status"]) == (2, "refused")
    assert mill("jobs").document == before


def test_interrupted_it_is_130_and_the_same_command_resumes(mill: Mill, folder: Path) -> None:
    # Seconds of work, so that none of the two is done when the first look has been told.
    for name in GOOD[1:]:
        sources.make(folder / "in" / name, sources.Raster(CASE).sized(1301, 1203))
    options = ("--dst-crs", "EPSG:3857", "--workers", "1")
    mill.run("in/a.tif", "out/a.tif", *options)
    process = begin("run", "in/?.tif", "out/", *options)
    said = until_says(process, "files=0/2")
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "2 files are not done; the same command resumes them: cogmill run 'in/?.tif'" in said
    assert [path.name for path in (folder / "out").glob("*.tif")] == ["a.tif"]
    ran = mill("run", "in/?.tif", "out/", *options)
    assert ran.exit_code == 0, ran.said
    assert [job["already_made"] for job in ran.document["jobs"]] == [True, False, False]
    assert status(ran.document) == dict.fromkeys(GOOD, "successful")


def test_submit_records_all_and_a_worker_does_them(mill: Mill, folder: Path) -> None:
    ran = mill("submit", "in/?.tif", f"in/{JUNK}", "out/")
    assert ran.exit_code == 2
    assert status(ran.document) == {**dict.fromkeys(GOOD, "accepted"), JUNK: "refused"}
    assert mill("worker", "--until-idle", "--workers", 2).exit_code == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(GOOD)


def test_rio_mill_takes_a_pattern_too(folder: Path, mill: Mill) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("rio"), "mill", "in/[ab].tif", "out/"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.tif", "b.tif"]
