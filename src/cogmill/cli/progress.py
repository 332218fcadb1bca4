"""How far a job is: a bar on a terminal, structured lines otherwise. The unit is pixels."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from cogmill.cli.console import Output, time_text
from cogmill.core_machine.contracts import Stage

if TYPE_CHECKING:
    from cogmill.core_machine.worker.run_jobs import Look

LINE_SECONDS = 10.0
"""Between two lines of the same stage."""
RATE_SECONDS = 20.0
"""The rate is that of the last so many seconds."""
_PIECES, _TILES = "pieces", "tiles"
_EFFORT = {_PIECES: 1.0, _TILES: 8.0}
"""What a pixel of each stage takes, measured: a target pixel is warped, reduced and encoded."""


class Meter:
    """Turns looks at a job into pixels, pixels per second, and time left.

    Parameters
    ----------
    pixels : mapping of str to float
        What each stage works through, by its name; a stage without any shows tasks alone.
    clock : callable
        Seconds that only increase.
    """

    def __init__(self, pixels: Mapping[str, float], clock: Any = time.monotonic) -> None:
        self._pixels = pixels
        self._clock = clock
        self._marks: deque[tuple[float, float, float]] = deque()
        self._most = sum(self._pixels[stage] * _EFFORT[stage] for stage in self._pixels)
        self.total = sum(self._pixels.values())
        self.done = 0.0
        self.effort = 0.0
        self.stage = ""
        self.tasks_done = 0
        self.tasks: int | None = None

    def look(self, look: Look) -> None:
        """Take note of a look; what was done once is never taken back from a person."""
        current = _current(look.stages)
        done = effort = 0.0
        for stage in look.stages:
            running = look.done if stage is current else 0
            most = self._pixels.get(stage.name, 0)
            pixels = min(most, _share(stage) * most + running)
            done += pixels
            effort += pixels * _EFFORT.get(stage.name, 0)
        self.done, self.effort = max(self.done, done), max(self.effort, effort)
        if current is not None:
            if current.name != self.stage:
                # The pixels of another stage take another time.
                self._marks.clear()
            self.stage = current.name
            self.tasks_done, self.tasks = current.succeeded, current.planned
        now = self._clock()
        self._marks.append((now, self.done, self.effort))
        while now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()

    @property
    def share(self) -> float:
        """How much of the effort is behind us, 0 to 1."""
        return self.effort / self._most if self._most else 0.0

    @property
    def rate(self) -> float:
        """Pixels per second of late."""
        began, before, _ = self._marks[0]
        now, done, _ = self._marks[-1]
        return (done - before) / (now - began) if now > began else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate, None while there is nothing to go by."""
        began, _, before = self._marks[0]
        now, _, effort = self._marks[-1]
        if effort <= before:
            return None
        return (self._most - effort) * (now - began) / (effort - before)

    @property
    def tasks_text(self) -> str:
        """Tasks done of how many; a stage that is being planned does not know."""
        return f"{self.tasks_done}/{'?' if self.tasks is None else self.tasks}"


class Watcher(Protocol):
    """Whoever shows looks."""

    def __call__(self, look: Look) -> None:
        """Show one."""


@contextmanager
def watching(out: Output, job_id: str, pixels: Mapping[str, float]) -> Iterator[Watcher]:
    """Show a person how far the job is, in the way that fits where standard error goes."""
    meter = Meter(pixels)
    if out.quiet:
        yield lambda look: None
    elif out.draws:
        with _bar(out) as show:
            yield lambda look: show(meter, look)
    else:
        yield _Lines(out, job_id, meter)


@contextmanager
def watching_files(out: Output, total: int) -> Iterator[Watcher]:
    """Show a person how many of the files are done, and where the first of the others is."""
    if out.quiet:
        yield lambda look: None
    elif out.draws:
        from rich.progress import BarColumn, Progress, TextColumn

        progress = Progress(
            TextColumn("{task.completed:.0f} of {task.total:.0f} files"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            console=out.console(),
            transient=True,
        )
        task = progress.add_task("", total=total)
        with progress:
            yield lambda look: progress.update(
                task, completed=total - look.open, description=_at(look)
            )
    else:
        yield _FileLines(out, total)


def _at(look: Look) -> str:
    stage = _current(look.stages)
    return f"{look.job.id[:12]} {stage.name if stage else ''}".rstrip()


class _FileLines:
    """One line a file that is done, and one now and then."""

    def __init__(self, out: Output, total: int) -> None:
        self._out = out
        self._total = total
        self._said: tuple[int, float] = (-1, 0.0)

    def __call__(self, look: Look) -> None:
        done, now = self._total - look.open, time.monotonic()
        if done == self._said[0] and now - self._said[1] < LINE_SECONDS:
            return
        self._said = (done, now)
        self._out.say(f"files={done}/{self._total} job={_at(look)}")


class _Lines:
    """One line a change of stage, and one now and then."""

    def __init__(self, out: Output, job_id: str, meter: Meter) -> None:
        self._out = out
        self._job_id = job_id
        self._meter = meter
        self._said: tuple[str, float] = ("", 0.0)

    def __call__(self, look: Look) -> None:
        meter = self._meter
        meter.look(look)
        stage, at = self._said
        now = time.monotonic()
        if meter.stage == stage and now - at < LINE_SECONDS:
            return
        self._said = (meter.stage, now)
        self._out.say(
            f"job={self._job_id[:12]} status={look.job.status} stage={meter.stage} "
            f"tasks={meter.tasks_text} pixels={meter.done:.0f}/{meter.total:.0f} "
            f"pixels_per_second={meter.rate:.0f} left={time_text(meter.seconds_left)}"
        )


@contextmanager
def _bar(out: Output) -> Iterator[Any]:
    # Here and not at the top: only a terminal shows it.
    from rich.progress import BarColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[tasks]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]} left"),
        console=out.console(),
        transient=True,
    )
    task = progress.add_task("waiting", total=None, tasks="", rate="", left="-:--")

    def show(meter: Meter, look: Look) -> None:
        meter.look(look)
        progress.update(
            task,
            description=meter.stage or "waiting",
            total=1.0 if meter.total else None,
            completed=meter.share,
            tasks=f"{meter.tasks_text} tasks",
            rate=f"{meter.rate / 1e6:.1f} Mpx/s",
            left=time_text(meter.seconds_left),
        )

    with progress:
        yield show


def _share(stage: Stage) -> float:
    if stage.status == "closed":
        return 1.0
    return stage.succeeded / stage.planned if stage.planned else 0.0


def _current(stages: tuple[Stage, ...]) -> Stage | None:
    open_stages = [stage for stage in stages if stage.status not in ("closed", "pending")]
    return open_stages[0] if open_stages else None
