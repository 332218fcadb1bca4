"""Drives a `cogmill` command as a user does: by its arguments, its exit code and its ``--json``.

Nothing here imports cogmill, so that one script measures this checkout and another alike.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The same on every machine, so that no plan depends on how much there is.
RESOURCES = {"memory": "2GB", "workers": 2}
ROOT_SERVERS = Path("/var/lib/cogmill")
SERVER_SECONDS = 40.0
LOOK_SECONDS = 0.05


class WentWrongError(Exception):
    """A command did something else than it had to."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    said: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object that ``--json`` printed last."""
        found: dict[str, Any] = json.loads(self.stdout.strip().splitlines()[-1])
        return found


@dataclass(frozen=True)
class Mill:
    """A `cogmill` command and the home that it is to use.

    Attributes
    ----------
    command : Path
        The command, with the Python of its virtual environment beside it.
    home : Path
        ``COGMILL_HOME``.
    folder : Path
        Where it runs: a folder without a ``cogmill.toml``.
    """

    command: Path
    home: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's: neither a ``PYTHONPATH`` nor a ``COGMILL_...``."""
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "COGMILL_HOME": str(self.home),
        }

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start a command that nobody listens to, in a session of its own."""
        return subprocess.Popen(
            [self.command, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __call__(self, *arguments: object) -> Ended:
        """Run a command with ``--json`` to its end."""
        return self._run([str(self.command), *map(str, arguments), "--json"])

    def demand(self, *arguments: object) -> dict[str, Any]:
        """Run a command that has to succeed, and return its document."""
        ended = self(*arguments)
        if ended.code != 0:
            words = " ".join(map(str, arguments))
            raise WentWrongError(f"cogmill {words} ended with {ended.code}: {ended.said}")
        return ended.document

    def script(self, script: Path, given: str) -> str:
        """Run a script with the Python beside the command, and return what it printed."""
        # -P: the script's own folder is no place to import from.
        ended = self._run([str(self.command.parent / "python"), "-P", str(script)], given)
        if ended.code != 0:
            raise WentWrongError(f"{script.name} ended with {ended.code}: {ended.said}")
        return ended.stdout

    def engine(self) -> str:
        """Return the versions of everything that makes the bytes, as `doctor` says them."""
        return str(self.demand("doctor")["parts"]["child"]["says"])

    def _run(self, words: list[str], given: str = "") -> Ended:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def own_home(command: Path, folder: Path) -> Iterator[Mill]:
    """Give a command with a home of its own in `folder`, and leave no server of it behind."""
    home = folder / "home"
    home.mkdir(mode=0o755)
    try:
        yield Mill(command, home, folder)
    finally:
        remove_home(home)


def remove_home(home: Path) -> None:
    """Remove a home, and its server's data, once the server has stopped by itself."""
    for place in server_folders(home):
        deadline = time.monotonic() + SERVER_SECONDS
        while any(place.rglob("postmaster.pid")):
            if time.monotonic() > deadline:
                raise WentWrongError(f"the server of {home} still lives in {place}")
            time.sleep(LOOK_SECONDS)
        shutil.rmtree(place)
    shutil.rmtree(home, ignore_errors=True)


def server_folders(home: Path) -> list[Path]:
    """Return where the embedded server of a home lies: in it, or for root where `nobody` can go."""
    found = [home / "postgres"]
    for note in ROOT_SERVERS.glob("*/home"):
        # A server that starts or ends at this moment has none.
        with contextlib.suppress(OSError):
            if note.read_bytes() == os.fsencode(home) + b"\n":
                found.append(note.parent)
    return [place for place in found if place.is_dir()]


def sums(place: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a destination, hidden ones too, by relative name.

    For one COG that is its whole folder: whatever lies beside it would be left over.
    """
    top = place.parent if place.suffix == ".tif" else place
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the option that names another checkout's command."""
    parser.add_argument(
        "--cogmill",
        type=Path,
        # Not resolved: a link to another Python would lead out of the virtual environment.
        default=Path(sys.executable).absolute().parent / "cogmill",
        metavar="COMMAND",
        help="the command to measure, by default that of this Python's environment",
    )


def command_of(given: Path) -> Path:
    """Return the command's absolute path, or end the program where there is none."""
    if not given.is_file():
        raise SystemExit(f"there is no command {given}; name one with --cogmill, or run make setup")
    return given.absolute()
