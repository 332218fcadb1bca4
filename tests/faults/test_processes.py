"""Real processes that die, freeze and lose their database, at real moments."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from pathlib import Path

import pytest
from pydantic import JsonValue
from tests.harness.processes import PATIENCE_SECONDS, alive, children_of, until
from tests.harness.site import Site

from cogmill.core_machine.child.process import ChildProcess
from cogmill.core_machine.contracts import Cause, Failure, Job, JobStatus, Task, TaskKind
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.transitions import preflight
from cogmill.core_machine.worker import run_jobs
from cogmill.core_machine.worker.in_flight import Holdings, InFlight
from cogmill.errors import DatabaseUnavailable, Refused
from cogmill.settings import CHILD_MEMORY, PARENT_MEMORY


def busy(site: Site, count: int = 2) -> list[int]:
    """Wait until that many attempts hold, and return the pids of their children."""
    worker = site.workers[-1]
    until(lambda: _begun(site.folder) >= count, f"{count} tasks are begun")
    return worker.children()


def _begun(folder: Path) -> int:
    return len({path.name.split(".")[0] for path in folder.glob("[0-9]*.t*")})


def test_a_killed_child_is_replaced_and_the_other_slot_goes_on(site: Site) -> None:
    job = site.submit(hold=True)
    site.work()
    os.kill(busy(site)[0], signal.SIGKILL)
    until(lambda: site.attempts(0) + site.attempts(1) == 3, "the killed task is begun again")
    site.go()
    assert site.ended(job).outputs == {"total": 1}
    assert site.rows(
        "SELECT failures FROM task WHERE position = 1 AND kind = 'work' ORDER BY failures"
    ) == [(0,), (1,)]


def fail(site: Site, faults: dict[str, str]) -> list[Failure]:
    """Run a job for each fault to its failure, whose message has the words beside the fault."""
    jobs = {fault: site.submit("naughty", fault=fault, count=2) for fault in faults}
    site.work()
    failures = []
    for fault, words in faults.items():
        failure = site.ended(jobs[fault], JobStatus.FAILED).failure
        assert failure is not None
        assert words in failure.message
        failures.append(failure)
    return failures


def test_a_task_that_always_kills_its_child_fails_its_job(site: Site) -> None:
    faults = {"dies": "signal 9", "leaves": "exit code 3", "dies planning": "signal 9"}
    assert {failure.cause for failure in fail(site, faults)} == {Cause.LOST}
    assert site.rows("SELECT max(failures) FROM task") == [(2,)]


def test_what_can_never_be_recorded_fails_the_job_at_once(site: Site) -> None:
    faults = {
        "one key twice": "work, same) already exists",
        "large params": "task_params_check",
        "NUL in the result": "cannot be converted to text",
        "NUL in a large result": "cannot be converted to text",
        "NUL in the message": "is odd",
    }
    assert {failure.cause for failure in fail(site, faults)} == {Cause.PERMANENT}
    assert site.rows("SELECT 1 FROM event WHERE kind = 'task retrying'") == []


def test_a_killed_worker_leaves_no_child_and_another_one_finishes(site: Site) -> None:
    job = site.submit(hold=True)
    doomed = site.started(site.launch())
    until(lambda: _begun(site.folder) == 2, "both tasks are begun")
    children = children_of(doomed.pid)
    assert len(children) == 2
    doomed.kill()
    until(lambda: not any(map(alive, children)), "the children are gone", seconds=1)
    site.go()
    site.work()
    assert site.ended(job).outputs == {"total": 1}
    assert site.rows("SELECT status FROM worker ORDER BY started_at") == [("dead",), ("live",)]


def test_a_killed_postmaster_costs_time_only(site: Site) -> None:
    job = site.submit(hold=True)
    site.work()
    other = site.started(site.launch())
    busy(site)
    (postmaster,) = site.rows("SELECT pg_read_file('postmaster.pid')")
    os.kill(int(postmaster[0].split()[0]), signal.SIGKILL)
    site.go()
    assert site.ended(job).outputs == {"total": 1}
    assert other.poll() is None
    again = site.submit(name="again")
    assert site.ended(again).outputs == {"total": 1}


def test_what_a_worker_let_go_with_its_lease_is_given_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise DatabaseUnavailable("nobody answers")

    job = site.submit(hold=True)
    site.work()
    children = busy(site)
    # Nobody declares it dead: a silent database does not let others look either.
    site.rows("UPDATE worker SET suspect_seconds = 1000 RETURNING 1")
    with monkeypatch.context() as broken:
        broken.setattr(site.state.workers, "beat", silent)
        until(lambda: not any(map(alive, children)), "the worker kills its children itself")
    site.go()
    assert site.ended(job).outputs == {"total": 1}
    assert site.rows("SELECT max(failures) FROM task") == [(0,)]


def test_what_was_let_go_with_the_lease_is_no_forgotten_task_until_there_is_a_new_child(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise DatabaseUnavailable("nobody answers")

    site.use(site.settings.model_copy(update={"workers": 1}))
    job = site.submit(hold=True, count=1)
    worker = site.work()
    children = busy(site, 1)
    site.rows("UPDATE worker SET suspect_seconds = 1000 RETURNING 1")
    room, make = threading.Event(), ChildProcess.__init__

    def slowly(child: ChildProcess, settings: dict[str, JsonValue]) -> None:
        room.wait(PATIENCE_SECONDS)
        make(child, settings)

    monkeypatch.setattr(ChildProcess, "__init__", slowly)
    with monkeypatch.context() as broken:
        broken.setattr(site.state.workers, "beat", silent)
        until(lambda: not any(map(alive, children)) and worker.idle, "it lets go of its task")
    until(lambda: site.rows("SELECT FROM task WHERE status = 'ready'"), "the task is free")
    room.set()
    site.go()
    assert site.ended(job).outputs == {"total": 0}
    assert site.rows("SELECT max(failures) FROM task") == [(0,)]


def test_a_frozen_worker_settles_nothing_when_it_thaws(site: Site) -> None:
    job = site.submit(hold=True)
    frozen = site.started(site.launch())
    until(lambda: _begun(site.folder) == 2, "both tasks are begun")
    os.kill(frozen.pid, signal.SIGSTOP)
    site.go()
    site.work()
    done = site.ended(job)
    settled = "SELECT id, attempt, worker, finished_at FROM task ORDER BY id"
    before = site.rows(settled)
    os.kill(frozen.pid, signal.SIGCONT)
    until(
        lambda: site.rows("SELECT count(*) FROM worker WHERE status = 'live'") == [(2,)],
        "the thawed worker has a new incarnation",
    )
    assert site.rows(settled) == before
    assert site.state.jobs.get(job.id) == done
    assert site.rows("SELECT min(attempt) FROM task WHERE position = 1 AND kind = 'work'") == [(2,)]
    again = site.submit(name="again")
    assert site.ended(again).outputs == {"total": 1}


def test_a_dismissed_job_is_off_its_children_within_a_beat_and_then_cleaned(site: Site) -> None:
    job = site.submit(hold=True)
    site.work()
    children = busy(site)
    site.state.jobs.dismiss(job.id)
    until(lambda: not any(map(alive, children)), "the children are killed", seconds=2)
    until(lambda: (site.folder / "cleaned.failed").exists(), "the clean-up ran")
    until(lambda: site.workers[0].idle, "the slots are free")
    assert site.rows("SELECT DISTINCT status FROM task WHERE position = 1 AND kind = 'work'") == [
        ("cancelled",)
    ]


def test_a_drain_gives_tasks_back_uncharged(site: Site) -> None:
    job = site.submit(hold=True)
    first = site.work()
    children = busy(site)
    first.stop()
    assert not any(map(alive, children))
    assert (
        site.rows("SELECT status, attempt, failures FROM task WHERE kind = 'work'")
        == [("ready", 1, 0)] * 2
    )
    assert site.rows("SELECT status FROM worker") == [("gone",)]
    site.go()
    site.work()
    assert site.ended(job).outputs == {"total": 1}


def test_two_workers_share_one_job(site: Site) -> None:
    job = site.submit(count=4, hold=True)
    site.work()
    site.launch()
    until(lambda: _begun(site.folder) == 4, "all four slots are busy")
    held = site.rows("SELECT worker FROM task WHERE status = 'running'")
    assert sorted(held.count(row) for row in held) == [2, 2, 2, 2]
    site.go()
    assert site.ended(job).outputs == {"total": 14}


def test_a_worker_of_one_job_leaves_others_alone(site: Site) -> None:
    other, mine = site.submit(name="other"), site.submit(name="mine")
    site.work(only_jobs=[mine.id])
    site.ended(mine)
    assert site.state.jobs.get(other.id).status is JobStatus.ACCEPTED


def test_one_worker_does_its_several_jobs_and_leaves_others_alone(site: Site) -> None:
    names = ("other", "first", "second")
    other, *mine = [site.submit(name=name) for name in names]
    ids = [job.id for job in mine]
    worker = site.machine.worker(only_jobs=ids)
    open_at_each_look: list[int] = []
    watch = run_jobs.Watch(seconds=0.1, on_look=lambda look: open_at_each_look.append(look.open))
    run_jobs.run_jobs(site.state, worker, ids, watch)
    assert [site.state.jobs.get(each).status for each in ids] == [JobStatus.SUCCESSFUL] * 2
    assert site.state.jobs.get(other.id).status is JobStatus.ACCEPTED
    assert len(site.rows("SELECT incarnation FROM worker")) == 1
    assert open_at_each_look[-1] == 0 == min(open_at_each_look)
    assert open_at_each_look == sorted(open_at_each_look, reverse=True)


def test_a_refusal_records_nothing(site: Site) -> None:
    with pytest.raises(Refused, match="numbers are not welcome today"):
        site.submit(refuse=True)
    assert site.state.jobs.recent() == []


@pytest.mark.parametrize(
    ("fault", "why"),
    [("preflight dies", "signal 11"), ("preflight hangs", r"no answer within 0\.5 s")],
)
def test_a_preflight_that_ends_badly_refuses_the_job(
    site: Site, fault: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "PREFLIGHT_SECONDS", 0.5)
    before = set(children_of(os.getpid()))
    with pytest.raises(Refused, match=why):
        site.machine.job_processor().submit("naughty", site.inputs("naughty", fault=fault))
    assert site.state.jobs.recent() == []
    assert set(children_of(os.getpid())) <= before


def test_submits_at_once_and_again_answer_with_one_job(site: Site) -> None:
    made: list[Job] = []

    def submit(hint: int) -> None:
        made.append(site.machine.job_processor().submit("toy", site.inputs(hint=hint)).job)

    threads = [threading.Thread(target=submit, args=(hint,)) for hint in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    site.work()
    job = site.ended(made[0])
    assert {one.id for one in made} == {job.id}
    assert site.submit().id == job.id
    assert site.rows("SELECT count(*) FROM job") == [(1,)]


def test_a_live_job_whose_engine_nobody_offers_is_superseded(site: Site) -> None:
    old = site.submit()
    site.rows("UPDATE job SET engine = 'abacus 0' RETURNING 1")
    site.rows("UPDATE task SET engine = 'abacus 0' RETURNING 1")
    worker = site.work()
    until(lambda: worker.idle, "the worker has looked")
    assert site.rows("SELECT status, attempt FROM task") == [("ready", 0)]
    new = site.submit()
    assert (new.id != old.id, new.generation) == (True, 2)
    assert site.state.jobs.get(old.id).status is JobStatus.DISMISSED
    assert site.ended(new).outputs == {"total": 1}


def test_a_permanent_error_is_not_tried_again(site: Site) -> None:
    job = site.submit(fail=(1,))
    site.work()
    failed = site.ended(job, JobStatus.FAILED)
    assert failed.failure is not None
    assert str(failed.failure) == (
        "number 1 cannot be squared (stage squares, task 1); leave it out"
    )
    assert site.attempts(1) == 1


def test_a_transient_error_is_tried_again_and_counted(site: Site) -> None:
    job = site.submit(stumble=(1,))
    site.work()
    site.ended(job)
    assert site.attempts(1) == 2
    assert site.rows(
        "SELECT key, attempt, failures FROM task WHERE kind = 'work' AND position = 1 ORDER BY id"
    ) == [("0", 1, 0), ("1", 2, 1)]


def test_a_clean_up_whose_child_dies_is_done_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cogmill.core_machine.orchestration.CLEAN_RETRY_SECONDS", 0.1)
    job = site.submit("naughty", fault="clean-up dies once", count=0)
    site.work()
    site.ended(job)
    done = "SELECT attempt FROM cleanup WHERE done_at IS NOT NULL"
    until(lambda: site.rows(done) == [(2,)], "the clean-up is settled")
    assert (site.folder / "cleaned").exists()


def test_large_results_and_many_tasks_pass_through(site: Site) -> None:
    site.work()
    large = site.submit("naughty", fault="large result", count=1)
    ended = site.ended(large)
    assert isinstance(ended.outputs, dict)
    many = site.submit("toy", count=5000, hold=True)
    until(lambda: _begun(site.folder) >= 2, "the plan is settled")
    assert site.rows("SELECT planned, remaining FROM stage WHERE name = 'squares'") == [
        (5000, 5000)
    ]
    site.state.jobs.dismiss(many.id)
    assert site.rows(
        "SELECT count(*) FROM task WHERE job_id = %s AND status = 'cancelled'", many.id
    ) == [(5000,)]


def test_two_reconcilers_at_once_repair_once(site: Site) -> None:
    job = site.submit(hold=True)
    doomed = site.started(site.launch())
    until(lambda: _begun(site.folder) == 2, "both tasks are begun")
    doomed.kill()

    def freed() -> bool:
        return site.rows("SELECT count(*) FROM task WHERE status = 'running'") == [(0,)]

    def sweep() -> None:
        reconciler = SystemReconciler(site.state, site.machine.publisher)
        until(lambda: (reconciler.step(), freed())[1], "the dead worker is found")

    threads = [threading.Thread(target=sweep, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.rows("SELECT attempt, failures FROM task WHERE kind = 'work'") == [(1, 1)] * 2
    assert len(site.rows("SELECT 1 FROM event WHERE kind = 'task rescued'")) == 2
    site.go()
    site.work()
    assert site.ended(job).outputs == {"total": 1}


def test_a_worker_offers_no_memory_that_its_idle_children_hold(site: Site) -> None:
    memory, slots = 2**30, 3
    site.use(site.settings.model_copy(update={"workers": slots, "memory": memory}))
    site.work()
    ((offered,),) = site.rows("SELECT memory FROM worker")
    children = memory - PARENT_MEMORY
    assert offered == children - 2 * CHILD_MEMORY
    # Where shares are even, each slot has its own, whatever the others do.
    held, share = Holdings(), children // slots
    with site.machine.children.lent() as spare:
        for taken in range(slots):
            free = offered - held.memory(CHILD_MEMORY)
            assert share <= free == children - taken * share - (slots - 1 - taken) * CHILD_MEMORY
            held.put(InFlight(_task(share), uuid.uuid4(), spare.get()))


def _task(memory: int) -> Task:
    return Task(
        id=1,
        job_id="j",
        position=0,
        kind=TaskKind.WORK,
        key="k",
        params={},
        job_type="toy",
        job_version=1,
        memory=memory,
        seconds=1,
        attempt=1,
        failures=0,
        max_failures=1,
    )
