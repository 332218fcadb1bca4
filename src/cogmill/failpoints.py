"""Named places where a test makes things go wrong; one look at a global when none is armed.

Every statement of the machine is such a place (``sql.claim_task``), so is every commit, before and
after it (``settle.commit``, ``settle.committed``), and every step of a child that leaves traces
(``storage.stage``). `Settings.failpoints` arms them in a process and in the children it spawns.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from cogmill.errors import Refused

ACTIONS = ("kill", "raise", "hang", "lose", "trace")


class FailpointHit(Exception):
    """What ``raise`` raises: an error that no code expects."""


class ReplyLost(Exception):
    """What ``lose`` raises after a commit: it happened, and nobody was told."""


def _nothing(name: str) -> None:
    """Go on: nothing is armed."""


_reached: Callable[[str], None] = _nothing


def reach(name: str) -> None:
    """Say that the code is at the place `name`; what is armed for it happens now."""
    _reached(name)


def arm(spec: str) -> None:
    """Arm this process.

    Parameters
    ----------
    spec : str
        Empty for nothing, or ``NAME=ACTION@FILE``: at the place, once among all processes that
        share FILE (who makes it does it), kill this process, raise, hang for ever, or lose the
        reply to a commit. ``*=trace@FILE`` appends the name of every place to FILE.

    Raises
    ------
    Refused
        It is no such text, or the folder of FILE is not there.
    """
    global _reached
    name, _, rest = spec.partition("=")
    action, _, file = rest.partition("@")
    if not spec:
        _reached = _nothing
    elif not name or action not in ACTIONS or not file:
        raise Refused(
            f"{spec!r} arms no failpoint", f"write NAME=ACTION@FILE with {', '.join(ACTIONS)}"
        )
    elif not Path(file).parent.is_dir():
        raise Refused(
            f"{file} of the failpoint {name} lies in no folder", "make the folder, or name another"
        )
    else:
        _reached = _armed(name, action, Path(file))


def _armed(wanted: str, action: str, file: Path) -> Callable[[str], None]:
    def trace(name: str) -> None:
        with file.open("a") as names:
            names.write(f"{name}\n")

    def strike(name: str) -> None:
        if name == wanted and _first(file):
            _ACT[action](name)

    return trace if action == "trace" else strike


def _first(file: Path) -> bool:
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _kill(name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(name: str) -> None:
    raise FailpointHit(f"the failpoint {name} was armed")


def _hang(name: str) -> None:
    threading.Event().wait()


def _lose(name: str) -> None:
    raise ReplyLost(name)


_ACT: dict[str, Callable[[str], None]] = {
    "kill": _kill,
    "raise": _raise,
    "hang": _hang,
    "lose": _lose,
}
