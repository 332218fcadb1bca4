"""What signals do to a command before and while it works. No database."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from cogmill.cli import main, signals
from cogmill.cli.jobs import jobs

INTERRUPTED_WHILE_LOADING = """
import os, signal, sys
from cogmill.cli import entry

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "cogmill.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
entry.main()
"""
BEGUN_UNDER_NOHUP = """
import os, signal
from cogmill.cli.signals import draining

signal.signal(signal.SIGHUP, signal.SIG_IGN)
with draining(print) as drain:
    os.kill(os.getpid(), signal.SIGHUP)
    assert not drain.stop.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    assert drain.stop.is_set()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_interruption_while_the_command_loads_is_no_traceback() -> None:
    done = run(INTERRUPTED_WHILE_LOADING)
    assert (done.returncode, done.stderr.split()) == (signals.INTERRUPTED, ["interrupted"])


def test_what_nohup_began_outlives_its_terminal() -> None:
    done = run(BEGUN_UNDER_NOHUP)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interruption_before_there_is_a_job_is_told_to_programs_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(jobs, "callback", interrupted)
    assert main.call(["jobs", "--json", "--quiet"]) == signals.INTERRUPTED
    told = capsys.readouterr()
    assert json.loads(told.out)["status"] == "interrupted"
    assert "the same command resumes" in told.err


class Dropper:
    """Interrupts while Python collects it, which drops whatever the handler raises."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interruption_that_python_drops_is_seen_before_work_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dropped: list[sys.UnraisableHookArgs] = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    with signals.interruptible():
        Dropper()
        assert [given.exc_type for given in dropped] == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt), signals.draining(print):
            pytest.fail("work began")
