"""A child process as its parent sees it: spawned, spoken to in frames, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Self, cast

from pydantic import JsonValue

from cogmill.core_machine.child import frames
from cogmill.core_machine.contracts import Adoptable, PlannedTask, StageResult, Value
from cogmill.errors import Refused, TransientError

START_SECONDS = 120.0
"""How long a child may take to import what it needs and say that it is ready."""
_LONGEST_LINE = 8192

Answer = frames.Returned | frames.Raised

EXIT_SECONDS = 5.0
"""How long a child whose pipe has broken may take to be gone, on a busy machine."""


class ChildDied(TransientError):
    """The child ended without an answer. A crash, a kill, or no memory: it is tried again."""

    code = "child-died"

    def __init__(self, returncode: int, stderr: str, *, of_memory: bool = False) -> None:
        how = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
        if of_memory:
            how += ", for want of memory"
        last = stderr.strip().splitlines()[-1:] or [""]
        super().__init__(
            f"the child process died ({how}){': ' + last[0] if last[0] else ''}",
            "try again, with more free memory where it was killed for want of it",
        )
        self.returncode = returncode
        self.stderr = stderr
        self.of_memory = of_memory


class Call:
    """What the parent offers a child during one call."""

    def results(self, stage: str) -> Iterable[StageResult]:
        """Return the results of an earlier stage."""
        raise NotImplementedError

    def adoptable(self) -> Iterable[Adoptable]:
        """Return what earlier generations made for the stage that is planned."""
        return ()

    def progress(self, done: int) -> None:
        """Take note of the units done."""


class ChildProcess:
    """A reusable `python -m cogmill.child`.

    It must be spawned from a thread that lives as long as the child is wanted: the kernel's
    death signal follows the thread, not the process. It loads what it needs while its parent goes
    on; the first who asks it something waits for that.

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
        self._killed = False
        self._oom_kills = 0
        self._known: set[str] = set()
        self._stderr: deque[str] = deque(maxlen=50)
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._engines: dict[str, str] | None = None
        try:
            self._drain.start()
            self._send(frames.Hello(settings=settings))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs, and was not told to end: a killed one lives on for a moment."""
        return not self._killed and self._process.poll() is None

    @property
    def engines(self) -> dict[str, str]:
        """The engine of each job type, once it has started.

        Raises
        ------
        ChildDied
            It does not start; this object is spent.
        """
        if self._engines is None:
            try:
                with self._limited(START_SECONDS):
                    self._engines = self._greeted()
            except BaseException:
                self.close()
                raise
        return self._engines

    def wait_started(self) -> None:
        """Wait until it has loaded what it needs.

        Raises
        ------
        ChildDied
            It does not start; this object is spent.
        """
        _ = self.engines

    def preflight(self, request: frames.PreflightRequest, timeout: float) -> Answer:
        """Run preflight, killed after `timeout` seconds."""
        self.wait_started()
        with self._limited(timeout):
            self._send(request)
            while True:
                frame = self._receive()
                if isinstance(frame, frames.Returned | frames.Raised):
                    return frame

    def examine(
        self, request: frames.Examine, quiet: float, progress: Callable[[int], None]
    ) -> Answer:
        """Judge what lies somewhere, killed after `quiet` seconds without a sign of progress."""
        self.wait_started()
        with self._limited(quiet):
            self._send(request)
        while True:
            with self._limited(quiet):
                frame = self._receive()
            match frame:
                case frames.Progress(done=done):
                    progress(done)
                case frames.Returned() | frames.Raised() as answer:
                    return answer
                case other:
                    raise ChildDied(1, f"unexpected frame {other.kind}")

    def run(
        self, request: frames.Run, payload: Callable[[str], JsonValue], call: Call
    ) -> tuple[Answer, list[PlannedTask]]:
        """Run one piece of work and return its outcome and, for a plan, the planned tasks.

        Raises
        ------
        ChildDied
            It crashed or was killed; this object is spent.
        """
        self.wait_started()
        wanted = {digest for digest in (request.prepared, request.shared) if digest is not None}
        for digest in sorted(wanted - self._known):
            self._send(frames.Payload(digest=digest, body=payload(digest)))
        self._known = wanted
        self._oom_kills = oom_kills()
        self._send(request)
        planned: list[PlannedTask] = []
        asked: dict[str | None, list[StageResult] | list[Adoptable]] = {}
        while True:
            match self._receive():
                case frames.Ask(stage=stage, start=start):
                    if start == 0:
                        asked[stage] = (
                            list(call.adoptable()) if stage is None else list(call.results(stage))
                        )
                    self._send_rows(asked[stage], start)
                case frames.Progress(done=done):
                    call.progress(done)
                case frames.Planned(tasks=tasks):
                    planned.extend(tasks)
                case frames.Returned() | frames.Raised() as answer:
                    return answer, planned
                case frames.Ready():
                    raise ChildDied(1, "the child restarted in the middle of a task")

    def kill(self) -> None:
        """Kill the child at once; a call that waits for it raises `ChildDied`."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """Kill the child and reap it."""
        self.kill()
        self._process.wait()
        if self._drain.ident is not None:  # it cannot be started where threads are short
            self._drain.join(timeout=1)
        streams = [self._process.stdin, self._process.stdout]
        if not self._drain.is_alive():
            # Otherwise a process that the child started holds the pipe, and to close would wait.
            streams.append(self._process.stderr)
        for stream in streams:
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        """Kill the child when the block takes longer."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except ChildDied as death:
            if late.is_set():
                raise ChildDied(death.returncode, f"no answer within {seconds:g} s") from None
            raise
        finally:
            timer.cancel()

    def _greeted(self) -> dict[str, str]:
        match self._receive():
            case frames.Ready(engines=engines):
                return engines
            case other:
                raise ChildDied(1, f"unexpected first frame {other.kind}")

    def _send_rows(self, rows: list[StageResult] | list[Adoptable], start: int) -> None:
        stop = start + frames.ROWS_PER_FRAME
        part = tuple(rows[start:stop])
        # A tuple of either is a tuple of both; that of a union of lists loses which.
        self._send(frames.Rows(rows=part, last=stop >= len(rows)))  # type: ignore[arg-type]

    def _send(self, frame: Value) -> None:
        try:
            frames.write_frame(cast("BinaryIO", self._process.stdin), frame)
        except frames.HungUp:
            raise self._death() from None

    def _receive(self) -> frames.FromChild:
        try:
            return frames.read_from_child(cast("BinaryIO", self._process.stdout))
        except frames.HungUp:
            raise self._death() from None

    def _death(self) -> ChildDied:
        try:
            # The pipe breaks a moment before the process is gone; its own exit says more.
            returncode = self._process.wait(timeout=EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            returncode = self._process.wait()
        self._drain.join(timeout=1)
        killed = returncode == -signal.SIGKILL and not self._killed
        return ChildDied(
            returncode,
            "".join(self._stderr),
            of_memory=killed and oom_kills() > self._oom_kills,
        )

    def _read_stderr(self) -> None:
        stream = self._process.stderr
        if stream is not None:
            while line := stream.readline(_LONGEST_LINE):
                self._stderr.append(line.decode(errors="replace"))


def oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory, on this machine.

    A child that dies by SIGKILL while the number grows has most probably been one of them.
    """
    try:
        with open("/proc/vmstat") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except OSError:
        return 0


class SpareChild:
    """A child for one question after another: made for the first, and again after a death.

    Parameters
    ----------
    spawn : callable
        Makes it.
    child : ChildProcess, optional
        One that is there already.
    """

    def __init__(
        self, spawn: Callable[[], ChildProcess], child: ChildProcess | None = None
    ) -> None:
        self._spawn = spawn
        self._child = child

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """End the child, if there is one."""
        if (child := self.release()) is not None:
            child.close()

    def get(self) -> ChildProcess:
        """Return a living child that has started, so that nothing is claimed for one that cannot.

        Raises
        ------
        ChildDied
            It does not start.
        """
        if self._child is not None and not self._child.alive:
            self._child.close()
            self._child = None
        self._child = self._child or self._spawn()
        self._child.wait_started()
        return self._child

    def release(self) -> ChildProcess | None:
        """Give the child away, if there is one."""
        child, self._child = self._child, None
        return child


class SpareChildren:
    """Children between two uses: to start one takes longer than most questions.

    One is kept at most, and only where the main thread spawned it: the kernel ends a child with
    its thread, and who takes it over must not lose it.

    Parameters
    ----------
    spawn : callable
        Makes a child.
    """

    def __init__(self, spawn: Callable[[], ChildProcess]) -> None:
        self._spawn = spawn
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._kept: ChildProcess | None = None

    def prepare(self) -> None:
        """Start a child that is wanted soon, and let it load while the main thread goes on."""
        if self._kept is None and threading.current_thread() is threading.main_thread():
            self._keep(self._spawn())

    @contextmanager
    def lent(self) -> Iterator[SpareChild]:
        """Lend a child to one caller, for one question after another."""
        # Whatever but a refusal comes may have cut a talk short: the next question would be
        # answered by what was said then. Such a child ends.
        with SpareChild(self._spawn, self._take()) as spare:
            try:
                yield spare
            except Refused:
                self._keep(spare.release())
                raise
            self._keep(spare.release())

    def take(self) -> ChildProcess:
        """Return a living child for good: the one that is kept, or a new one."""
        return SpareChild(self._spawn, self._take()).get()

    def close(self) -> None:
        """End the child that is kept; in a fork nothing happens, because it is the parent's."""
        if os.getpid() == self._pid and (child := self._take()) is not None:
            child.close()

    def _take(self) -> ChildProcess | None:
        with self._lock:
            child, self._kept = self._kept, None
        return child

    def _keep(self, child: ChildProcess | None) -> None:
        if child is None:
            return
        lasting = threading.current_thread() is threading.main_thread()
        with self._lock:
            if lasting and child.alive and self._kept is None:
                self._kept = child
                return
        child.close()
