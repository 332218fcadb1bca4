"""The command line as a contract: exit codes, JSON, progress, interruption, several processes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.harness import sources
from tests.harness.command import COMMAND, Mill, begin, until_says
from tests.harness.figure import Figure
from tests.harness.picture import hashes
from tests.harness.rasters import Case

PATIENCE = 90.0
TO_WEB = (*sources.SMALL, "--dst-crs", "EPSG:3857")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a striped raster of 3 x 3 output tiles and more."""
    case = Case(bands=3, options=sources.strips(16, compress="deflate"), nodata=0)
    folder = tmp_path_factory.mktemp("command-line")
    return sources.make(folder / "source.tif", sources.Raster(case))


def test_json_carries_the_result_the_figures_and_the_plan(
    mill: Mill, source: Path, tmp_path: Path, figure: Figure
) -> None:
    ran = mill.run(source, tmp_path / "out", *TO_WEB)
    figure.command = ran.text
    document = ran.document
    promised = "job_id status outputs seconds peak_memory_bytes attempts counted failure plan"
    assert set(promised.split()) <= set(document)
    assert document["seconds"] > 0
    assert document["peak_memory_bytes"] > 2**20
    assert document["attempts"] >= 9
    assert document["outputs"]["main"].startswith(str(tmp_path))
    plan = document["plan"]
    assert plan["structure"]["layout"] == "striped"
    assert plan["strategy"] in ("direct", "two-stage")
    assert plan["reason"]
    assert set(plan["target_grid"]) == {"crs", "transform", "width", "height"}
    warped = {"engine", "resampling", "xscale", "yscale", "coordinate_operation"}
    assert warped <= set(plan["warp"])
    assert plan["memory"]["total"] == sum(plan["memory"]["parts"].values())
    for way in ("direct", "two-stage", "naive"):
        assert {"tasks", "requests", "bytes", "decodes"} <= set(plan["cost"][way])
    counted = plan["cost"]["counted"]
    assert counted["strategy"] == plan["strategy"]
    predicted = plan["cost"][plan["strategy"]]
    assert counted["bytes"] == predicted["bytes"]
    assert any(command.startswith("gdalwarp") for command in plan["gdalwarp"])


def test_jobs_show_and_inspect_print_one_object_each(
    mill: Mill, source: Path, tmp_path: Path
) -> None:
    made = mill.run(source, tmp_path / "out.tif", *TO_WEB).document
    listed = mill("jobs").document["jobs"]
    assert listed[0]["job_id"] == made["job_id"]
    assert listed[0]["destination"] == str(tmp_path / "out.tif")
    shown = mill("show", made["job_id"][:10]).document
    assert shown["outputs"] == made["outputs"]
    assert shown["plan"] == made["plan"]
    assert [stage["status"] for stage in shown["stages"]] == ["closed"] * len(shown["stages"])
    inspected = mill.inspect(source, *TO_WEB).document
    assert inspected["plan"]["target_grid"] == made["plan"]["target_grid"]
    repaired = mill("reconcile", "--once", "--dry-run")
    assert (repaired.exit_code, repaired.document["dry_run"]) == (0, True)
    assert mill("show", "zzzz").exit_code == 2


def test_inspect_and_doctor_need_no_database(source: Path, tmp_path: Path) -> None:
    nowhere = {"COGMILL_DATABASE_URL": "postgresql://nobody:hush@127.0.0.1:1/none"}
    inspecting = begin("inspect", source, "--json", **nowhere)
    out, err = inspecting.communicate(timeout=PATIENCE)
    assert inspecting.returncode == 0, err
    assert json.loads(out)["plan"]["strategy"]
    asking = begin("doctor", "--json", **nowhere, COGMILL_HOME=str(tmp_path / "home"))
    out, err = asking.communicate(timeout=PATIENCE)
    assert asking.returncode == 1
    parts = json.loads(out)["parts"]
    answers = {name: part["ok"] for name, part in parts.items()}
    assert answers == {"home": True, "child": True, "database": False}
    assert "gdal 3." in parts["child"]["says"]
    assert "hush" not in out + err


