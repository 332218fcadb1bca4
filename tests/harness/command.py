"""Runs the command, in this process or as a user does in one of its own, and reads what it left."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.harness.nursery import Nursery
from tests.harness.server import SessionServer

from cogmill.cli.main import call

#: What the script that pip installs does.
COMMAND = [sys.executable, "-c", "from cogmill.cli.entry import main; main()"]
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
    """The command in this process, with children that stay: all of it but the start of a process.

    Without further variables it is in the home of the session, whose server runs already.
    """

    def __init__(self, nursery: Nursery, variables: Mapping[str, str] | None = None) -> None:
        self._nursery = nursery
        self._variables = variables or {}

    def __call__(self, *arguments: object) -> Ran:
        """Run ``cogmill ARGUMENTS --json`` and return what came of it."""
        command = tuple(str(argument) for argument in arguments)
        with self._nursery.in_place(), _heard(command, self._variables) as (out, err):
            code = call([*command, "--json"])
        return _ran(command, code, _text(out), _text(err))

    def run(self, *arguments: object) -> Ran:
        """Run a job that has to be successful."""
        return _successful(self("run", *arguments))

    def inspect(self, *arguments: object) -> Ran:
        """Inspect a raster that has to be readable."""
        ran = self("inspect", *arguments)
        assert ran.exit_code == 0, f"{ran.text}\n{ran.said}\n{ran.document}"
        return ran


class Typed:
    """The command as a user types it: a process of its own, and its own children."""

    def __call__(self, *arguments: object, plant: Path | None = None) -> Ran:
        """Run ``cogmill ARGUMENTS --json`` and return what came of it.

        `plant` is a folder with a ``sitecustomize.py`` that breaks the program on purpose.
        """
        command = tuple(str(argument) for argument in arguments)
        environment = dict(os.environ)
        if plant is not None:
            paths = [str(plant), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        done = subprocess.run(
            [*COMMAND, *command, "--json"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=environment,
            check=False,
        )
        return _ran(command, done.returncode, done.stdout, done.stderr)

    def run(self, *arguments: object, plant: Path | None = None) -> Ran:
        """Run a job that has to be successful."""
        return _successful(self("run", *arguments, plant=plant))


@contextmanager
def _heard(
    command: tuple[str, ...], variables: Mapping[str, str]
) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Give what is said on standard output and error; leave the process as it was."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    log = logging.getLogger("cogmill")
    before = log.handlers, log.level, log.propagate
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "argv", ["cogmill", *command])
        for name, value in variables.items():
            patch.setenv(name, value)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        try:
            yield out, err
        finally:
            log.handlers, log.level, log.propagate = before


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _ran(command: tuple[str, ...], code: int, out: str, err: str) -> Ran:
    lines = out.strip().splitlines()
    return Ran(command, code, json.loads(lines[-1]) if lines else {}, err)


def _successful(ran: Ran) -> Ran:
    assert ran.exit_code == 0, f"{ran.text}\n{ran.said}\n{ran.document}"
    assert ran.document["status"] == "successful"
    return ran


@pytest.fixture(scope="session")
def mill(server: SessionServer, nursery: Nursery) -> Mill:
    """Give the command, in this process."""
    return Mill(nursery)


@pytest.fixture(scope="session")
def typed(server: SessionServer) -> Typed:
    """Give the command, in a process of its own."""
    return Typed()


def begin(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
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
