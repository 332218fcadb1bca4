"""A bench on which guards are taken out: mutated statements, and races that leave luck no say."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.harness.clock import Clock
from tests.harness.invariants import VIOLATIONS
from tests.harness.server import copied

from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database import rows
from cogmill.core_machine.state.database.database import Connection, Database
from cogmill.core_machine.state.database.statements import statement
from cogmill.core_machine.state.embedded.server import Lease

T = TypeVar("T")
U = TypeVar("U")
PATIENCE_SECONDS = 30.0
TABLES = "job, stage, task, task_result, worker, wakeup, cleanup, event, reconciliation_run"


class Caught(AssertionError):
    """A check noticed: not an assertion of a helper, which would make any accident a proof."""


def expect(condition: object, what: str) -> None:
    """Raise `Caught` unless it holds."""
    if not condition:
        raise Caught(what)


@dataclass(frozen=True)
class Mutant:
    """The machine without one guard.

    Attributes
    ----------
    without : dict
        By the name of a statement, what of its text becomes what; white space is any white space.
    only_once, never : str
        A statement whose every second run, or every run, does nothing.
    index : str
        An index that is dropped.
    caught : str
        What the check says when it notices.
    """

    caught: str
    without: dict[str, tuple[str, str]] = field(default_factory=dict)
    only_once: str = ""
    never: str = ""
    index: str = ""

    @contextmanager
    def in_place(self, conn: psycopg.Connection[Any]) -> Iterator[None]:
        """Run the machine without the guard; fail when nothing of it was ever missing."""
        texts = {name: _mutated(name, *change) for name, change in self.without.items()}
        runs: Counter[str] = Counter()

        def load(name: str) -> bytes:
            runs[name] += 1
            if name == self.never or (name == self.only_once and runs[name] % 2 == 0):
                return b"SELECT 1"
            return texts.get(name) or statement(name)

        with pytest.MonkeyPatch.context() as patch, _dropped(conn, self.index):
            patch.setattr(rows, "statement", load)
            yield
        # Reached when the mutant was caught, too: what was never run was never missing.
        wanted = {**dict.fromkeys(texts, 1), self.never: 1, self.only_once: 2, "": 0}
        unused = [name for name, count in wanted.items() if runs[name] < count]
        assert not unused, f"nothing was missing of {unused}"


@contextmanager
def _dropped(conn: psycopg.Connection[Any], index: str) -> Iterator[None]:
    """Do without an index; what it would have refused is gone before it comes back."""
    if not index:
        yield
        return
    how = conn.execute("SELECT pg_get_indexdef(%s::regclass)", (index,)).fetchone()
    assert how is not None
    conn.execute(f"DROP INDEX {index}".encode())
    yield
    empty(conn)
    conn.execute(how[0])


def empty(conn: psycopg.Connection[Any]) -> None:
    """Remove every job, worker and event."""
    conn.execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE".encode())


def _mutated(name: str, old: str, new: str) -> bytes:
    """Change the text of a statement; what is not there exactly once is no guard to take out."""
    found = re.compile(r"\s+".join(map(re.escape, old.split())))
    text = statement(name).decode()
    changed, count = found.subn(lambda _: new, text)
    assert count == 1, f"{name}.sql has {old!r} {count} times"
    assert changed != text
    return changed.encode()


@contextmanager
def fresh(lease: Lease, template: str, name: str) -> Iterator[str]:
    """Give the address of a database of this name, for many tests that empty it themselves."""
    with copied(lease, name, template) as conninfo:
        yield make_conninfo(conninfo, options="-c synchronous_commit=off")


class Bench:
    """A database, the clock, and two ways to look at what a check did to them."""

    def __init__(self, database: Database, address: str, clock: Clock) -> None:
        self.state = StateManager(database)
        self.database = database
        self.clock = clock
        self._address = address
        self.look = psycopg.connect(
            address, autocommit=True, options="-c search_path=cogmill -c synchronous_commit=off"
        )
        for table in TABLES.split(", "):
            # A vacuum at work would keep an index from being dropped, and a table from emptying.
            self.look.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())

    def close(self) -> None:
        self.look.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.look.execute(query.encode()).fetchall()

    def empty(self) -> None:
        empty(self.look)

    def nothing_is_violated(self) -> None:
        """Ask everything that the model asks."""
        found = [name for name, query in VIOLATIONS.items() if self.rows(query)]
        expect(not found, "; ".join(found))

    def race(
        self, first: Callable[[StateManager], T], second: Callable[[StateManager], U]
    ) -> tuple[Future[T], Future[U]]:
        """Run `second` beside a `first` that has done everything but commit.

        `first` commits as soon as `second` has ended or waits for a lock, whichever comes.
        """
        with _Pausing(self._address) as paused, ThreadPoolExecutor(2) as threads:
            one = threads.submit(first, StateManager(paused))
            try:
                assert paused.reached.wait(PATIENCE_SECONDS)
                two = threads.submit(second, self.state)
                deadline = time.monotonic() + PATIENCE_SECONDS
                while not two.done() and not self._somebody_waits():
                    assert time.monotonic() < deadline
            finally:
                paused.go.set()
        return one, two

    def _somebody_waits(self) -> bool:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(self.rows(f"{waiting} AND datname = current_database()"))


class _Pausing(Database):
    """A database whose transactions stop before their commit until they are let go."""

    def __init__(self, address: str) -> None:
        super().__init__(address, connections=1)
        self.reached = threading.Event()
        self.go = threading.Event()

    def run(self, work: Callable[[Connection], T], **named: Any) -> T:
        def paused(conn: Connection) -> T:
            made = work(conn)
            self.reached.set()
            assert self.go.wait(PATIENCE_SECONDS)
            return made

        return super().run(paused, **named)
