"""What a worker is made of, and where it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.contracts import JobTypes, Offer
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.transitions.wakeups import WakeupPublisher
from cogmill.settings import Pace


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
        True: work only when `Worker.do_one` is called.
    """

    slots: int
    memory: int
    host: str
    only_jobs: tuple[str, ...] | None = None
    on_demand: bool = False


@dataclass(frozen=True)
class Equipment:
    """What a worker is built from; `runtime` puts it together."""

    state: StateManager
    types: JobTypes
    publisher: WakeupPublisher
    reconciler: SystemReconciler
    spawn: Callable[[], ChildProcess]
    pace: Pace

    def offer(self, place: Place, pid: int, memory: int, engines: tuple[str, ...]) -> Offer:
        """Return what a worker at a place offers; `memory` is the bytes for all of its children."""
        return Offer(
            host=place.host,
            pid=pid,
            slots=place.slots,
            memory=memory,
            job_types=tuple(self.types.ids()),
            engines=engines,
            reaches=("any", place.host),
            only_jobs=place.only_jobs,
            on_demand=place.on_demand,
            beat_seconds=self.pace.beat,
            suspect_seconds=self.pace.suspect,
        )
