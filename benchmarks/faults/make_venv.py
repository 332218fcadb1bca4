"""Makes build/bench-faults-venv from requirements/bench-faults.txt; standard library only.

A second call with nothing changed returns at once. Index, proxy and certificates are pip's own
business, from its configuration and environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
VENV = PROJECT / "build" / "bench-faults-venv"
PINS = PROJECT / "requirements" / "bench-faults.txt"
STAMP = VENV / "bench-faults.stamp"
# A user's or a distribution's habit of installing elsewhere does not apply to a venv.
_ELSEWHERE = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV"}


def main() -> int:
    """Make it, or say in one line why not."""
    wanted = f"{sys.version} {VENV} {hashlib.sha256(PINS.read_bytes()).hexdigest()}\n"
    if STAMP.exists() and STAMP.read_text() == wanted:
        return 0
    # Anew: what an older set of pins brought in must not stay.
    shutil.rmtree(VENV, ignore_errors=True)
    env = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    pip = [str(VENV / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet"]
    for what, command in (
        ("making build/bench-faults-venv", [sys.executable, "-I", "-m", "venv", str(VENV)]),
        (
            "installing requirements/bench-faults.txt",
            [*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(PINS)],
        ),
    ):
        print(f"bench-faults: {what}", flush=True)
        if subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=False).returncode:
            print(
                f"bench-faults: {what} failed (see above); check the network and pip's proxy,"
                " certificate and index settings, then run it again",
                file=sys.stderr,
            )
            return 1
    STAMP.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
