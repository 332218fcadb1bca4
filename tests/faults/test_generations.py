"""What an ended generation made is taken over by the next one, and removed when nobody needs it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.harness.processes import until
from tests.harness.site import Site

from cogmill.core_machine.contracts import Cause, Job, JobStatus
from cogmill.core_machine.orchestration import JobProcessor
from cogmill.errors import Refused

WHOLE = "".join(f"{number} {number**2}\n" for number in range(8)).encode()


def processor(site: Site) -> JobProcessor:
    return site.machine.job_processor()


def fail(site: Site, **inputs: object) -> Job:
    """Run a job of two slices, the second of which fails for good."""
    job = site.submit("slices", broken=(4,), **inputs)
    until(lambda: executed(site).count("0 4") == 1, "the sound slice is done")
    return site.ended(job, JobStatus.FAILED)


def executed(site: Site) -> list[str]:
    log = site.folder / "executed"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.rpartition(" ")[0] for line in lines]


def adopted(site: Site, job: Job) -> list[str]:
    rows = site.rows(
        "SELECT key FROM task WHERE job_id = %s AND adopted_from IS NOT NULL ORDER BY id", job.id
    )
    return [str(key) for (key,) in rows]


@pytest.fixture
def one_slot(site: Site) -> Site:
    """A worker with one slot: the sound slice is done before the broken one."""
    site.use(site.settings.model_copy(update={"workers": 1}))
    site.work()
    return site


def test_a_retry_takes_over_what_succeeded_and_the_debt_moves_along(one_slot: Site) -> None:
    site = one_slot
    failed = fail(site)
    assert failed.failure is not None
    assert failed.failure.cause is Cause.PERMANENT
    (site.folder / "mended").touch()
    again = processor(site).retry(failed.id[:8]).job
    assert (again.generation, again.lineage) == (2, failed.lineage)
    done = site.ended(again)
    assert adopted(site, again) == ["0-4"]
    assert executed(site) == ["0 4", "4 8", "4 8"]
    assert (site.folder / "whole").read_bytes() == WHOLE
    assert done.outputs == {"sha256": hashlib.sha256(WHOLE).hexdigest(), "parts": 2}
    # Both debts are paid once nobody needs the slices any more.
    until(lambda: not list(site.folder.glob("slice.*")), "both generations are cleaned up")
    assert site.state.jobs.get(failed.id) == failed


def test_the_same_submit_adopts_too_and_force_does_not(one_slot: Site) -> None:
    site = one_slot
    fail(site)
    (site.folder / "mended").touch()
    second = site.submit("slices", broken=(4,))
    site.ended(second)
    assert adopted(site, second) == ["0-4"]
    forced = processor(site).submit("slices", site.inputs("slices", broken=(4,)), force=True).job
    site.ended(forced)
    assert adopted(site, forced) == []
    assert executed(site).count("0 4") == 2


def test_what_three_generations_made_is_adopted_from_its_origin(one_slot: Site) -> None:
    site = one_slot
    first = fail(site)
    second = site.ended(processor(site).retry(first.id).job, JobStatus.FAILED)
    (site.folder / "mended").touch()
    third = processor(site).retry(first.id).job
    assert third.generation == 3
    site.ended(third)
    assert adopted(site, second) == adopted(site, third) == ["0-4"]
    origins = site.rows(
        "SELECT DISTINCT origin.job_id FROM task JOIN task AS origin ON origin.id = "
        "task.adopted_from"
    )
    assert origins == [(first.id,)]


def test_nothing_is_adopted_whose_object_is_gone(one_slot: Site) -> None:
    site = one_slot
    failed = fail(site)
    for path in site.folder.glob("slice.0.*"):
        path.unlink()
    (site.folder / "mended").touch()
    again = processor(site).retry(failed.id).job
    site.ended(again)
    assert adopted(site, again) == []


@pytest.mark.parametrize(
    "change",
    ["UPDATE job SET engine = 'slicer 0'", "UPDATE job SET source_identity = 'other numbers'",
     "UPDATE job SET plan_identity = 'other'", "UPDATE job SET version = 0",
     "UPDATE task SET params = '{\"first\": 1, \"stop\": 4}' WHERE key = '0-4'"],
)  # fmt: skip
def test_nothing_is_adopted_from_another_engine_source_plan_or_version(
    one_slot: Site, change: str
) -> None:
    site = one_slot
    failed = fail(site)
    site.rows(f"{change} RETURNING 1")
    (site.folder / "mended").touch()
    again = processor(site).retry(failed.id).job
    site.ended(again)
    assert adopted(site, again) == []


def test_a_retry_from_a_stage_does_that_stage_and_what_follows_again(one_slot: Site) -> None:
    site = one_slot
    failed = fail(site)
    (site.folder / "mended").touch()
    first = processor(site).retry(failed.id, from_stage="cut").job
    site.ended(first)
    assert adopted(site, first) == []
    second = processor(site).retry(failed.id, from_stage="join").job
    assert second.generation == 3
    assert site.ended(second).outputs == site.state.jobs.get(first.id).outputs


def test_what_a_person_dismissed_is_not_adopted(site: Site) -> None:
    job = site.submit("slices")
    site.state.jobs.dismiss(job.id)
    again = site.submit("slices")
    assert again.generation == 2
    assert site.rows("SELECT heir FROM cleanup") == [(None,)]


def test_a_debt_that_somebody_is_paying_is_not_inherited(one_slot: Site) -> None:
    site = one_slot
    failed = fail(site)
    site.workers[0].stop()
    site.rows("UPDATE cleanup SET worker = gen_random_uuid() RETURNING 1")
    again = processor(site).retry(failed.id).job
    assert site.rows("SELECT heir FROM cleanup") == [(None,)]
    assert site.state.generations.adoptable(again.id, 0) == []


def test_a_retry_of_what_lives_or_succeeded_makes_nothing_new(one_slot: Site) -> None:
    site = one_slot
    job = site.submit("slices")
    site.ended(job)
    with pytest.raises(Refused, match="is successful already; name the stage"):
        processor(site).retry(job.id)
    with pytest.raises(Refused, match="has no stage 'saw'; it has cut, join"):
        processor(site).retry(job.id, from_stage="saw")
    site.workers[0].stop()
    second = processor(site).retry(job.id, from_stage="cut")
    third = processor(site).retry(job.id, from_stage="cut")
    assert (second.created, third.created) == (True, False)
    assert second.job.id == third.job.id


def test_failed_jobs_of_a_cause_are_found_until_they_are_retried(one_slot: Site) -> None:
    site = one_slot
    failed = fail(site)
    assert site.state.jobs.failed("permanent") == [failed.id]
    assert site.state.jobs.failed("transient") == []
    (site.folder / "mended").touch()
    site.ended(processor(site).retry(failed.id).job)
    assert site.state.jobs.failed("permanent") == []


def test_the_same_bytes_come_out_of_a_calm_run(site: Site, tmp_path: Path) -> None:
    site.work()
    site.ended(site.submit("slices"))
    assert (site.folder / "whole").read_bytes() == WHOLE
