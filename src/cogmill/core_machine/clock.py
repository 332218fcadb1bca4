"""Time as a process lives it: what it slept through is not what it waited for.

A process may be stopped and go on, a laptop's lid be closed, a machine be paused. None of these
says that a database was silent.
"""

from __future__ import annotations

import time


def wall_seconds() -> float:
    """Return seconds that go on while the machine sleeps; from an arbitrary start, never set."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Silence:
    """How long nobody has answered while this process was awake to ask.

    Parameters
    ----------
    tick : float
        Seconds between two calls of `passed` in a process that is awake; of a longer pause only
        twice so much counts.
    """

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._at = wall_seconds()
        self.seconds = 0.0

    def broken(self) -> None:
        """Take note that somebody answered."""
        self.seconds = 0.0

    def passed(self) -> float:
        """Take note of the time since the last call, and return the silence so far."""
        now = wall_seconds()
        self.seconds += min(now - self._at, 2 * self._tick)
        self._at = now
        return self.seconds
