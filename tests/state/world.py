"""The world of the simulation: virtual time, luck from one seed, and a broker not to be trusted."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import psycopg

from cogmill.core_machine.state import StateManager
from cogmill.core_machine.transitions.settlement import Settlement
from cogmill.core_machine.transitions.wakeups import flush


class Hearer(Protocol):
    """A process that a wake-up may reach."""

    name: str
    alive: bool

    def hear(self, reference: str) -> None: ...


F = TypeVar("F", bound=Hearer)


class World(Generic[F]):
    """Virtual time and luck, and what happened so far."""

    def __init__(
        self, state: StateManager, reads: psycopg.Connection[tuple[Any, ...]], seed: int
    ) -> None:
        self.state = state
        self.reads = reads
        self.rng = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self.faulty = True
        self.met: Counter[str] = Counter()
        self.trace: list[str] = []
        self.attempts: dict[int, int] = {}
        self.fleet: list[F] = []
        self.broker = Broker(self)
        self.settlement = Settlement(state, self._backoff)
        self._hash = hashlib.sha256()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @property
    def digest(self) -> str:
        """The hash over the trace."""
        return self._hash.hexdigest()

    def chance(self, probability: float) -> bool:
        """Draw a fault; once the faults have stopped there are none."""
        return self.faulty and self.rng.random() < probability

    def later(self, least: float, most: float, action: Callable[[], None]) -> None:
        at = self.now + self.rng.uniform(least, most)
        heapq.heappush(self._agenda, (at, next(self._order), action))

    def next(self) -> tuple[float, Callable[[], None]]:
        at, _, action = heapq.heappop(self._agenda)
        return max(at, self.now), action

    def sleep(self, seconds: float) -> None:
        """Let time pass in which nothing happens, as when every machine is suspended."""
        self.now += seconds
        self._agenda = [(at + seconds, order, action) for at, order, action in self._agenda]

    def note(self, what: str, text: str = "") -> None:
        """Count what was met, and write it into the trace."""
        self.met[what] += 1
        line = f"{self.now:.3f} {what} {text}"
        self.trace.append(line)
        self._hash.update(line.encode() + b"\n")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.reads.execute(query.encode(), values or None, prepare=True).fetchall()

    def identify(self) -> uuid.UUID:
        return uuid.UUID(int=self.rng.getrandbits(128), version=4)

    def _backoff(self, failures: int) -> float:
        return 0.5 * 2.0 ** (failures - 1) * self.rng.uniform(0.5, 1.5)

    # --- what every process does after a transition, unless it dies in between -----------------

    def advance_sometime(self, job_id: str) -> None:
        if not self.chance(0.15):
            self.later(0, 1.5, lambda: self.advance(job_id))

    def advance(self, job_id: str) -> None:
        self.note("advance", f"{job_id} {self.state.jobs.advance(job_id)}")
        self.flush_sometime()

    def flush_sometime(self) -> None:
        if not self.chance(0.2):
            self.later(0, 1, lambda: self.note("flush", str(flush(self.state, self.broker))))


class Broker:
    """A `WakeupPublisher` that delivers late, doubled, reordered, or never."""

    def __init__(self, world: World[Any]) -> None:
        self._world = world
        self._given: list[str] = []
        self.loses = 0.3

    def wake(self, reference: str) -> None:
        """Take a wake-up; what becomes of it is drawn when the step has ended."""
        self._given.append(reference)

    def draw(self) -> None:
        """Decide on what was given, in an order that no database plan can change."""
        world = self._world
        given, self._given = sorted(self._given), []
        for reference in given:
            copies = 0 if world.rng.random() < self.loses else world.rng.choice((1, 1, 1, 2, 3))
            world.note(("wake-up lost", "wake-up sent")[copies > 0], f"{reference} x{copies}")
            world.met["wake-up doubled"] += copies > 1
            for _ in range(copies):
                world.later(0, world.rng.choice((0.1, 2, 15)), partial(self._deliver, reference))

    def _deliver(self, reference: str) -> None:
        """Wake one worker, as a queue does."""
        hearing = [worker for worker in self._world.fleet if worker.alive]
        if hearing:
            worker = self._world.rng.choice(hearing)
            self._world.note("wake-up delivered", f"{reference} {worker.name}")
            worker.hear(reference)
