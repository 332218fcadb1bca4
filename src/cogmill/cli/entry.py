"""Where the command begins: Ctrl-C is understood before anything large is loaded.

Loading takes a second on a busy machine, and a person who mistyped is quicker than that.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

from cogmill.cli.signals import INTERRUPTED


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Where it is ignored, as in a background job of a script, it stays so until work begins.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    # Here and not at the top: this is what takes the second.
    from cogmill.cli.main import main as command

    command()


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"\ninterrupted\n")
    os._exit(INTERRUPTED)
