"""Ctrl-C and SIGTERM: the first drains, the second ends at once, a third does not ask."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h"
_asked = threading.Event()


@contextmanager
def interruptible() -> Iterator[None]:
    """Make every one of the signals raise `KeyboardInterrupt` inside."""
    _asked.clear()
    with _handling(_interrupt):
        yield


@dataclass(frozen=True)
class Drain:
    """What signals have asked for: `stop` by the first, `hurry` by the second."""

    stop: threading.Event = field(default_factory=threading.Event)
    hurry: threading.Event = field(default_factory=threading.Event)


@contextmanager
def draining(say: Callable[[str], None], *, patient: bool = False) -> Iterator[Drain]:
    """Give the events that signals set; one signal more ends the process at once.

    Children die with it and the database keeps what is done, so even that loses no work.

    Parameters
    ----------
    patient : bool
        True: the second signal only asks to hurry, and it takes a third to end at once.
    """
    drain = Drain()

    def handle(signum: int, frame: FrameType | None) -> None:
        if drain.hurry.is_set() or (drain.stop.is_set() and not patient):
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)
            os._exit(INTERRUPTED)
        (drain.hurry if drain.stop.is_set() else drain.stop).set()

    with _handling(handle):
        # Looked at under the new handler, so that no signal falls between the two.
        if _asked.is_set():
            raise KeyboardInterrupt
        yield drain
        if drain.stop.is_set():
            say("interrupted: unfinished tasks were given back")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # Python drops what is raised within a callback of the collector: it is looked at again.
    _asked.set()
    raise KeyboardInterrupt


@contextmanager
def _handling(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals; whoever calls from another keeps its own.
        yield
        return
    # `nohup` ignores the hang-up for us, so that a closed terminal ends nothing: it stays ignored.
    wanted = [
        number
        for number in _SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
