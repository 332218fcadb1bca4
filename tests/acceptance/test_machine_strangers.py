"""Workers that do not fit, and workers whose clock is wrong: neither harms a task."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.harness.figure import Figure
from tests.harness.fleet import Fleet
from tests.harness.places import PACKAGES
from tests.harness.processes import until

import cogmill
from cogmill.core_machine.contracts import JobStatus

LOOKS = 5


def _edition(folder: Path, before: str, after: str) -> Path:
    """Make another edition of the package of the job type."""
    shutil.copytree(PACKAGES, folder, ignore=shutil.ignore_patterns("*toy*", "*naughty*", "__*"))
    module = folder / "cogmill_heavy.py"
    text = module.read_text()
    assert text.count(before) == 1
    module.write_text(text.replace(before, after))
    return folder


def test_workers_that_do_not_fit_leave_tasks_alone_and_fail_none(
    fleet: Fleet, figure: Figure, tmp_path: Path
) -> None:
    older = _edition(tmp_path / "older", "version: ClassVar[int] = 1", "version: ClassVar[int] = 0")
    engine = _edition(tmp_path / "engine", '"anvil 1"', '"anvil 2"')
    strangers = {
        "an older version": fleet.launch(packages=[older]),
        "no such job type": fleet.launch(packages=[]),
        "another engine": fleet.launch(packages=[engine]),
        "another host": fleet.launch(host="there"),
    }
    fleet.started(strangers.values())
    job = fleet.submit(count=3, reach="here")
    fleet.go()
    since = fleet.now()
    seconds = LOOKS * (fleet.pace.look + fleet.pace.beat)
    beaten = "SELECT count(*) FROM worker WHERE beat_at > %s + make_interval(secs => %s)"
    until(
        lambda: fleet.number(beaten, since, seconds) == len(strangers), "all have looked many times"
    )
    offers = fleet.rows("SELECT DISTINCT job_types, engines, reaches FROM worker")
    assert len(offers) == len(strangers)
    task = "SELECT status, attempt, failures FROM task"
    assert fleet.rows(task) == [("ready", 0, 0)]
    assert fleet.state.jobs.get(job.id).status is JobStatus.ACCEPTED
    fleet.work()
    fleet.ended(job)
    by = {result["parent"] for result in fleet.results(job)}
    assert set(fleet.rows(task)) == {("succeeded", 1, 0)}
    assert by == {os.getpid()}
    owed = "SELECT count(*) FROM cleanup WHERE done_at IS NULL"
    until(lambda: fleet.number(owed) == 0, "the clean-up is done")
    assert fleet.rows("SELECT attempt FROM cleanup") == [(1,)]
    assert fleet.workers() == ["live"] * (len(strangers) + 1)
    figure.measured(
        f"{', '.join(strangers)}: 0 claims in {seconds:g} s; {len(by)} worker did all", "0 claims"
    )


SKEWED = """
import sys, time

def skewed(real, unit):
    def clock():
        caller = sys._getframe(1).f_code.co_filename
        if "core_machine" in caller:
            with open({asked!r}, "a") as names:
                names.write(caller + chr(10))
        return real() + {hours} * 3600 * unit
    return clock

time.time, time.time_ns = skewed(time.time, 1), skewed(time.time_ns, 10**9)
"""


def test_workers_whose_clocks_are_an_hour_off_work_as_others_do(
    fleet: Fleet, figure: Figure, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    begun = fleet.now()
    late, early = fleet.started(
        fleet.launch(customize=SKEWED.format(asked=str(asked), hours=hours)) for hours in (-1, 1)
    )
    job = fleet.submit(count=2)
    until(lambda: fleet.holding() == 2, "each holds a task")
    held = fleet.now()
    # Longer than anybody may be silent.
    seconds = fleet.pace.suspect + 3 * fleet.pace.beat
    beaten = "SELECT count(*) FROM worker WHERE beat_at > %s + make_interval(secs => %s)"
    until(lambda: fleet.number(beaten, held, seconds) == 2, "both beat on")
    fleet.go()
    fleet.ended(job)
    ended = fleet.now()
    apart = {
        result["parent"]: round((result["clock"] - ended.timestamp()) / 3600, 1)
        for result in fleet.results(job)[:2]
    }
    assert apart == {late.pid: -1.0, early.pid: 1.0}
    assert set(fleet.rows("SELECT status, attempt, failures FROM task")) == {("succeeded", 1, 0)}
    assert fleet.workers() == ["live"] * 2
    missed = "SELECT count(*) FROM reconciliation_action WHERE finder ~ 'worker|task'"
    assert fleet.number(missed) == 0
    noted = [moment for row in fleet.rows(MOMENTS) for moment in row if moment is not None]
    assert len(noted) > 10
    assert all(begun <= moment <= ended for moment in noted)
    assert not asked.exists(), asked.read_text()
    figure.measured("1 h late and 1 h early: 0 retries, 0 repairs, 0 looks at their clocks", "0")


MOMENTS = """
    SELECT started_at, finished_at, NULL FROM task
    UNION ALL SELECT started_at, finished_at, created_at FROM job
    UNION ALL SELECT started_at, finished_at, NULL FROM stage
    UNION ALL SELECT at, NULL, NULL FROM event
    UNION ALL SELECT started_at, NULL, NULL FROM worker"""


def test_nothing_in_the_machine_asks_the_host_for_the_time_of_day() -> None:
    top = Path(cogmill.__file__).parent
    files = sorted((top / "core_machine").rglob("*.py"))
    files += [top / "child.py", top / "runtime.py"]
    assert len(files) > 20
    assert [f"{file.name}:{line}" for file in files for line in _clock_looks(file)] == []


def _clock_looks(file: Path) -> Iterator[int]:
    """Yield the lines that name a wall clock, called or handed on."""
    clocks = {
        "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime"},
        "datetime": {"now", "utcnow", "today"},
        "date": {"today"},
    }
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Attribute(attr="CLOCK_REALTIME"):
                yield node.lineno
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
                if name in clocks.get(owner, ()):
                    yield node.lineno
            case ast.ImportFrom(module="time", names=names):
                if {one.name for one in names} & clocks["time"]:
                    yield node.lineno
