"""Where the time goes: seconds of every file of tests, in build/durations.json and .txt.

Seconds on the clock grow when neighbours work, so the seconds of processors are written beside
them: of the test's process, and of every process below it that lives or was waited for. What
detached itself, as a database's server does, is not among them.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.harness.processes import children_of

_KEY = "durations"
_SPENT = pytest.StashKey[float]()
#: Seconds from which on a test is told of by its name.
TOLD = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    """A file of tests, or one test: how many ran, how long on the clock, how long on processors."""

    tests: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Begin to count: a test marked `alone` has waited by now."""
    item.stash[_SPENT] = _spent(os.getpid())
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the last report of a test tell; the workers of xdist send it to whoever writes."""
    report = yield
    if call.when == "teardown":
        spent = _spent(os.getpid()) - item.stash.get(_SPENT, 0.0)
        report.user_properties.append((_KEY, max(0.0, spent)))
    return report


def _spent(pid: int) -> float:
    """Return the processor seconds of a process, of its dead and of its living descendants."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        own = sum(int(ticks) for ticks in fields[11:15]) / _TICKS
        return own + sum(_spent(child) for child in children_of(pid))
    except OSError:
        return 0.0


class Durations:
    """Adds up what the reports tell, in the process that runs the session, and writes it once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: defaultdict[str, Row] = defaultdict(Row)
        self._tests: defaultdict[str, Row] = defaultdict(Row)
        self._begun = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid
        for row in (self._files[name.partition("::")[0]], self._tests[name]):
            row.seconds += report.duration
            if report.when == "teardown":
                row.tests += 1
                properties: dict[str, Any] = dict(report.user_properties)
                row.cpu_seconds += properties[_KEY]

    def pytest_sessionfinish(self) -> None:
        if not self._files:
            return
        self._folder.mkdir(exist_ok=True)
        rows = _longest_first(self._files)
        tests = [(name, row) for name, row in _longest_first(self._tests) if row.seconds > TOLD]
        document = {"seconds": time.monotonic() - self._begun, "files": _plain(rows)}
        document["tests"] = _plain(tests)
        (self._folder / "durations.json").write_text(json.dumps(document, indent=1) + "\n")
        (self._folder / "durations.txt").write_text(self._table(rows))

    def _table(self, rows: list[tuple[str, Row]]) -> str:
        whole = Row(
            tests=sum(row.tests for _, row in rows),
            seconds=sum(row.seconds for _, row in rows),
            cpu_seconds=sum(row.cpu_seconds for _, row in rows),
        )
        lines = ["seconds     cpu  tests  file"]
        for name, row in [("all of it", whole), *rows]:
            lines.append(f"{row.seconds:7.1f} {row.cpu_seconds:7.1f} {row.tests:6d}  {name}")
        return "\n".join(lines) + "\n"


def _longest_first(rows: dict[str, Row]) -> list[tuple[str, Row]]:
    return sorted(rows.items(), key=lambda item: -item[1].seconds)


def _plain(rows: list[tuple[str, Row]]) -> dict[str, Any]:
    return {
        name: {key: round(value, 3) for key, value in asdict(row).items()} for name, row in rows
    }


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(
            Durations(Path(config.rootpath) / "build"), "cogmill-durations"
        )
