"""What every adapter is: two roles in a process of its own; standard library only.

``worker ADDRESS NAME`` works until it is killed. ``client`` answers requests, one JSON object a
line: it submits as a producer of that system would, and reads what the system has recorded.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, Protocol, TypedDict

from benchmarks.faults.work import Order


class NotOffered(Exception):
    """The system's documentation offers nothing for this; the message says what was looked at."""


class Look(TypedDict):
    """What a system has recorded of one unit.

    accepted : how many outcomes it took as good, over all jobs of that unit.
    stored : the token that it stores as the result now; empty where it stores no results.
    open : whether it still holds a record that it means to work on.
    failed : whether it has recorded that the unit failed for good.
    """

    accepted: int
    stored: str
    open: bool
    failed: bool


class Client(Protocol):
    """The producer's and the reader's side of a system."""

    def prepare(self, address: str) -> None:
        """Make everything that the system needs on an empty server or database."""
        ...

    def submit(self, address: str, order: Order, lose: bool) -> None:
        """Submit a unit under its name; `lose` loses the message that says so."""
        ...

    def fan_in(self, address: str, orders: list[Order], follow: Order) -> None:
        """Submit units and one that follows when all of them are done."""
        ...

    def look(self, address: str, unit: str) -> Look:
        """Read what is recorded of a unit."""
        ...


def main(make: Callable[[], Client], work: Callable[[str, str], None]) -> None:
    """Take the role that the command line names."""
    if sys.argv[1] == "worker":
        work(sys.argv[2], sys.argv[3])
    else:
        _serve(make())


def _serve(client: Client) -> None:
    # Whatever a library prints must not touch the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(_answer(client, json.loads(line))), file=answers, flush=True)


def _answer(client: Client, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": getattr(client, request.pop("do"))(**request)}
    except NotOffered as reason:
        return {"not offered": str(reason)}
    except Exception as error:  # the harness decides: the server may just be down
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
