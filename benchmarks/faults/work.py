"""What one unit of work does in every system; standard library only.

A unit notes that it has begun, has its effect (one INSERT into the ledger, committed), and returns
a token that names this very execution: what a system stores of it tells whose result it took.
"""

from __future__ import annotations

import os
import signal
import time
import uuid

from benchmarks.faults.ledger import Ledger

HOLD_SECONDS = 150.0
"""The longest that an execution holds, should nobody let it go."""
BRIEF_SECONDS = 1.0
SHORT_SECONDS = 0.5
POISON_SECONDS = 1.0
"""How long a poison unit lives before it kills: long enough that a sibling which starts beside it
can end, so that who shares a process with it is hit by chance and not by construction."""
_SLEEPS = {"brief": BRIEF_SECONDS, "short": SHORT_SECONDS}
_POLL_SECONDS = 0.01

Order = dict[str, str]
"""``ledger`` (path), ``unit`` (name) and ``script``:

plain : no more than the above.
brief, short : takes a second, or half of one.
hold before : the first execution stops before its effect until it is let go.
hold after : the first execution stops after its effect, before it returns.
together : every execution stops before its effect and goes on at the instant that is named.
poison : kills its own process, every time.
"""


class HeldTooLong(Exception):
    """Nobody let a held unit go."""


def perform(order: Order) -> str:
    """Do one unit's work as its script says, and return the token of this execution."""
    ledger, unit, script = Ledger(order["ledger"]), order["unit"], order["script"]
    token = uuid.uuid4().hex
    first = ledger.add(unit, token, "begin") == 0
    if script == "poison":
        time.sleep(POISON_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)
    if script in _SLEEPS:
        time.sleep(_SLEEPS[script])
    if script == "together" or (script == "hold before" and first):
        _hold(ledger, unit)
    ledger.add(unit, token, "effect")
    if script == "hold after" and first:
        _hold(ledger, unit)
    return token


def carry_on(order: Order, token: str) -> str:
    """Follow a unit, where a system has follow-ups: note whose result was handed on."""
    Ledger(order["ledger"]).add(order["unit"], token, "then")
    return token


def _hold(ledger: Ledger, unit: str) -> None:
    deadline = time.monotonic() + HOLD_SECONDS
    while (at := ledger.gone(unit)) is None:
        if time.monotonic() > deadline:
            raise HeldTooLong(unit)
        time.sleep(_POLL_SECONDS)
    time.sleep(min(max(0.0, at - time.time()), HOLD_SECONDS))
