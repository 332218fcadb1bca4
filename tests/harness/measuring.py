"""Memory as it is promised: what a whole command used, and what each stage said that it needs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tests.harness.killing import Command, Home
from tests.harness.processes import status

MIB = 1 << 20
#: Of each stage that had tasks: the highest predicted and the highest measured peak, in bytes.
Peaks = dict[str, tuple[int, int]]


class Meter:
    """Adds up, all the time, the VmHWM of every process of a tree that lives at that time.

    A child's VmHWM is set back before every task, so what each one reached at most is kept.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._highest: dict[int, int] = {}
        self._over = threading.Event()
        self.sum = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.04):
            living = {pid: _peak(pid) for pid in self._command.tree()}
            for pid, peak in living.items():
                self._highest[pid] = max(peak, self._highest.get(pid, 0))
            self.sum = max(self.sum, sum(self._highest[pid] for pid in living))


def _peak(pid: int) -> int:
    found = status(pid).get("VmHWM", "0 kB")
    return int(found.split()[0]) * 1024


def stage_peaks(home: Home, job_id: str) -> Peaks:
    """Return the predicted and the highest measured peak of the tasks of every stage."""
    with home.server.lease(), home.observer() as observer:
        rows = observer.rows(
            "SELECT name, max(memory), max(peak_memory) FROM cogmill.task "
            "JOIN cogmill.stage USING (job_id, position) "
            "JOIN cogmill.task_result ON task_id = task.id "
            "WHERE job_id = %s AND kind = 'work' GROUP BY name",
            job_id,
        )
    return {name: (predicted, measured) for name, predicted, measured in rows}


def told(peaks: Peaks) -> str:
    return "; ".join(
        f"{stage}: predicted {predicted / MIB:.0f}, measured {measured / MIB:.0f} MiB "
        f"({100 * predicted / measured - 100:+.0f} %)"
        for stage, (predicted, measured) in sorted(peaks.items())
    )
