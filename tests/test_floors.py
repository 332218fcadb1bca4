"""An upward import fails the contracts of import-linter, and so does a module in no floor."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.places import ROOT

#: For each contract of floors, a module at the bottom and one above it that it must not import.
UPWARD = {
    "raster": ("raster/memory.py", "cogmill.raster.plan.costs"),
    "core_machine": ("core_machine/clock.py", "cogmill.core_machine.orchestration"),
    "core_machine.state": ("core_machine/state/recording.py", "cogmill.core_machine.state.jobs"),
    "job_types": ("job_types/tools.py", "cogmill.job_types.registry"),
    "job_types.raster_to_cog": (
        "job_types/raster_to_cog/limits.py",
        "cogmill.job_types.raster_to_cog.stages",
    ),
    "cogmill": ("errors.py", "cogmill.settings"),
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Give a copy of the sources and of their contracts."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken(house: Path) -> str:
    """Return what import-linter says of a copy that breaks its contracts."""
    script = (
        "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; lint_imports_command(['--no-cache'])"],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.slow
def test_an_upward_import_fails_the_contract_of_its_package(house: Path) -> None:
    for path, above in UPWARD.values():
        module = house / "src" / "cogmill" / path
        module.write_text(f"{module.read_text()}\nimport {above}\n")
    said = broken(house)
    for path, above in UPWARD.values():
        name = "cogmill." + path.removesuffix(".py").replace("/", ".")
        assert f"{name} -> {above}" in said


@pytest.mark.slow
def test_a_module_in_no_floor_fails_the_contract_of_its_package(house: Path) -> None:
    for package in UPWARD:
        folder = "" if package == "cogmill" else package.replace(".", "/")
        (house / "src" / "cogmill" / folder / "stray.py").write_text('"""Stray."""\n')
    said = broken(house)
    for package in UPWARD:
        prefix = "cogmill" if package == "cogmill" else f"cogmill.{package}"
        assert f"- {prefix}.stray" in said
