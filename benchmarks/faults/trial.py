"""One trial: a fresh place, supervised workers, and what was seen of the units."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.client import Look
from benchmarks.faults.ledger import Ledger
from benchmarks.faults.processes import ClientProcess, Launch, Unanswered, Workers
from benchmarks.faults.servers import Server
from benchmarks.faults.work import Order

WARM_SECONDS = 60.0
"""How long a system may take to do its first unit; later means that the adapter is broken."""
SETTLE_SECONDS = 3.0
"""How long a trial goes on looking after it seems over, for outcomes that come twice."""
GONE_SECONDS = 25.0
"""A unit of which the system has had no record for so long is lost: every silence, visibility
time-out and look of every system is much shorter, so nothing will come any more."""
STOP = threading.Event()
"""Set when somebody wants the whole run to end: what waits, stops waiting."""
_LOOK_SECONDS = 0.1
_numbers = itertools.count(1)


class Broken(Exception):
    """The trial could not be made; this tells nothing about the fault."""


@dataclass
class Outcome:
    """What one trial counted; see the package's docstring for the words."""

    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    seconds: float | None = None
    executions: int = 0
    restarts: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class System:
    """One system under test.

    Attributes
    ----------
    replaces : bool
        Whether nobody in the system notices that a worker has gone silent, so that whoever runs it
        must replace the worker under its own name.
    """

    name: str
    launch: Launch
    version: str
    replaces: bool = False


class Trial:
    """Use as a context manager.

    Parameters
    ----------
    bound : float
        Seconds after the fault within which everything is to be over.
    """

    def __init__(
        self, system: System, server: Server, client: ClientProcess, folder: Path, bound: float
    ) -> None:
        self.system = system
        self.server = server
        self.client = client
        self.bound = bound
        self._prefix = f"t{next(_numbers)}-"
        self.folder = folder / self._prefix.strip("-")
        self.folder.mkdir()
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.ledger.create()
        self.address = server.fresh(lambda address: client.ask("prepare", address=address))
        self.workers = Workers(system.launch, self.address)

    def __enter__(self) -> Trial:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self.workers.close()

    # What a producer does

    def order(self, unit: str, script: str = "plain") -> Order:
        """Write an order for a unit."""
        return {"ledger": str(self.ledger.path), "unit": self._full(unit), "script": script}

    def submit(self, unit: str, script: str = "plain", *, lose: bool = False) -> None:
        """Submit a unit."""
        order = self.order(unit, script)
        self.client.ask("submit", address=self.address, order=order, lose=lose)

    def look(self, unit: str) -> Look | None:
        """Read what the system has recorded; None while its server is down."""
        try:
            found: Look = self.client.ask("look", address=self.address, unit=self._full(unit))
        except Unanswered:
            return None
        return found

    def accepted(self, unit: str) -> bool:
        """Whether an outcome of the unit was taken."""
        found = self.look(unit)
        return found is not None and found["accepted"] > 0

    # What happened

    def begun(self, unit: str) -> int:
        """How many executions of a unit began."""
        return len(self.ledger.notes(self._full(unit), "begin"))

    def effects(self, unit: str) -> int:
        """How many executions of a unit had their effect."""
        return len(self.ledger.notes(self._full(unit), "effect"))

    def let_go(self, unit: str, at: float = 0.0) -> None:
        """Let executions of a unit that hold go on."""
        self.ledger.let_go(self._full(unit), at)

    def _full(self, unit: str) -> str:
        # No trial may mistake what is left of another one's for its own.
        return self._prefix + unit

    # Waiting

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition while the supervisor works; say whether it came true."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._pause()
        return True

    def _pause(self) -> None:
        if STOP.is_set():
            raise Broken("stopped")
        self.workers.tend()
        time.sleep(_LOOK_SECONDS)

    def must(self, what: str, condition: Callable[[], bool], seconds: float = WARM_SECONDS) -> None:
        """Wait for what does not depend on the fault."""
        if not self.until(condition, seconds):
            raise Broken(f"{self.system.name}: waited {seconds:g} s in vain: {what}")

    def warm(self, name: str = "a") -> None:
        """Start a worker, and let it do a unit: from now on it is known to listen."""
        self.workers.start(name)
        unit = f"warm-{name}"
        self.submit(unit)
        self.must("a first unit is done", lambda: self.accepted(unit))

    def settle(self, *units: str) -> None:
        """Go on looking for a while, and until no record of the units is open."""
        self.until(lambda: False, SETTLE_SECONDS)
        self.until(lambda: not any(map(self.is_open, units)), SETTLE_SECONDS * 3)

    def is_open(self, unit: str) -> bool:
        """Whether the system means to work on a unit."""
        found = self.look(unit)
        return found is None or found["open"]

    def recover(self, units: list[str], since: float) -> tuple[list[str], list[str], float | None]:
        """Wait for units until the bound.

        Returns
        -------
        tuple
            Those lost, those stuck, and the seconds from `since` until the last of the others.
        """
        left, gone, done_at = list(units), dict.fromkeys(units, time.monotonic()), None
        deadline = since + self.bound
        while left and time.monotonic() < deadline:
            for unit in list(left):
                found = self.look(unit)
                now = time.monotonic()
                if found is None or found["open"]:
                    gone[unit] = now
                if found is not None and found["accepted"]:
                    left.remove(unit)
                    done_at = now
            if left and all(time.monotonic() - gone[unit] > GONE_SECONDS for unit in left):
                break
            self._pause()
        known = {unit: self.look(unit) for unit in left}
        stuck = [unit for unit, found in known.items() if found is None or found["open"]]
        lost = [unit for unit in left if unit not in stuck]
        return lost, stuck, None if done_at is None else done_at - since

    def judge(self, units: list[str], since: float, *, follow: bool = True) -> Outcome:
        """Wait for units, let things settle, and count."""
        lost, stuck, seconds = self.recover(units, since)
        first = {unit: self.look(unit) for unit in units}
        if follow:
            self.settle()
        return self.count(Outcome(len(lost), 0, len(stuck), seconds), units, first)

    def count(self, outcome: Outcome, units: list[str], first: dict[str, Look | None]) -> Outcome:
        """Count what was accepted twice since `first`, and what was executed."""
        outcome.doubled = 0
        for unit in units:
            before, now = first.get(unit), self.look(unit)
            if now is not None:
                overwritten = before is not None and before["stored"] not in ("", now["stored"])
                carried = {note.token for note in self.ledger.notes(self._full(unit), "then")}
                accepted = max(now["accepted"], len(carried))
                outcome.doubled += max(accepted - 1, int(overwritten), 0)
        outcome.executions = sum(self.begun(unit) for unit in units)
        outcome.restarts = self.workers.restarts
        return outcome
