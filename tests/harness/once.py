"""What is made once in a session, by whichever pytest worker asks first, and then kept for all."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable
from pathlib import Path

from tests.harness.plugin import locked, session_folder

#: Lies in a folder in which all is made.
DONE = ".done"


def once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder of this name in which `make` has made what it makes."""
    plain = re.sub(r"[^\w.-]+", "-", name)
    folder = session_folder() / "once" / plain
    with locked(f"once-{plain}", fcntl.LOCK_EX):
        if not (folder / DONE).exists():
            folder.mkdir(parents=True, exist_ok=True)
            make(folder)
            (folder / DONE).touch()
    return folder
