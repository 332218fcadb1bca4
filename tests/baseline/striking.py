"""Stops and kills a command with everything that runs below it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path


def freeze(pid: int) -> list[int]:
    """Stop every process of a tree, those that are just being started too."""
    frozen: list[int] = []
    while fresh := [each for each in tree(pid) if each not in frozen]:
        send(fresh, signal.SIGSTOP)
        frozen += fresh
    return frozen


def tree(pid: int) -> list[int]:
    """Return a process and everything below it, parents first."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # A process may end while its line is read.
        with contextlib.suppress(OSError):
            # The name in brackets may hold anything; the state and the parent follow it.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def send(pids: Sequence[int], what: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)
