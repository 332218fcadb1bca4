"""Ctrl-C and SIGTERM: the first drains, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def interruptible() -> Iterator[None]:
    """Make every one of the signals raise `KeyboardInterrupt` inside."""
    with _handling(_interrupt):
        yield


@contextmanager
def draining(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Give an event that the first signal sets; a second one ends the process at once.

    Children die with it and the database keeps what is done, so even that loses no work.
    """
    stop = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)
            os._exit(INTERRUPTED)
        stop.set()

    with _handling(handle):
        yield stop
        if stop.is_set():
            say("interrupted: unfinished tasks were given back")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _handling(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals; whoever calls from another keeps its own.
        yield
        return
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
