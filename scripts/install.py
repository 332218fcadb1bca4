"""Makes the project's .venv from pinned, hashed requirements; called by scripts/setup.

Needs the standard library only. A second call with nothing changed returns at once. A stamp is
written last and taken away first, so an interrupted call is seen by the next one, which starts
with a fresh .venv. Proxy, certificate and index settings reach pip through the environment and
pip's own configuration; nothing of them is written down.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
STAMP = VENV / "cogmill-setup.stamp"
UNFINISHED = VENV / "cogmill-setup.unfinished"
# Measured: the development set takes 1.0 GB on disk and pip unpacks beside it.
NEEDED_BYTES = 2 * 2**30
LEVELS = ("run", "dev")


class CannotSetUp(Exception):
    """One line: what is missing, and what to do."""


def fingerprint(level: str) -> str:
    """Name everything that the installation at `level` depends on."""
    digest = hashlib.sha256()
    for name in (f"requirements/{level}.txt", "pyproject.toml"):
        digest.update((PROJECT / name).read_bytes())
    return f"{level} {digest.hexdigest()} {PROJECT}"


def venv_python() -> str:
    """Return the version of the Python in .venv, or nothing when it does not run from there."""
    script = "import sys; print(sys.version.split()[0], sys.prefix)"
    try:
        found = subprocess.run(
            [VENV / "bin/python", "-I", "-c", script], capture_output=True, text=True, check=True
        ).stdout.split(maxsplit=1)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found[0] if found[1:] and Path(found[1].strip()) == VENV else ""


def complete(level: str) -> bool:
    """Say whether .venv already holds `level` or more, as now pinned."""
    try:
        stamp = STAMP.read_text(encoding="utf-8")
    except OSError:
        return False
    enough = LEVELS[LEVELS.index(level) :]
    version = venv_python()
    return (
        bool(version)
        and stamp in {f"{version} {fingerprint(each)}\n" for each in enough}
        and (VENV / "bin/cogmill").is_file()
    )


def existing(folder: Path) -> Path:
    """Return the nearest folder that exists, `folder` itself or one above it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def home() -> tuple[Path, str]:
    """Return where cogmill will keep its database, and how to name another place."""
    named = os.environ.get("COGMILL_HOME")
    if named:
        return Path(named), "set COGMILL_HOME to a folder that you may write to"
    if os.geteuid() == 0:
        return Path("/var/lib/cogmill"), "set COGMILL_HOME to a folder that root may write to"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(base) / "cogmill", "set HOME or COGMILL_HOME to a folder that you may write to"


def check() -> None:
    """Stop with a remedy before anything is made."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise CannotSetUp(
            f"{sys.executable} has no venv module; install it (Debian: apt install python3-venv)"
        )
    if not os.access(PROJECT, os.W_OK | os.X_OK):
        raise CannotSetUp(
            f"the project folder {PROJECT} is not writable; clone it to a folder of your own"
        )
    place, remedy = home()
    if not os.access(existing(place), os.W_OK | os.X_OK) or not existing(place).is_dir():
        raise CannotSetUp(f"{place} is not writable; {remedy}")
    free = shutil.disk_usage(PROJECT).free
    if not VENV.exists() and free < NEEDED_BYTES:
        raise CannotSetUp(
            f"{free / 2**30:.1f} GB are free on the disk of {PROJECT}, setup needs "
            f"{NEEDED_BYTES / 2**30:.0f} GB; make room or clone to another disk"
        )


def run(what: str, *command: str | Path) -> None:
    """Run one step; its output goes to the terminal."""
    print(f"setup: {what}", flush=True)
    # A user's or a distribution's habit of installing elsewhere does not apply to a .venv.
    scrubbed = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV"}
    environment = {k: v for k, v in os.environ.items() if k not in scrubbed}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise CannotSetUp(
            f"{what} failed (see above); check the network and the proxy, certificate and index "
            "settings of pip, then run make setup again"
        )


def usable() -> bool:
    """Say whether .venv can be brought up to date instead of being made anew."""
    if UNFINISHED.exists() or venv_python() != sys.version.split()[0]:
        return False
    # The scripts in a folder that has moved still name the old place.
    return not STAMP.exists() or STAMP.read_text(encoding="utf-8").endswith(f" {PROJECT}\n")


def install(level: str) -> None:
    """Make or bring up to date .venv; its stamp comes last."""
    if VENV.exists() and not usable():
        print("setup: .venv is unfinished, broken, moved or of another Python; making it anew")
        shutil.rmtree(VENV)
    STAMP.unlink(missing_ok=True)
    VENV.mkdir(exist_ok=True)
    UNFINISHED.touch()
    if not venv_python():
        run("making .venv", sys.executable, "-I", "-m", "venv", VENV)
    pip = (VENV / "bin/python", "-I", "-m", "pip", "install", "--quiet")
    run(
        f"installing requirements/{level}.txt (the first time takes a minute or two)",
        *pip, "--require-hashes", "--only-binary", ":all:", "-r", f"requirements/{level}.txt",
    )  # fmt: skip
    run(
        "installing cogmill itself",
        *pip, "--no-deps", "--no-index", "--no-build-isolation", "--editable", ".",
    )  # fmt: skip
    STAMP.write_text(f"{venv_python()} {fingerprint(level)}\n", encoding="utf-8")
    UNFINISHED.unlink()
    print("setup: done; the command is .venv/bin/cogmill", flush=True)


@contextmanager
def alone() -> Iterator[None]:
    """Let one set-up of this folder run at a time; the kernel drops the lock at any death."""
    folder = os.open(PROJECT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main() -> int:
    """Set up, or say in one line why not."""
    level = sys.argv[1] if sys.argv[1:] else "dev"
    if level not in LEVELS:
        print(f"setup: unknown set {level!r}; one of: {', '.join(LEVELS)}", file=sys.stderr)
        return 2
    if complete(level):
        return 0
    try:
        check()
        with alone():
            if not complete(level):
                install(level)
    except CannotSetUp as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
