"""The five systems: which Python runs each, on which server."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.faults.processes import Launch
from benchmarks.faults.servers import Missing, PostgresServer, RedisServer, Server
from benchmarks.faults.trial import System

PROJECT = Path(__file__).resolve().parents[2]
PINS = PROJECT / "requirements" / "bench-faults.txt"


@dataclass(frozen=True)
class _Kind:
    distribution: str
    module: str
    server: Callable[[Path], Server]
    replaces: bool = False


KINDS = {
    "cogmill": _Kind("cogmill", "with_cogmill", PostgresServer),
    "Procrastinate": _Kind("procrastinate", "with_procrastinate", PostgresServer),
    "PgQueuer": _Kind("pgqueuer", "with_pgqueuer", PostgresServer),
    # Production, Workflow recovery: without Conductor, an executor recovers what was pending under
    # its own id, when it starts.
    "DBOS": _Kind("dbos", "with_dbos", PostgresServer, replaces=True),
    "Celery": _Kind("celery", "with_celery", RedisServer),
}


def make(name: str, venv: Path, logs: Path) -> tuple[System, Callable[[Path], Server]]:
    """Describe a system, and say how its server is made.

    Raises
    ------
    Missing
        The benchmark's venv is not there.
    """
    kind = KINDS[name]
    # Nothing of the caller's environment, which may configure any of them.
    env = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(logs)}
    if name == "cogmill":
        python = sys.executable
        packages = str(Path(__file__).parent / "packages")
        paths = [packages, str(PROJECT), *filter(None, sys.path)]
        version = metadata.version(kind.distribution)
    else:
        python = str(venv / "bin" / "python")
        if not Path(python).exists():
            raise Missing(f"{venv} is missing; make it with: make bench-faults")
        paths = [str(PROJECT)]
        version = _pinned(kind.distribution)
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    launch = Launch(
        command=(python, "-m", f"benchmarks.faults.{kind.module}"),
        env=env,
        log=logs / f"{name}.log",
    )
    return System(name, launch, f"{name} {version}", kind.replaces), kind.server


def _pinned(distribution: str) -> str:
    found = re.search(rf"^{distribution}==(\S+)", PINS.read_text(), re.MULTILINE)
    return found[1] if found else "?"
