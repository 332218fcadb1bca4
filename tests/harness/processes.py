"""Processes: which live, which are whose, and waiting until something is so."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from cogmill.errors import DatabaseUnavailable

PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.02


def until(
    condition: Callable[[], object],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Wait for a condition, and fail with its name when it does not come true."""
    deadline = time.monotonic() + seconds
    while not _holds(condition):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(look_seconds)


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except DatabaseUnavailable:  # some tests kill it
        return False


def status(pid: int) -> dict[str, str]:
    """Return ``/proc/PID/status``; nothing when the process is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie holds nothing any more, and its parent reaps it."""
    return status(pid).get("State", "Z")[0] not in "ZX"


def living(pids: Iterable[int]) -> list[int]:
    """Return those that run."""
    return [pid for pid in pids if alive(pid)]


def all_pids() -> Iterator[int]:
    """Return the pids of every process that there is."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that thread has just ended
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def command_line(pid: int) -> bytes:
    """Return a process's words, each ended by a zero; nothing when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to every process that still is."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def gone(found: Callable[[], list[int]], within: float) -> float:
    """Wait until nothing is found; return the seconds it took, infinity when something stays."""
    begun = time.monotonic()
    while found():
        if time.monotonic() - begun > within:
            return float("inf")
        time.sleep(LOOK_SECONDS / 2)
    return time.monotonic() - begun


def all_gone(pids: Iterable[int], within: float) -> float:
    """Wait until none of the processes lives; return the seconds that took."""
    known = list(pids)
    seconds = gone(lambda: living(known), within)
    # What should not live must not outlive the test either.
    signal_all(living(known), signal.SIGKILL)
    return seconds
