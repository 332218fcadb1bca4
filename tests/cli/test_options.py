"""What the command line makes of its arguments, and how it says what is wrong. No database."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import imwrite

from cogmill.cli import console
from cogmill.cli.console import Output, size_text, time_text
from cogmill.cli.doctor import settings_document
from cogmill.cli.main import call, mill
from cogmill.cli.options import key_value, plan_fields, resolution
from cogmill.cli.progress import Meter, watching
from cogmill.core_machine.contracts import Job, JobStatus, Stage
from cogmill.core_machine.orchestration import JobProcessor
from cogmill.core_machine.worker.run_jobs import Look
from cogmill.errors import Refused
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.request import raster_inputs, stage_pixels
from cogmill.raster.memory import budget_text
from cogmill.raster.plan.plan_summary import GridSummary, PlanSummary, SourceSummary
from cogmill.runtime import tools
from cogmill.settings import Settings, child_budget, machine_memory

WRONG = {
    "an unknown option": (["run", "a", "b", "--foo"], "--foo", "--help"),
    "a missing destination": (["run", "a"], "DST", "cogmill run --help"),
    "an unknown command": (["mill"], "mill", "--help"),
    "memory that is no size": (["run", "a", "b", "--memory", "much"], "--memory", "3.5GB"),
    "too little memory": (["run", "a", "b", "--memory", "1MB"], "--memory", "at least 256 MB"),
    "more memory than there is": (["run", "a", "b", "--memory", "900TB"], "--memory", "at most"),
    "no worker": (["run", "a", "b", "--workers", "0"], "--workers", "1<=x<=256"),
    "a resolution that is none": (["run", "a", "b", "--resolution", "x"], "pixel size", "10,20"),
    "a negative resolution": (["run", "a", "b", "--resolution", "-3"], "-3", "positive"),
    "an infinite resolution": (["run", "a", "b", "--resolution", "inf"], "inf", "positive"),
    "an option without a value": (["run", "a", "b", "--co", "LEVEL"], "LEVEL", "KEY=VALUE"),
    "an unknown creation option": (["run", "a", "b", "--co", "X=1"], "--co X", "COMPRESS"),
    "an unknown kernel": (["run", "a", "b", "--resampling", "best"], "best", "bilinear"),
    "an unknown profile": (["run", "a", "b", "--profile", "zip"], "zip", "deflate"),
    "an unknown strategy": (["run", "a", "b", "--strategy", "x"], "--strategy", "two-stage"),
    "an odd tile size": (["run", "a", "b", "--tile-size", "1000"], "1000", "--tile-size 4096"),
    "empty bounds": (["inspect", "a", "--bounds", "3", "0", "1", "1"], "--bounds", "left < right"),
    "an unknown store": (["run", "s4://a/b.tif", "b"], "s4://", "on disk"),
    "a plot nowhere": (["inspect", "a", "--plot", "/nowhere/p.png"], "/nowhere", "make it"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("json_too", [False, True], ids=["for people", "for programs"])
def test_wrong_usage_ends_with_2_and_one_line_that_names_the_remedy(
    case: tuple[list[str], str, str],
    json_too: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, wrong, remedy = case
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COGMILL_HOME", str(tmp_path / "home"))
    code = call([*arguments, "--json"] if json_too else arguments)
    said = capsys.readouterr()
    assert code == 2
    assert said.err.count("\n") == 1
    assert wrong in said.err
    assert remedy in said.err
    if json_too:
        document = json.loads(said.out)
        assert document["status"] == "refused"
        assert wrong in document["failure"]["message"]
    else:
        assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_defect_ends_with_1_and_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**given: Any) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("cogmill.cli.jobs.load_settings", broken)
    assert call(["jobs"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "RuntimeError: two lines" in said.err
    assert "--log-level DEBUG" in said.err


def test_an_interruption_before_the_work_began_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cogmill.cli.jobs.load_settings", interrupted)
    assert call(["jobs"]) == 130
    assert "resumes" in capsys.readouterr().err


def test_help_names_every_command_and_goes_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["--help"]) == 0
    shown = capsys.readouterr().out
    names = "run inspect submit jobs show dismiss worker reconcile migrate doctor"
    assert [name for name in names.split() if f"  {name} " not in shown] == []


@pytest.mark.parametrize(
    ("text", "sides"), [("10", (10, 10)), ("10,20", (10, 20)), ("0.5, 1e-3", (0.5, 0.001))]
)
def test_a_resolution_is_one_number_or_two(text: str, sides: tuple[float, float]) -> None:
    assert resolution(text) == sides


def test_a_creation_option_may_hold_an_equals_sign() -> None:
    assert key_value("A=b=c") == ("A", "b=c")


def asked(**options: Any) -> dict[str, Any]:
    """Return what click hands over when nothing but `options` was given."""
    given = dict.fromkeys((*RasterToCog.inputs.model_fields,))
    for name in ("source", "destination", "overwrite", "memory", "workers"):
        del given[name]
    return {**given, "creation_options": (), "strict_crs": False, "exact": False, **options}


def test_options_left_alone_are_left_out_of_the_lineage() -> None:
    job_type = RasterToCog()
    with tools(Settings.load(), lambda done: None, memory=0) as parts:
        plain = raster_inputs("/a.tif", "/b/", plan_fields(asked()), parts.storage)
        named = {"blocksize": 512, "strategy": "two-stage", "work_tile": 512}
        spelled_out = raster_inputs("/a.tif", "/b", plan_fields(asked(**named)), parts.storage)
        other = raster_inputs("/a.tif", "/b/", plan_fields(asked(nodata=0.0)), parts.storage)
    assert job_type.lineage(plain) == job_type.lineage(spelled_out)
    assert job_type.lineage(plain) != job_type.lineage(other)


def test_locations_become_absolute_and_a_tif_is_one_cog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with tools(Settings.load(), lambda done: None, memory=0) as parts:
        mosaic = raster_inputs("a.tif", "out", {}, parts.storage)
        one = raster_inputs("../a.tif", "out.tif", {}, parts.storage)
    assert str(mosaic.source) == f"{tmp_path}/a.tif"
    assert str(mosaic.target) == f"{tmp_path}/out/"
    assert str(one.source) == f"{tmp_path.parent}/a.tif"
    assert str(one.target) == f"{tmp_path}/out.tif"


def test_the_budget_that_a_refusal_names_is_what_a_worker_then_gives_its_child() -> None:
    # Siblings that may not import each other: `raster` names the budget, the machine cuts it.
    needed, workers = 300 * 2**20, 3
    settings = Settings.load(memory=budget_text(needed, workers), workers=workers)
    assert needed <= child_budget(settings.memory, settings.workers) < needed + 10 * 2**20


def test_the_memory_of_the_machine_is_the_most_that_is_offered() -> None:
    assert 0 < Settings.load().memory < machine_memory()


@pytest.mark.parametrize("content", [b"workers = = 1\n", b"\xff\xfe"], ids=["no TOML", "no text"])
def test_a_configuration_file_that_cannot_be_read_is_refused_by_name(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cogmill.toml").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=f"{tmp_path}/cogmill.toml cannot be read"):
        Settings.load()


def test_a_variable_that_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COGMILL_HOME", raising=False)
    unset = Settings.load()
    monkeypatch.setenv("COGMILL_HOME", "")
    monkeypatch.setenv("COGMILL_DATABASE_URL", "")
    assert Settings.load() == unset


@pytest.mark.parametrize("priority", [-(2**15), 2**15])
def test_a_priority_that_the_database_has_no_room_for_is_refused(priority: int) -> None:
    nothing: Any = None
    with pytest.raises(Refused, match="from -32767 to 32767"):
        JobProcessor(nothing, nothing, nothing, nothing).submit("any", nothing, priority=priority)


def test_a_secret_is_shown_as_stars() -> None:
    settings = Settings.load(database_url="postgresql://me:hush@db/cogmill")
    assert "hush" not in json.dumps(settings_document(settings), default=str)


def job(status: JobStatus = JobStatus.RUNNING) -> Job:
    return Job(
        id="ab" * 16, lineage="l", generation=1, type="raster-to-cog", version=1, inputs={},
        source_identity="s", engine="e", reach="any", owns=None, prepared="p", priority=0,
        status=status, outputs=None, failure=None, created_at=datetime.now(UTC),
        started_at=None, finished_at=None,
    )  # fmt: skip


def stage(name: str, status: str, succeeded: int = 0, planned: int | None = None) -> Stage:
    return Stage(
        position=0, name=name, status=status, planned=planned, remaining=None, succeeded=succeeded
    )


#: Pixels of each stage of a job in two stages.
PIXELS = {"pieces": 1000.0, "tiles": 2000.0}


def seen(meter: Meter) -> tuple[str, str, float, float | None]:
    return meter.stage, meter.tasks_text, meter.done, meter.seconds_left


def test_progress_counts_the_pixels_of_both_stages_and_never_goes_back() -> None:
    now = [0.0]
    meter = Meter(PIXELS, clock=lambda: now[0])
    assert meter.total == 3000
    meter.look(Look(job(), (stage("pieces", "running", 1, 4), stage("tiles", "pending")), 250))
    assert seen(meter) == ("pieces", "1/4", 500, None)
    now[0] = 10.0
    meter.look(Look(job(), (stage("pieces", "running", 2, 4), stage("tiles", "pending")), 100))
    assert meter.rate == 10
    # A pixel of the target takes eight times one of the source: 400 + 8 x 2000 at 10 a second.
    assert seen(meter) == ("pieces", "2/4", 600, 1640)
    # A worker died: what its attempt had done is not done.
    meter.look(Look(job(), (stage("pieces", "running", 2, 4), stage("tiles", "pending")), 0))
    assert meter.done == 600
    meter.look(Look(job(), (stage("pieces", "closed", 4, 4), stage("tiles", "planning")), 0))
    assert seen(meter) == ("tiles", "0/?", 1000, None)
    meter.look(Look(job(), (stage("pieces", "closed", 4, 4), stage("tiles", "closed", 1, 1)), 0))
    assert (meter.done, meter.share) == (3000, 1)


def test_direct_work_counts_the_target_alone() -> None:
    direct = summary(strategy="direct")
    assert stage_pixels(direct) == {"tiles": 2000}
    assert stage_pixels(direct.model_copy(update={"strategy": "two-stage"})) == PIXELS
    assert stage_pixels(None) == {}


def summary(**given: Any) -> PlanSummary:
    """Make the summary of a plan of which only strategy and sizes matter."""
    source: dict[str, Any] = {"width": 100, "height": 10}
    grid: dict[str, Any] = {"width": 100, "height": 20}
    return PlanSummary.model_construct(
        structure=SourceSummary.model_construct(**source),
        target_grid=GridSummary.model_construct(**grid),
        **given,
    )


def test_another_job_type_shows_tasks_without_pixels() -> None:
    meter = Meter({})
    meter.look(Look(job(), (stage("squares", "running", 1, 4),), 3))
    assert seen(meter) == ("squares", "1/4", 0, None)


def test_progress_is_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(Output(), "ab" * 16, PIXELS) as show:
        show(Look(job(), (stage("tiles", "running", 1, 4),), 0))
        show(Look(job(), (stage("tiles", "running", 2, 4),), 0))
        show(Look(job(), (stage("publish", "running", 0, 1),), 0))
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[2:4] for line in said] == [
        ["stage=tiles", "tasks=1/4"],
        ["stage=publish", "tasks=0/1"],
    ]


def test_quiet_says_nothing_but_errors(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(quiet=True)
    with watching(out, "ab" * 16, PIXELS) as show:
        show(Look(job(), (stage("tiles", "running", 1, 4),), 0))
    out.say("a")
    out.table(("b",), [("c",)])
    out.error("d")
    assert capsys.readouterr().err == "cogmill: d\n"


def test_a_name_that_the_terminal_cannot_write_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    console.write_line(stream, "f\u00fcr \U0001f5fa")
    stream.seek(0)
    assert stream.read() == "f\\xfcr \\U0001f5fa\n"


def test_a_reader_that_goes_away_stops_nothing() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        os.close(reading)
        console.write_line(stream, "one")
        console.write_line(stream, "two")


def test_a_full_disk_under_standard_error_stops_nothing() -> None:
    with open("/dev/full", "w") as stream:
        assert console.write_line(stream, "one") is not None
        assert console.write_line(stream, "two") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "code"),
    [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("2>/dev/full", 0), (">/dev/full", 1)],
)
def test_streams_that_are_closed_or_full_cause_no_traceback(
    redirected: str, code: int, tmp_path: Path
) -> None:
    # A person is told on standard error, a program on standard output; only the latter is a result.
    imwrite(tmp_path / "a.tif", np.zeros((32, 32), np.uint8))
    command = [sys.executable, "-m", "cogmill.cli.main", "inspect", "--json", f"{tmp_path}/a.tif"]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *command], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert ("No space left" in done.stderr) == (code == 1)


@pytest.mark.slow
def test_help_works_without_a_locale_and_into_a_closed_pipe() -> None:
    settings = {**os.environ, "LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "cogmill.cli.main", "run", "--help"]
    shown = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    assert "--dst-crs" in shown.stdout
    piped = subprocess.run(
        ["sh", "-c", '"$@" | head -c 1', "sh", *command],
        env=settings, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert piped.stderr == ""


def test_sizes_and_times_are_written_for_people() -> None:
    assert [size_text(size) for size in (0, 1023, 2**20, 3.5 * 2**30)] == [
        "0 B", "1023 B", "1 MB", "3.5 GB",
    ]  # fmt: skip
    assert [time_text(seconds) for seconds in (None, 5, 65, 3725)] == [
        "-:--", "0:05", "1:05", "1:02:05",
    ]  # fmt: skip


def test_rio_mill_is_cogmill_run(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mill(["missing.tif", "out/", "--resampling", "sum"], prog_name="rio mill")
    assert ended.value.code == 2
    assert "average" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["out.vrt", "out.JP2", "sub/out.nc", "out.gtiff", "out.cog"])
def test_a_folder_named_like_another_format_is_refused_with_both_spellings(
    name: str, tmp_path: Path
) -> None:
    with (
        tools(Settings.load(), lambda done: None, memory=0) as parts,
        pytest.raises(Refused, match="another format") as caught,
    ):
        raster_inputs("in.tif", f"{tmp_path}/{name}", {}, parts.storage)
    stem = f"{tmp_path}/{name}".rpartition(".")[0]
    assert f"{stem}.tif for one COG" in caught.value.remedy
    assert f"{tmp_path}/{name}/ for a folder" in caught.value.remedy
    with tools(Settings.load(), lambda done: None, memory=0) as parts:
        for plain in (f"{name}/", "out.v2", "out.tif"):
            assert raster_inputs("in.tif", f"{tmp_path}/{plain}", {}, parts.storage).destination
