"""What a worker is made of, and where it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.contracts import JobTypes, Offer
from cogmill.core_machine.orchestration import TaskProcessor
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.settings import PARENT_MEMORY, Pace, idle_reserve


@dataclass(frozen=True)
class Place:
    """Where a worker works, and for whom.

    Attributes
    ----------
    slots : int
        Children that work at once.
    memory : int
        Bytes for the parent and its children together.
    host : str
        The reach that this worker offers besides ``any``.
    only_jobs : tuple of str or None
        Claim tasks of these jobs only.
    on_demand : bool
        True: work only when a message asks for it (`MessageHost`).
    """

    slots: int
    memory: int
    host: str
    only_jobs: tuple[str, ...] | None = None
    on_demand: bool = False

    @property
    def idle_child_memory(self) -> int:
        """Bytes that a child holds while it waits."""
        return idle_reserve(self.memory, self.slots)

    @property
    def task_memory(self) -> int:
        """Bytes that one task may have while all other slots wait."""
        return self.memory - PARENT_MEMORY - (self.slots - 1) * self.idle_child_memory


@dataclass(frozen=True)
class WorkerParts:
    """What a worker is built from; `runtime` puts it together."""

    state: StateManager
    types: JobTypes
    processor: TaskProcessor
    reconciler: SystemReconciler
    spawn: Callable[[], ChildProcess]
    pace: Pace

    def offer(self, place: Place, pid: int, engines: tuple[str, ...]) -> Offer:
        """Return what a worker at a place offers."""
        return Offer(
            host=place.host,
            pid=pid,
            slots=place.slots,
            memory=place.task_memory,
            job_types=tuple(self.types.ids()),
            engines=engines,
            reaches=("any", place.host),
            only_jobs=place.only_jobs,
            on_demand=place.on_demand,
            beat_seconds=self.pace.beat,
            suspect_seconds=self.pace.suspect,
        )
