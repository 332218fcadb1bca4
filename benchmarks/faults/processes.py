"""Workers under a supervisor, and the client, of one system; killed with all they started."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import leash
from benchmarks.faults.pace import RESTART

_ANSWER_SECONDS = 60.0
_HEAD_START_SECONDS = 0.5
_MOST_RESTARTS = 200
"""A worker that ends more often than this in one trial is not started again."""


class Unanswered(Exception):
    """The client could not do what was asked; its server may be down."""


class NotOffered(Exception):
    """The system offers nothing for this."""


@dataclass(frozen=True)
class Launch:
    """How the processes of a system are started.

    Attributes
    ----------
    command : tuple of str
        Python and module; a role follows.
    env : dict
        The whole environment.
    log : Path
        Where standard error (and a worker's standard output) goes.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    log: Path

    def start(self, *role: str, pipes: bool = False) -> subprocess.Popen[str]:
        """Start one in a session of its own."""
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*leash.COMMAND, *self.command, *role],
                env=self.env,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    ended: float | None = None
    restarts: int = 0
    known: set[int] = field(default_factory=set)


class Workers:
    """Worker processes by name. `tend` does what a supervisor does; call it while waiting."""

    def __init__(self, launch: Launch, address: str) -> None:
        self._launch = launch
        self._address = address
        self._workers: dict[str, list[_Worker]] = {}

    @property
    def restarts(self) -> int:
        """How often a worker had to be started again."""
        return sum(worker.restarts for each in self._workers.values() for worker in each)

    def start(self, name: str) -> None:
        """Start one; a second of the same name is its replacement, and both may run."""
        process = self._launch.start("worker", self._address, name)
        self._workers.setdefault(name, []).append(_Worker(process))

    def freeze(self, name: str) -> None:
        """SIGSTOP a worker and all that it started."""
        _signal(_tree(self._workers[name][0].process.pid), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on: what it started first, so that a late result is there when it wakes."""
        first, *others = _tree(self._workers[name][0].process.pid)
        _signal(others, signal.SIGCONT)
        if others:
            time.sleep(_HEAD_START_SECONDS)
        _signal([first], signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End a worker and all that it started at one instant, as a machine that fails."""
        worker = self._workers[name][0]
        _kill_tree(worker.process)

    def tend(self) -> None:
        """Start again what has ended a while ago."""
        now = time.monotonic()
        for name, each in self._workers.items():
            for worker in each:
                if worker.process.poll() is None:
                    # Children that outlive a worker which kills itself are found by this.
                    worker.known |= set(_tree(worker.process.pid))
                elif worker.ended is None:
                    worker.ended = now
                    _signal(worker.known & _orphans(worker.process.pid), signal.SIGKILL)
                elif now - worker.ended >= RESTART and worker.restarts < _MOST_RESTARTS:
                    worker.process = self._launch.start("worker", self._address, name)
                    worker.ended, worker.known = None, set()
                    worker.restarts += 1

    def close(self) -> None:
        """End them all."""
        for each in self._workers.values():
            for worker in each:
                _kill_tree(worker.process)
                _signal(worker.known & _orphans(worker.process.pid), signal.SIGKILL)
        self._workers.clear()


class ClientProcess:
    """The client role: asked in lines of JSON."""

    def __init__(self, launch: Launch) -> None:
        self._process = launch.start("client", pipes=True)

    def ask(self, do: str, **values: Any) -> Any:
        """Ask once.

        Raises
        ------
        Unanswered
            It failed, or is silent for too long.
        NotOffered
            The system has nothing for this.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps({"do": do, **values}) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise RuntimeError("the client has ended; see its log") from None
        # Nothing else is ever in the pipe, so its buffer hides no line.
        if not select.select([stdout], [], [], _ANSWER_SECONDS)[0]:
            raise RuntimeError(f"the client does not answer {do}; see its log")
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the client has ended during {do}; see its log")
        answer = json.loads(line)
        if "not offered" in answer:
            raise NotOffered(answer["not offered"])
        if "error" in answer:
            raise Unanswered(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End it."""
        _kill_tree(self._process)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())


def _tree(pid: int) -> list[int]:
    """Return a process and all that come from it, parents first."""
    found = [pid]
    for one in found:
        found.extend(child for child in _children(one) if child not in found)
    return found


def _orphans(session: int) -> set[int]:
    """Return the processes of a session, whose leader is gone."""
    found = set()
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            stat = (path / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) == session:
                found.add(int(path.name))
    return found


def _signal(pids: list[int] | set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill_tree(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        # Stopped first, so that nobody sees another's death and does something about it.
        tree = _tree(process.pid)
        _signal(tree, signal.SIGSTOP)
        tree = list(dict.fromkeys([*tree, *_tree(process.pid)]))
        _signal(tree, signal.SIGKILL)
    process.wait()
