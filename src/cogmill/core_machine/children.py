"""A child process as its parent sees it: spawned, spoken to in frames, killed.

Here and not in `worker` because preflight needs a child without being a worker.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import IO, cast

from pydantic import JsonValue

from cogmill.core_machine import frames
from cogmill.core_machine.contracts import PlannedTask, StageResult
from cogmill.errors import TransientError


class ChildDied(TransientError):
    """The child ended without an answer. A crash, a kill, or no memory: it is tried again."""

    code = "child-died"

    def __init__(self, returncode: int, stderr: str) -> None:
        how = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
        last = stderr.strip().splitlines()[-1:] or [""]
        super().__init__(f"the child process died ({how}){': ' + last[0] if last[0] else ''}")
        self.returncode = returncode
        self.stderr = stderr


class Call:
    """What the parent offers a child during one call."""

    def results(self, stage: str) -> Iterable[StageResult]:
        """Return the results of an earlier stage."""
        raise NotImplementedError

    def progress(self, done: int) -> None:
        """Take note of the units done."""


class ChildProcess:
    """A reusable `python -m cogmill.child`.

    It must be spawned from a thread that lives as long as the child is wanted: the kernel's
    death signal follows the thread, not the process.

    Parameters
    ----------
    settings : dict
        The effective settings, as JSON.
    """

    def __init__(self, settings: dict[str, JsonValue]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cogmill.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Nothing of the caller's environment: GDAL and PROJ would obey it behind our back.
            env={"PYTHONPATH": ":".join(filter(None, sys.path)), "LANG": "C.UTF-8", "PATH": ""},
            # A Ctrl-C of the terminal is the parent's to handle.
            process_group=0,
        )
        self._known: set[str] = set()
        self._stderr: deque[str] = deque(maxlen=50)
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()
        self._send(frames.Hello(settings=settings))
        match self._receive():
            case frames.Ready(engines=engines):
                self.engines = engines
            case other:
                self.kill()
                raise ChildDied(1, f"unexpected first frame {other.kind}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def preflight(self, request: frames.Preflight, timeout: float) -> frames.Returned | frames.Raised:
        """Run preflight, killed after `timeout` seconds."""
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        try:
            self._send(request)
            for frame in self._answers():
                if isinstance(frame, frames.Returned | frames.Raised):
                    return frame
            raise AssertionError("unreachable: answers end with an outcome or an exception")
        finally:
            timer.cancel()

    def run(
        self, request: frames.Run, payload: Callable[[str], JsonValue], call: Call
    ) -> tuple[frames.Returned | frames.Raised, list[PlannedTask]]:
        """Run one piece of work and return its outcome and, for a plan, the planned tasks.

        Raises
        ------
        ChildDied
            It crashed or was killed; this object is spent.
        """
        wanted = {digest for digest in (request.prepared, request.shared) if digest is not None}
        for digest in sorted(wanted - self._known):
            self._send(frames.Payload(digest=digest, body=payload(digest)))
        self._known = wanted
        self._send(request)
        planned: list[PlannedTask] = []
        for frame in self._answers():
            match frame:
                case frames.Ask(stage=stage):
                    self._send_rows(call.results(stage))
                case frames.Progress(done=done):
                    call.progress(done)
                case frames.Planned(tasks=tasks):
                    planned.extend(tasks)
                case frames.Returned() | frames.Raised():
                    return frame, planned
                case frames.Ready():
                    raise ChildDied(1, "the child restarted in the middle of a task")
        raise AssertionError("unreachable: answers end with an outcome or an exception")

    def kill(self) -> None:
        """Kill the child at once; a call that waits for it raises `ChildDied`."""
        self._process.kill()

    def close(self) -> None:
        """Kill the child and reap it."""
        self.kill()
        self._process.wait()
        self._drain.join(timeout=1)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    def _send_rows(self, rows: Iterable[StageResult]) -> None:
        batch: list[StageResult] = []
        for row in rows:
            batch.append(row)
            if len(batch) == frames.ROWS_PER_FRAME:
                self._send(frames.Rows(rows=tuple(batch), last=False))
                batch = []
        self._send(frames.Rows(rows=tuple(batch), last=True))

    def _send(self, frame: frames.Value) -> None:
        try:
            frames.write_frame(cast("IO[bytes]", self._process.stdin), frame)  # type: ignore[arg-type]
        except (BrokenPipeError, ValueError):
            raise self._death() from None

    def _receive(self) -> frames.FromChild:
        try:
            return frames.read_from_child(cast("IO[bytes]", self._process.stdout))  # type: ignore[arg-type]
        except (EOFError, ValueError, OSError):
            raise self._death() from None

    def _answers(self) -> Iterator[frames.FromChild]:
        while True:
            yield self._receive()

    def _death(self) -> ChildDied:
        try:
            # The pipe breaks a moment before the process is gone; its own exit says more.
            returncode = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            returncode = self._process.wait()
        self._drain.join(timeout=1)
        return ChildDied(returncode, "".join(self._stderr))

    def _read_stderr(self) -> None:
        stream = self._process.stderr
        if stream is not None:
            for line in stream:
                self._stderr.append(line.decode(errors="replace"))
