"""Claims: what `TaskProcessor` needs of the worker in whose name it claims."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol, TypeVar
from uuid import UUID

from cogmill.core_machine.child.process import (
    ChildProcess,
)
from cogmill.core_machine.contracts import (
    CleanUp,
    Task,
    TaskOutcome,
)


class Processed(Enum):
    """What a pass of `TaskProcessor.process` came to."""

    NOTHING = "nothing"
    """Nothing was due that this worker can take."""
    SETTLED = "settled"
    """One attempt or clean-up was done, and its outcome is written."""
    UNSETTLED = "unsettled"
    """Something was claimed, and its outcome may not be written: the machine will find it."""


class Claim(Protocol):
    """One claimed attempt or clean-up, as the worker that holds it watches it."""

    @property
    def work(self) -> Task | CleanUp:
        """What was claimed."""
        ...

    @property
    def incarnation(self) -> UUID:
        """The worker's incarnation that claimed it."""
        ...

    def progress(self, done: int) -> None:
        """Take note of the units done."""
        ...

    def answered(self) -> None:
        """Take note that the child is free: what is left is to settle."""
        ...

    def ordered(self) -> TaskOutcome | None:
        """Return what to settle when the child was killed on order; None when nobody ordered it."""
        ...


Finder = Callable[[UUID, int], Task | CleanUp | None]
"""Claims something for an incarnation that has so many bytes free."""


ClaimT = TypeVar("ClaimT", bound=Claim)


class ClaimingRow(Protocol[ClaimT]):
    """The row of a live worker, in whose name work is claimed."""

    def claim(self, child: ChildProcess, find: Finder) -> ClaimT | None:
        """Claim what `find` finds, unless the lease is over or the worker drains."""
        ...

    def let_go(self, claim: ClaimT, *, settled: bool) -> None:
        """Take note that nobody works on it any more, and whether its outcome is written."""
        ...
