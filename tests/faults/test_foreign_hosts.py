"""`MessageHost.process(reference)`: a message at a time, in whatever process the host has."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from tests.harness.processes import alive, children_of, until
from tests.harness.site import PACE, Site

from cogmill import runtime
from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.contracts import Job
from cogmill.core_machine.worker.host import MessageHost
from cogmill.core_machine.worker.row import WorkerRow
from cogmill.errors import TransientError
from cogmill.settings import Settings

HOST = """
import multiprocessing, os, sys
from cogmill import runtime
from cogmill.settings import Settings
host = runtime.message_host(Settings.load())
reference, how = sys.argv[1:]

def work():
    more = True
    while more:
        try:
            more = host.process(reference)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    host.close()

print("ready", flush=True)
if how == "fork":
    host.process("nothing")  # the parent is a worker already
    child = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    child.start()
    child.join()
    print(child.exitcode, flush=True)
    host.close()
else:
    work()
"""


@pytest.fixture
def host(site: Site) -> Iterator[MessageHost]:
    settings = Settings.load(
        pace=PACE,
        workers=2,
        memory=2**30,
        host="here",
        database_url=SecretStr(make_conninfo(site.conninfo)),
    )
    made = runtime.message_host(settings)
    yield made
    made.close()


def drive(host: MessageHost, job: Job) -> None:
    while host.process(job.id):
        pass


def drive_to_the_end(site: Site, host: MessageHost, job: Job) -> None:
    """Send messages until the clean-up is done too, which waits for a beat after the last task."""

    def cleaned() -> bool:
        drive(host, job)
        return (site.folder / "cleaned.ok").exists()

    until(cleaned, "the job is cleaned up")


def attempts(site: Site) -> list[tuple[object, ...]]:
    return site.rows("SELECT DISTINCT attempt FROM task ORDER BY 1")


def test_a_message_does_one_piece_of_work_and_is_sent_on(site: Site, host: MessageHost) -> None:
    job = site.submit(count=3)
    assert [host.process(job.id) for _ in range(3)] == [True] * 3
    # Two plans and one of three squares are done; each message does one thing and no more.
    assert site.rows("SELECT count(*) FROM task WHERE status = 'succeeded'") == [(3,)]
    drive_to_the_end(site, host, job)
    assert site.ended(job).outputs == {"total": 5}
    assert host.process(job.id) is False


def test_a_wrong_doubled_or_late_message_does_no_harm(site: Site, host: MessageHost) -> None:
    job = site.submit()
    assert host.process("no such job")
    drive_to_the_end(site, host, job)
    assert not any(host.process(job.id) for _ in range(3))
    assert site.ended(job).outputs == {"total": 1}
    assert attempts(site) == [(1,)]


def test_one_message_twice_at_once_in_threads_does_nothing_twice(
    site: Site, host: MessageHost
) -> None:
    job = site.submit(count=6)
    threads = [threading.Thread(target=drive, args=(host, job)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A thread may have found nothing while a plan was at work.
    drive(host, job)
    assert site.ended(job).outputs == {"total": 55}
    assert attempts(site) == [(1,)]


def test_a_forked_daemonic_process_of_a_worker_is_a_worker_of_its_own(site: Site) -> None:
    job = site.submit()
    host = _host(site, job, "fork")
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    assert host.stdout.readline() == "0\n"
    assert host.wait(20) == 0
    assert site.ended(job).outputs == {"total": 1}
    assert site.rows("SELECT count(*), count(DISTINCT pid), min(status) FROM worker") == [
        (2, 2, "gone")
    ]


def test_after_a_pause_longer_than_the_lease_nothing_is_done_twice(site: Site) -> None:
    job = site.submit(hold=True)
    host = _host(site, job, "here")
    until(lambda: len(list(site.folder.glob("[01].*"))) == 1, "the first square is begun")
    (child, *_) = children_of(host.pid)
    os.kill(host.pid, signal.SIGSTOP)
    other = site.work()
    until(
        lambda: site.rows("SELECT count(*) FROM worker WHERE status = 'dead'") == [(1,)],
        "the frozen host is declared dead",
    )
    site.go()
    done = site.ended(job)
    before = site.rows("SELECT id, attempt, finished_at FROM task ORDER BY id")
    other.stop()
    os.kill(host.pid, signal.SIGCONT)
    until(lambda: not alive(child), "the thawed host has killed its child")
    assert host.wait(20) == 0
    assert site.rows("SELECT id, attempt, finished_at FROM task ORDER BY id") == before
    assert site.state.jobs.get(job.id) == done


def test_a_host_that_slept_finds_work_at_once(site: Site, host: MessageHost) -> None:
    first = site.submit(name="first")
    drive(host, first)
    site.rows("UPDATE worker SET status = 'dead', ended_at = cogmill.now() RETURNING 1")
    second = site.submit(name="second")
    until(lambda: host.process(second.id), "the host has a new incarnation", seconds=5)
    drive(host, second)
    assert site.ended(second).outputs == {"total": 1}


def test_what_interrupts_the_caller_interrupts_no_work(site: Site) -> None:
    job = site.submit(hold=True)
    host = _host(site, job, "here")
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    until(lambda: list(site.folder.glob("[01].*")), "the first square is begun")
    host.send_signal(signal.SIGINT)
    assert host.stdout.readline() == "interrupted\n"
    site.go()
    site.work()
    assert site.ended(job).outputs == {"total": 1}
    assert host.wait(20) == 0
    assert attempts(site) == [(1,)]


def test_a_worker_that_does_not_start_leaves_no_child(
    host: MessageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TransientError("the database does not answer", "try again")

    before = children_of(os.getpid())
    with monkeypatch.context() as broken:
        broken.setattr(WorkerRow, "register", refuse)
        broken.setattr(runtime, "spawn", _spawn)  # one that nobody keeps for another test
        with pytest.raises(TransientError):
            host.process("no such job")
    assert children_of(os.getpid()) == before
    assert host.process("no such job") is False


def test_a_child_that_starts_while_its_host_stops_ends_too(
    site: Site, host: MessageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = site.submit(hold=True)
    begun, go, made = threading.Event(), threading.Event(), []

    def late(settings: Settings) -> ChildProcess:
        begun.set()
        made.append(_spawn(settings))
        go.wait(20)
        return made[-1]

    assert [host.process(job.id) for _ in range(2)] == [True] * 2  # both plan
    callers = [threading.Thread(target=_ended, args=(host, job)) for _ in range(2)]
    callers[0].start()
    until(lambda: list(site.folder.glob("[01].*")), "the first square is begun")
    monkeypatch.setattr(runtime, "spawn", late)
    callers[1].start()
    assert begun.wait(20)
    host.close()
    go.set()
    for caller in callers:
        caller.join()
    assert not made[0].alive


def _spawn(settings: Settings) -> ChildProcess:
    return ChildProcess(settings.for_child())


def _ended(host: MessageHost, job: Job) -> None:
    with contextlib.suppress(TransientError):
        host.process(job.id)


def _host(site: Site, job: Job, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, job.id, how],
        env=site.environment(COGMILL_WORKERS="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    site.processes.append(process)
    return process
