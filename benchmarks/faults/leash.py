"""Runs a program that the kernel ends together with its parent: ``leash.py PROGRAM ARG...``.

Linux only. The wish for a death signal outlives exec, so it is in force before the program imports
anything.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
COMMAND = (sys.executable, "-I", "-S", __file__)
"""What to write before the program, whose path must be whole."""


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(sys.argv[1], sys.argv[1:])
