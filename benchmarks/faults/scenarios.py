"""The eight faults. Each is one function from a trial to what it counted.

Every trial begins with a worker that has done a first unit, so that none measures a start.
Seconds run from the fault to the moment when the last healthy unit's outcome is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.faults.pace import SILENCE
from benchmarks.faults.trial import Outcome, Trial

_FAN_INS = 3
"""Pairs of last units a trial: one could miss a race by luck."""
_AHEAD_SECONDS = 0.5
_ZOMBIE_SECONDS = 6.0
_SIBLINGS = 4


def zombie(trial: Trial) -> Outcome:
    """Freeze a worker past its lease; another does the unit; then the frozen one finishes it."""
    trial.warm("a")
    trial.submit("unit", "hold before")
    trial.must("the unit is begun", lambda: trial.begun("unit") == 1)
    trial.workers.freeze("a")
    since = time.monotonic()
    if trial.system.replaces:
        # Nobody in the system notices; whoever runs it gives up on the worker and replaces it.
        trial.until(lambda: False, SILENCE)
        trial.workers.start("a")
    else:
        trial.workers.start("b")
    lost, stuck, seconds = trial.recover(["unit"], since)
    first = {"unit": trial.look("unit")}
    # Letting go first: the frozen execution is to finish, and not to be told to stop before.
    trial.let_go("unit")
    trial.workers.thaw("a")
    finished = trial.until(lambda: trial.effects("unit") >= 2, _ZOMBIE_SECONDS)
    trial.settle()
    outcome = Outcome(len(lost), 0, len(stuck), seconds)
    if not finished:
        outcome.notes.append("the thawed worker did not get to its effect")
    return trial.count(outcome, ["unit"], first)


def _killed(trial: Trial, script: str, reached: Callable[[], bool]) -> Outcome:
    trial.warm()
    trial.submit("unit", script)
    trial.must("the unit has got to where it is to die", reached)
    since = time.monotonic()
    trial.workers.kill("a")
    return trial.judge(["unit"], since)


def killed_before_commit(trial: Trial) -> Outcome:
    """Kill -9 a worker with all its processes after the unit began, before its effect."""
    return _killed(trial, "hold before", lambda: trial.begun("unit") == 1)


def killed_before_ack(trial: Trial) -> Outcome:
    """Kill -9 a worker with all its processes after the effect is committed, before it returns."""
    return _killed(trial, "hold after", lambda: trial.effects("unit") == 1)


def duplicate(trial: Trial) -> Outcome:
    """Deliver a submit again while its unit runs, and once more after it is done."""
    trial.warm()
    trial.submit("unit", "brief")
    trial.must("the unit is begun", lambda: trial.begun("unit") >= 1)
    since = time.monotonic()
    trial.submit("unit", "brief")
    outcome = trial.judge(["unit"], since)
    first = {"unit": trial.look("unit")}
    trial.submit("unit", "brief")
    trial.settle("unit")
    return trial.count(outcome, ["unit"], first)


def lost_message(trial: Trial) -> Outcome:
    """Lose the message that tells idle workers of a unit."""
    trial.warm()
    since = time.monotonic()
    trial.submit("unit", lose=True)
    return trial.judge(["unit"], since, follow=False)


def restart(trial: Trial) -> Outcome:
    """Kill -9 the database or broker while a unit runs; a second later it starts again."""
    trial.warm()
    trial.submit("unit", "hold before")
    trial.submit("waiting", "hold before")
    trial.must("the units are begun", lambda: trial.begun("unit") * trial.begun("waiting") >= 1)
    since = time.monotonic()
    trial.server.crash()
    trial.let_go("unit")
    trial.let_go("waiting")
    return trial.judge(["unit", "waiting"], since)


def _all_begun(trial: Trial, units: list[str]) -> bool:
    return all(map(trial.begun, units))


def fan_in(trial: Trial) -> Outcome:
    """Let the two last units before a fan-in end at one instant; one unit is to follow, once."""
    trial.warm()
    total = Outcome()
    followed = []
    for number in range(_FAN_INS):
        pair, follow = [f"left-{number}", f"right-{number}"], f"follow-{number}"
        orders = [trial.order(unit, "together") for unit in pair]
        trial.client.ask("fan_in", address=trial.address, orders=orders, follow=trial.order(follow))
        trial.must("both units are begun", partial(_all_begun, trial, pair))
        instant = time.time() + _AHEAD_SECONDS
        since = time.monotonic() + _AHEAD_SECONDS
        for unit in pair:
            trial.let_go(unit, instant)
        lost, stuck, seconds = trial.recover([follow], since)
        total.lost += len(lost)
        total.stuck += len(stuck)
        total.seconds = max(filter(None, (total.seconds, seconds)), default=None)
        followed.append(follow)
    first = {unit: trial.look(unit) for unit in followed}
    trial.settle()
    total = trial.count(total, followed, first)
    # Nobody dies here, so a second execution is a second follow-up, whatever is stored of it.
    total.doubled = max(total.doubled, sum(max(trial.begun(unit) - 1, 0) for unit in followed))
    return total


def poison(trial: Trial) -> Outcome:
    """Submit a unit that kills its process every time, in the middle of healthy ones."""
    trial.warm()
    siblings = [f"sibling-{number}" for number in range(_SIBLINGS)]
    since = time.monotonic()
    for unit in [*siblings[:1], "poison", *siblings[1:]]:
        trial.submit(unit, "poison" if unit == "poison" else "short")
    outcome = trial.judge(siblings, since, follow=False)

    def over() -> bool:
        found = trial.look("poison")
        return found is not None and not found["open"]

    ended = trial.until(over, max(0.0, since + trial.bound - time.monotonic()))
    outcome.stuck += int(not ended)
    took = f"after {time.monotonic() - since:.1f} s" if ended else "never"
    outcome.notes.append(f"poison tried {trial.begun('poison')} times, given up {took}")
    first = {unit: trial.look(unit) for unit in siblings}
    outcome = trial.count(outcome, siblings, first)
    return outcome


@dataclass(frozen=True)
class Fault:
    """A fault and its short name."""

    name: str
    title: str
    run: Callable[[Trial], Outcome]


FAULTS = (
    Fault("zombie", "zombie", zombie),
    Fault("kill-before-commit", "kill -9 before commit", killed_before_commit),
    Fault("kill-before-ack", "kill -9 before ack", killed_before_ack),
    Fault("duplicate", "duplicate submit", duplicate),
    Fault("lost-message", "lost message", lost_message),
    Fault("restart", "server restart", restart),
    Fault("fan-in", "fan-in race", fan_in),
    Fault("poison", "poison task", poison),
)