def test_the_plan_can_be_drawn(mill: Mill, source: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ran = mill.inspect(source, *TO_WEB, "--plot", tmp_path / "plan.png")
    picture = (tmp_path / "plan.png").read_bytes()
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG")
    assert (width >= 1200, height > 0) == (True, True)
    assert ran.document["plot"] == str(tmp_path / "plan.png")


def test_a_second_time_there_is_nothing_to_do(mill: Mill, source: Path, tmp_path: Path) -> None:
    first = mill.run(source, tmp_path / "out", *TO_WEB)
    again = mill.run(source, tmp_path / "out", *TO_WEB)
    assert "nothing to do" in again.said
    assert again.document == first.document


def interrupted(mill: Mill, source: Path, destination: Path, number: signal.Signals) -> str:
    """Interrupt a run once its first tile is there; return what it said."""
    process = begin("run", source, destination, *TO_WEB, "--workers", "1", "--memory", "1GB")
    said = until_says(process, "stage=")
    job = said.split("job=")[1].split()[0]
    until = time.monotonic() + PATIENCE
    while sum(stage["succeeded"] for stage in mill("show", job).document["stages"]) < 1:
        assert time.monotonic() < until
        assert process.poll() is None
    process.send_signal(number)
    out, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said + rest
    assert out == ""
    return said + rest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_interrupted_it_ends_with_130_and_the_same_command_resumes_it(
    number: signal.Signals, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    case = Case(bands=3, options=sources.strips(16, compress="deflate"), nodata=0)
    source = sources.make(tmp_path / "source.tif", sources.Raster(case, 1703, 1607))
    said = interrupted(mill, source, tmp_path / "out", number)
    assert "the same command resumes it: cogmill run" in said
    job = said.split("job=")[1].split()[0]
    before = mill("show", job).document
    assert before["status"] == "running"
    assert sum(stage["running"] for stage in before["stages"]) == 0
    ran = mill.run(source, tmp_path / "out", *TO_WEB, "--workers", "1", "--memory", "1GB")
    figure.command = ran.text
    assert ran.document["job_id"] == before["job_id"]
    after = mill("show", job).document
    # An interrupted attempt is given back and begun again; a finished one is not.
    planned = sum(stage["planned"] for stage in after["stages"]) + len(after["stages"])
    figure.measured(after["attempts"], planned + 1)
    assert after["attempts"] <= planned + 1


def test_a_second_interruption_ends_it_at_once(source: Path, tmp_path: Path) -> None:
    process = begin("run", source, tmp_path / "out", *TO_WEB, "--workers", "1", "--memory", "1GB")
    until_says(process, "stage=")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert time.monotonic() - began < 10


def test_several_processes_share_one_home(mill: Mill, source: Path, tmp_path: Path) -> None:
    submitted = mill("submit", source, tmp_path / "out", *TO_WEB, "--memory", "1GB")
    assert submitted.exit_code == 0
    assert submitted.document["status"] == "accepted"
    options = ("--until-idle", "--workers", "1", "--memory", "1GB")
    workers = [begin("worker", *options) for _ in range(2)]
    for worker in workers:
        _, said = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0, said
    shown = mill("show", submitted.document["job_id"]).document
    assert shown["status"] == "successful"
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_worker_that_ends_when_idle_names_what_failed_meanwhile(
    mill: Mill, source: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.tif"
    shutil.copy(source, changed)
    job = mill("submit", changed, tmp_path / "out", *TO_WEB, "--memory", "1GB").document["job_id"]
    with changed.open("ab") as file:
        file.write(b"x")
    worked = mill("worker", "--until-idle", "--workers", "1", "--memory", "1GB")
    assert worked.exit_code == 1
    assert worked.document["failed"] == [job]
    assert f"job {job[:12]} failed: " in worked.said
    assert f"`cogmill show {job[:12]}`" in worked.said
    # It is no failure of the next worker.
    assert mill("worker", "--until-idle", "--workers", "1").document["failed"] == []


def test_other_options_into_an_earlier_output_name_the_job_that_made_it(
    mill: Mill, source: Path, tmp_path: Path
) -> None:
    made = mill.run(source, tmp_path / "out.tif", "--co", "LEVEL=1")
    assert made.said.splitlines()[0].endswith("copied exactly; `cogmill inspect` says how and why")
    refused = mill("run", source, tmp_path / "out.tif", "--co", "LEVEL=9")
    assert refused.exit_code == 2
    assert refused.document["failure"]["code"] == "destination-taken"
    assert f"job {made.document['job_id'][:12]} was the last to write there" in refused.said
    # What lies there may also be nobody's, or that of a job of the same options, since changed.
    (tmp_path / "foreign.tif").write_bytes(source.read_bytes())
    (tmp_path / "out.tif").write_bytes(source.read_bytes())
    for name, level in (("foreign", 9), ("out", 1)):
        refused = mill("run", source, tmp_path / f"{name}.tif", "--co", f"LEVEL={level}")
        assert refused.exit_code == 2
        assert "was the last to write there" not in refused.said


def test_run_joins_a_job_that_was_submitted(mill: Mill, source: Path, tmp_path: Path) -> None:
    submitted = mill("submit", source, tmp_path / "out", *TO_WEB)
    ran = mill.run(source, tmp_path / "out", *TO_WEB)
    assert ran.document["job_id"] == submitted.document["job_id"]


def test_a_dismissed_job_is_cleaned_up_and_the_same_command_begins_anew(
    mill: Mill, source: Path, tmp_path: Path
) -> None:
    submitted = mill("submit", source, tmp_path / "out", *TO_WEB).document
    dismissed = mill("dismiss", submitted["job_id"][:12])
    assert (dismissed.exit_code, dismissed.document["status"]) == (0, "dismissed")
    ran = mill.run(source, tmp_path / "out", *TO_WEB).document
    assert ran["job_id"] != submitted["job_id"]
    assert mill("dismiss", ran["job_id"]).exit_code == 2
    assert hashes(tmp_path / "out")


def test_a_terminal_shows_a_bar_with_stage_tasks_rate_and_time_left(
    source: Path, tmp_path: Path
) -> None:
    shown = on_a_terminal(["run", str(source), str(tmp_path / "out"), *TO_WEB], LANG="C.UTF-8")
    assert "tiles" in shown
    assert "tasks" in shown
    assert "Mpx/s" in shown
    assert "left" in shown
    assert "stage=" not in shown


def test_a_terminal_without_unicode_gets_ascii(source: Path, tmp_path: Path) -> None:
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    shown = on_a_terminal(["run", str(source), str(tmp_path / "ü"), *TO_WEB], **ascii_only)
    assert "Mpx/s" in shown
    assert shown.isascii()
    assert "\\xfc" in shown


def on_a_terminal(arguments: Sequence[str], **environment: str) -> str:
    """Run a command on a terminal of 100 columns and return all that it drew."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=its, stdout=its, stderr=its, close_fds=True,
        env={**os.environ, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(its)
    drawn = b""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                drawn += os.read(ours, 65536)
            except OSError:  # the terminal's other end is closed: it has ended
                break
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == 0, drawn.decode(errors="replace")
    return drawn.decode()


def test_a_reader_that_goes_away_does_not_stop_the_job(source: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "run", str(source), str(tmp_path / "out"), *TO_WEB, "--json"],
        stdout=writing, stderr=writing,
    )  # fmt: skip
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    assert process.wait(timeout=PATIENCE) == 0
    assert (tmp_path / "out" / "cogmill.json").exists()


def test_the_python_api_submits_waits_and_shows_outputs(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys, cogmill\n"
        "job = cogmill.submit(sys.argv[1], sys.argv[2], dst_crs='EPSG:3857',"
        " blocksize=64, tile_size=512)\n"
        "assert job.status == 'accepted', job.status\n"
        "job.wait()\n"
        "print(job.status, job.outputs['main'])\n"
        "assert cogmill.submit(sys.argv[1], sys.argv[2], dst_crs='EPSG:3857',"
        " blocksize=64, tile_size=512).id == job.id\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(tmp_path / "out.tif")],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["successful", str(tmp_path / "out.tif")]
