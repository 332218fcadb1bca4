"""One child for the preflights of many submits: starting one is most of a submit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cogmill.core_machine.child.process import ChildProcess
from cogmill.settings import Settings


class KeptChild(ChildProcess):
    """A child that stays when whoever used it is done."""

    def close(self) -> None:
        """Stay."""

    def end(self) -> None:
        """End."""
        super().close()


class Preflights:
    """Gives the child that runs preflights, a new one where it has died."""

    def __init__(self) -> None:
        self._child: KeptChild | None = None

    def child(self, settings: Settings) -> ChildProcess:
        """Return the child, started where there is none."""
        if self._child is None or not self._child.alive:
            self.end()
            self._child = KeptChild(settings.for_child())
        return self._child

    def end(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._child = None


@pytest.fixture(scope="session")
def preflights() -> Iterator[Preflights]:
    """Keep a child for preflights."""
    kept = Preflights()
    yield kept
    kept.end()
