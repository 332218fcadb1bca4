"""Runs the command as a user does, in a process of its own, and reads what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
from tests.harness.server import SessionServer

Array = npt.NDArray[Any]
SECONDS = 100


@dataclass(frozen=True)
class Ran:
    """What a command said and did."""

    command: tuple[str, ...]
    exit_code: int
    document: dict[str, Any]
    said: str

    @property
    def plan(self) -> dict[str, Any]:
        return dict(self.document["plan"])

    @property
    def outputs(self) -> dict[str, Any]:
        return dict(self.document["outputs"])

    @property
    def text(self) -> str:
        """What a person would type."""
        return " ".join(("cogmill", *self.command))


class Mill:
    """The command, in the home of the session, whose server runs already."""

    def __call__(
        self, *arguments: object, plant: Path | None = None, seconds: float = SECONDS
    ) -> Ran:
        """Run ``cogmill ARGUMENTS --json`` and return what came of it.

        `plant` is a folder with a ``sitecustomize.py`` that breaks the program on purpose.
        """
        command = tuple(str(argument) for argument in arguments)
        environment = dict(os.environ)
        if plant is not None:
            paths = [str(plant), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        done = subprocess.run(
            [sys.executable, "-m", "cogmill.cli.main", *command, "--json"],
            capture_output=True,
            text=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        document = json.loads(lines[-1]) if lines else {}
        return Ran(command, done.returncode, document, done.stderr)

    def run(self, *arguments: object, plant: Path | None = None, seconds: float = SECONDS) -> Ran:
        """Run a job that has to be successful."""
        ran = self("run", *arguments, plant=plant, seconds=seconds)
        assert ran.exit_code == 0, f"{ran.text}\n{ran.said}\n{ran.document}"
        assert ran.document["status"] == "successful"
        return ran

    def inspect(self, *arguments: object) -> Ran:
        """Inspect a raster that has to be readable."""
        ran = self("inspect", *arguments)
        assert ran.exit_code == 0, f"{ran.text}\n{ran.said}\n{ran.document}"
        return ran


@pytest.fixture(scope="session")
def mill(server: SessionServer) -> Mill:
    """Give the command."""
    return Mill()


COMMAND = [sys.executable, "-m", "cogmill.cli.main"]


def begin(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def until_says(process: subprocess.Popen[str], wanted: str) -> str:
    """Read standard error until a line holds `wanted`."""
    said = ""
    assert process.stderr is not None
    for line in process.stderr:
        said += line
        if wanted in line:
            return said
    raise AssertionError(f"never said {wanted!r}: {said}")
