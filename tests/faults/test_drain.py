"""SIGTERM: what runs gets a grace, then goes back uncharged; a second one does not wait."""

from __future__ import annotations

import signal
import subprocess
import threading
import time

import pytest
from tests.harness.processes import alive, until
from tests.harness.site import Site

from cogmill.core_machine.clock import wall_seconds
from cogmill.core_machine.contracts import JobStatus
from cogmill.core_machine.worker import heartbeat

CLI = "from cogmill.cli.main import main; main(['worker'])"


def began(site: Site) -> int:
    return len(list(site.folder.glob("[01].*")))


def worker_command(site: Site, grace: str) -> subprocess.Popen[str]:
    process = site.launch(CLI, COGMILL_PACE__GRACE=grace)
    until(lambda: began(site) == 2, "both tasks are begun")
    return process


def given_back(site: Site) -> list[tuple[object, ...]]:
    return site.rows("SELECT status, attempt, failures FROM task WHERE kind = 'work'")


def test_what_ends_within_the_grace_is_settled(site: Site) -> None:
    job = site.submit(hold=True)
    worker = worker_command(site, grace="20")
    worker.send_signal(signal.SIGTERM)
    site.go()
    assert worker.wait(20) == 0
    assert given_back(site) == [("succeeded", 1, 0)] * 2
    assert site.rows("SELECT status FROM worker") == [("gone",)]
    assert site.state.jobs.get(job.id).status is JobStatus.RUNNING
    site.work()
    assert site.ended(job).outputs == {"total": 1}


def test_what_does_not_is_given_back_uncharged_within_a_second_after_it(site: Site) -> None:
    site.submit(hold=True)
    worker = worker_command(site, grace="1")
    worker.send_signal(signal.SIGTERM)
    told = time.monotonic()
    until(lambda: given_back(site) == [("ready", 1, 0)] * 2, "both tasks are given back")
    assert 1.0 <= time.monotonic() - told < 2.0
    assert worker.wait(10) == 0


def test_a_second_signal_does_not_wait_for_the_grace(site: Site) -> None:
    site.submit(hold=True)
    worker = worker_command(site, grace="60")
    worker.send_signal(signal.SIGTERM)
    until(lambda: _drains(site), "it drains")
    worker.send_signal(signal.SIGTERM)
    told = time.monotonic()
    until(lambda: given_back(site) == [("ready", 1, 0)] * 2, "both tasks are given back")
    assert time.monotonic() - told < 2.0
    assert worker.wait(10) == 0


def _drains(site: Site) -> bool:
    # Nothing tells that it drains but that it takes nothing new: a second job stays where it is.
    if not site.rows("SELECT 1 FROM job WHERE inputs ->> 'name' = 'later'"):
        site.submit(name="later")
    return site.rows("SELECT status FROM task WHERE attempt = 0") == [("ready",)]


def test_a_worker_that_drains_beats_on_and_claims_nothing(site: Site) -> None:
    job = site.submit(hold=True)
    worker = site.work()
    until(lambda: began(site) == 2, "both tasks are begun")
    hurry = threading.Event()
    stopping = threading.Thread(target=worker.stop, args=(60.0, hurry))
    stopping.start()
    later = site.submit(name="later")
    first = site.rows("SELECT beat_at FROM worker")
    until(lambda: site.rows("SELECT beat_at FROM worker") > first, "it beats")
    assert site.state.jobs.get(later.id).status is JobStatus.ACCEPTED
    children = worker.children()
    hurry.set()
    stopping.join(10)
    assert not stopping.is_alive()
    assert not any(map(alive, children))
    site.go()
    site.work()
    site.ended(job)


def test_a_task_whose_progress_stands_still_is_killed_and_tried_again(site: Site) -> None:
    job = site.submit("naughty", fault="stands still", count=1)
    site.work()
    until(
        lambda: site.rows("SELECT 1 FROM event WHERE data ->> 'cause' = 'hung'"),
        "it is killed as hung",
    )
    site.state.jobs.dismiss(job.id)


@pytest.mark.parametrize("lived", [0, 400])
def test_only_a_worker_that_was_there_misses_the_sweeps(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, lived: float
) -> None:
    part = site.machine.worker()
    part.heartbeat.step()  # it enters
    site.state.reconciliations.note()
    site.rows(
        "UPDATE reconciliation_run SET started_at = started_at - interval '350 s' RETURNING 1"
    )
    now = wall_seconds()
    monkeypatch.setattr(heartbeat, "wall_seconds", lambda: now + lived)
    part.heartbeat.step()
    assert ("no sweep" in caplog.text) == (lived > 0)
