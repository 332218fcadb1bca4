"""Children that stay: to load what one needs takes longer than most of what a test asks of it.

A worker of production keeps its children from task to task, so what they do is the same. A test of
how children live and die has its own.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from cogmill import runtime
from cogmill.core_machine.child.process import ChildProcess
from cogmill.settings import Settings

#: Each holds some 150 MB, and tests ask for two alike at most.
MOST_IDLE = 4

#: Settings, and where a child finds what it imports: children that agree in both are alike.
Key = tuple[str, tuple[str, ...]]


class KeptChild(ChildProcess):
    """A child that goes back to the nursery when nobody needs it, unless it is at work still."""

    def __init__(self, nursery: Nursery, key: Key, settings: Settings) -> None:
        self.key = key
        self._nursery = nursery
        self._asked = False
        super().__init__(settings.for_child())

    def preflight(self, *given: Any) -> Any:
        return self._answered(super().preflight, *given)

    def examine(self, *given: Any) -> Any:
        return self._answered(super().examine, *given)

    def run(self, *given: Any) -> Any:
        return self._answered(super().run, *given)

    def _answered(self, ask: Any, *given: Any) -> Any:
        self._asked = True
        answer = ask(*given)
        self._asked = False
        return answer

    def close(self) -> None:
        """Go back."""
        if self.alive and not self._asked:
            self._nursery.take_back(self)
        else:
            self.end()

    def end(self) -> None:
        """End for good."""
        super().close()


class Nursery:
    """Gives children; each is spawned by one thread that outlives all of them.

    Parameters
    ----------
    most_idle : int
        Children that are kept while nobody asks for them.
    """

    def __init__(self, most_idle: int = MOST_IDLE) -> None:
        self._most_idle = most_idle
        self._asked: queue.SimpleQueue[tuple[Key, Settings, Future[KeptChild]] | None]
        self._asked = queue.SimpleQueue()
        self._idle: list[KeptChild] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def spawn(self, settings: Settings) -> ChildProcess:
        """Return an idle child like this, or a new one."""
        key = json.dumps(settings.for_child(), sort_keys=True), tuple(sys.path)
        with self._lock:
            for child in [child for child in self._idle if child.key == key]:
                self._idle.remove(child)
                if child.alive:
                    return child
                child.end()
        made: Future[KeptChild] = Future()
        self._asked.put((key, settings, made))
        return made.result()

    def take_back(self, child: KeptChild) -> None:
        """Keep a child for the next who asks; the one that was idle longest may have to go."""
        with self._lock:
            self._idle.append(child)
            gone = self._idle[: -self._most_idle]
            del self._idle[: -self._most_idle]
        for each in gone:
            each.end()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let all of this process that wants a child get one here."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtime, "spawn", self.spawn)
            yield

    def close(self) -> None:
        """End those that are idle."""
        for child in self._idle:
            child.end()
        self._asked.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            key, settings, made = asked
            try:
                made.set_result(KeptChild(self, key, settings))
            except BaseException as error:
                made.set_exception(error)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Keep children for the session."""
    kept = Nursery()
    yield kept
    kept.close()
