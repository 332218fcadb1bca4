"""Records one figure a line of the acceptance list, for build/acceptance.json.

A test asks for ``figure`` and tells it what it did and measured; whether it passed is pytest's
word. A line whose test said nothing is recorded too, so that no line can go missing in silence.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

_KEY = "acceptance"
_FIGURE = pytest.StashKey["Figure"]()


@dataclass
class Figure:
    """What one acceptance test did and measured.

    Attributes
    ----------
    line : str
        The acceptance line, by default the test's name as a sentence.
    command : str
        What a person would type to see the same.
    seed : int or None
        Of whatever was made at random.
    figure, limit : float, str or None
        What was measured, and what it must not pass.
    """

    line: str
    command: str = ""
    seed: int | None = None
    figure: float | str | None = None
    limit: float | str | None = None
    seconds: float = field(default=0.0, init=False)
    passed: bool = field(default=False, init=False)

    def measured(self, figure: float | str, limit: float | str | None = None) -> None:
        """Note the figure and its limit; the test itself asserts."""
        self.figure, self.limit = figure, limit


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Return the record of the test that asks; it fills in what it knows."""
    return request.node.stash[_FIGURE]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    name = getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
    case = f" [{item.callspec.id}]" if hasattr(item, "callspec") else ""
    item.stash[_FIGURE] = Figure(line=name + case)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    record = item.stash[_FIGURE]
    record.seconds = round(record.seconds + call.duration, 3)
    record.passed = report.passed and (call.when == "setup" or record.passed)
    if call.when == "teardown":
        row = asdict(record)
        row["pass"] = row.pop("passed")
        # User properties travel from the workers of xdist to the process that writes the file.
        report.user_properties.append((_KEY, row))
    return report


class _Writer:
    """Collects the rows, in whichever process runs the session, and writes them once."""

    def __init__(self, config: pytest.Config) -> None:
        self._path = Path(config.rootpath) / "build" / "acceptance.json"
        self._rows: list[Any] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self._rows += [value for key, value in report.user_properties if key == _KEY]

    def pytest_sessionfinish(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        rows = sorted(self._rows, key=lambda row: row["line"])
        written = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "lines": rows}
        self._path.write_text(json.dumps(written, indent=2) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    # Only a run in full writes the record: a look at one test must not replace it.
    if config.getoption("--full") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(config), "cogmill-acceptance")
