"""A job type in a package of its own registers by entry point and runs: nothing else is touched."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from tests.harness.figure import Figure
from tests.harness.killing import Home
from tests.harness.places import ROOT

from cogmill import runtime
from cogmill.core_machine.contracts import Job, JobStatus
from cogmill.core_machine.orchestration import Submitted
from cogmill.errors import Refused
from cogmill.job_types.registry import ENTRY_POINTS, Registry
from cogmill.settings import Settings

PACKAGES = ROOT / "tests" / "packages"
COUNT = 7


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the package: this process and the children that it starts find it."""
    monkeypatch.syspath_prepend(str(PACKAGES))
    yield PACKAGES
    sys.modules.pop("cogmill_toy", None)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made(python_path=(PACKAGES,)) as made:
        yield made


@contextmanager
def machine(home: Home) -> Iterator[runtime.Machine]:
    with runtime.machine(Settings.load(home=home.path, workers=2)) as made:
        yield made


def submit(made: runtime.Machine, folder: Path, **inputs: Any) -> Submitted:
    toy = made.types.get("toy")
    asked = toy.inputs.model_validate({"name": folder.name, "folder": str(folder), **inputs})
    return made.job_processor().submit("toy", asked)


def test_a_job_type_in_a_separate_package_registers_by_entry_point_and_runs(
    home: Home, packages: Path, tmp_path: Path, figure: Figure
) -> None:
    assert "toy" in {point.name for point in entry_points(group=ENTRY_POINTS)}
    with machine(home) as made:
        submitted = submit(made, tmp_path, count=COUNT)
        # The command as it is: it never heard of this type.
        worked = home.call("worker", "--until-idle", "--workers", "2", "--json")
        assert worked.code == 0, worked.stderr
        job: Job = made.state.jobs.get(submitted.job.id)
        again = submit(made, tmp_path, count=COUNT, hint=3)
        stages = made.state.jobs.stages(job.id)
    assert job.status is JobStatus.SUCCESSFUL
    assert job.outputs == {"total": sum(number**2 for number in range(COUNT))}
    assert [(stage.name, stage.planned) for stage in stages] == [
        ("nothing", 0),
        ("squares", COUNT),
        ("totals", 1),
    ]
    assert not again.created
    assert again.job.id == job.id
    attempts = sorted(path.name.split(".")[0] for path in tmp_path.glob("[0-9]*"))
    assert attempts == [str(number) for number in range(COUNT)]
    assert (tmp_path / "cleaned.ok").exists()
    shown = home.call("show", job.id[:12], "--json")
    assert shown.document["type"] == "toy"
    figure.measured(f"{len(stages)} stages, {len(attempts)} tasks, each once")


def test_what_its_preflight_refuses_is_never_recorded(
    home: Home, packages: Path, tmp_path: Path
) -> None:
    with machine(home) as made:
        before = len(made.state.jobs.recent(100))
        with pytest.raises(Refused, match="not welcome"):
            submit(made, tmp_path, refuse=True)
        assert len(made.state.jobs.recent(100)) == before


def test_without_its_package_nobody_knows_the_type() -> None:
    assert "toy" not in {job_type.id for job_type in Registry.load()}


def test_the_machine_names_no_job_type() -> None:
    # An extension needs no file of it, because not even the built-in type has one.
    built_in = {job_type.id for job_type in Registry.load()}
    package = ROOT / "src" / "cogmill" / "core_machine"
    files = [*package.rglob("*.py"), *package.rglob("*.sql")]
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in built_in if name in text], path
        if path.suffix == ".py":
            imported = {
                node.module or ""
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.ImportFrom)
            }
            assert not [name for name in imported if name.startswith("cogmill.job_types")], path
