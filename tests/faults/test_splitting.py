"""Out of memory is not the end: what has no room is planned again smaller, with the same bytes."""

from __future__ import annotations

import pytest
from tests.faults.test_generations import WHOLE, adopted, executed, processor
from tests.harness.site import Site
from tests.harness.steps import MEBIBYTE

from cogmill.core_machine import reconciliation
from cogmill.core_machine.child import process
from cogmill.core_machine.contracts import Cause, JobStatus


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "ROOM_SECONDS", 0.2)
    monkeypatch.setattr(reconciliation, "THOROUGH_SECONDS", 0.1)


def parts(site: Site) -> list[tuple[str, str, str]]:
    rows = site.rows("SELECT kind, key, status FROM task WHERE position = 0 ORDER BY key, kind")
    return [(str(kind), str(key), str(status)) for kind, key, status in rows]


def test_a_job_planned_for_large_workers_is_finished_by_small_ones_with_the_same_bytes(
    site: Site,
) -> None:
    # Slices of 4 x 160 MiB; a worker of 512 MiB has 384 for its child.
    job = site.submit("slices", unit=160 * MEBIBYTE)
    site.use(site.settings.model_copy(update={"memory": 512 * MEBIBYTE, "workers": 1}))
    site.work()
    site.launch(COGMILL_MEMORY="512MB", COGMILL_WORKERS="1")
    done = site.ended(job)
    assert (site.folder / "whole").read_bytes() == WHOLE
    assert isinstance(done.outputs, dict)
    assert done.outputs["parts"] == 4
    assert [entry for entry in parts(site) if entry[0] == "split"] == [
        ("split", "0-4", "succeeded"), ("split", "4-8", "succeeded"),
    ]  # fmt: skip
    assert site.rows("SELECT planned, remaining FROM stage WHERE position = 0") == [(4, 0)]
    peaks = site.rows("SELECT max(peak_memory) FROM task_result")
    assert peaks[0][0] < 512 * MEBIBYTE


def test_a_task_that_died_of_memory_twice_is_planned_again_in_half(site: Site) -> None:
    site.work()
    job = site.submit("slices", unit=40 * MEBIBYTE, length=4, hungry=True)
    site.ended(job)
    assert (site.folder / "whole").read_bytes() == WHOLE[: len(b"0 0\n1 1\n2 4\n3 9\n")]
    assert site.rows("SELECT attempt, memory_failures FROM task WHERE kind = 'split'") == [(3, 2)]
    assert site.rows(
        "SELECT data ->> 'cause' FROM event WHERE kind = 'task retrying' ORDER BY id"
    ) == [("memory",)]


def test_the_parts_of_a_split_task_are_taken_over_by_the_next_generation(site: Site) -> None:
    site.use(site.settings.model_copy(update={"memory": 512 * MEBIBYTE, "workers": 1}))
    failed = site.submit("slices", unit=160 * MEBIBYTE, length=4, broken=(2,))
    site.work()
    site.ended(failed, JobStatus.FAILED)
    assert executed(site) == ["0 2", "2 4"]
    (site.folder / "mended").touch()
    again = processor(site).retry(failed.id).job
    done = site.ended(again)
    assert adopted(site, again) == ["0-2"]
    assert executed(site) == ["0 2", "2 4", "2 4"]
    assert (site.folder / "whole").read_bytes() == b"0 0\n1 1\n2 4\n3 9\n"
    assert isinstance(done.outputs, dict)
    assert done.outputs["parts"] == 2


def test_a_task_that_cannot_be_split_fails_its_job_and_names_the_budget(site: Site) -> None:
    job = site.submit("slices", unit=400 * MEBIBYTE, whole=True)
    site.work()
    failure = site.ended(job, JobStatus.FAILED).failure
    assert failure is not None
    assert (failure.code, failure.cause) == ("no-room", Cause.PERMANENT)
    assert "needs 1632MB of memory, and no live worker has more than 760MB" in failure.message
    assert "start a worker with --workers 1 --memory 1760MB or more" in failure.remedy


def test_a_large_task_waits_where_no_worker_could_do_it_at_any_size(site: Site) -> None:
    site.submit("slices", unit=400 * MEBIBYTE)
    actions = site.machine.reconciler().step()
    assert [action.finder for action in actions if action.finder == "task without room"] == []


def test_a_child_that_the_kernel_killed_for_memory_died_of_memory(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter(range(1000))
    monkeypatch.setattr(process, "oom_kills", lambda: next(kills))
    job = site.submit("naughty", fault="dies", count=1)
    site.work()
    failure = site.ended(job, JobStatus.FAILED).failure
    assert failure is not None
    assert "for want of memory" in str(site.rows("SELECT data FROM event WHERE data ? 'cause'"))
