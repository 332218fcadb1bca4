"""What goes on when a fault strikes: calm runs, and what makes the machine take its rarer paths."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cogmill.core_machine.contracts import JobStatus
from cogmill.core_machine.reconciliation import FORGOTTEN

if TYPE_CHECKING:
    from tests.faults.sweep import Trial

Step = Callable[["Trial"], object]


def nothing(trial: Trial) -> None:
    """Do nothing."""


def submitted(trial: Trial) -> None:
    """A job is there."""
    trial.submit()


def go(trial: Trial) -> None:
    """Let go of what holds."""
    trial.go()


@dataclass(frozen=True)
class Scenario:
    """One course of events.

    Attributes
    ----------
    role : str
        What the armed process does: a function of `tests.faults.armed`.
    inputs : dict
        Of the job.
    prepare : callable
        What happens before the armed process starts.
    moment : callable, optional
        Only from then on is the fault armed.
    during : callable
        What happens once it is armed.
    arguments : callable
        What the armed process is told.
    again : callable
        How the unarmed do what an armed command did not bring to its end.
    fails, dismissed : bool
        Whether the job ends so before it is mended and retried, or submitted anew.
    charges : str
        Part of what the scenario itself has charged to a task.
    excused : tuple of str
        Invariants that the scenario itself has broken.
    """

    role: str = "work"
    inputs: dict[str, Any] = field(default_factory=dict)
    prepare: Step = submitted
    moment: Callable[[Trial], object] | None = None
    during: Step = nothing
    arguments: Callable[[Trial], dict[str, Any]] = lambda trial: {}
    again: Step = nothing
    fails: bool = False
    dismissed: bool = False
    charges: str = ""
    excused: tuple[str, ...] = ()


def holding(*keys: str) -> Callable[[Trial], object]:
    """Tasks of these keys are at work, and hold."""
    return lambda trial: all(map(trial.noted, keys))


def all_but_first(trial: Trial) -> bool:
    """One sheet holds, the other ones are done."""
    done = "SELECT count(*) FROM task WHERE status = 'succeeded' AND kind = 'work'"
    return trial.noted("sheet0") and trial.rows(done) == [(3,)]


def nap(trial: Trial) -> None:
    """Stop the armed process for longer than a suspicion takes, then let go."""
    beaten = "SELECT 1 FROM worker WHERE beat_at > cogmill.now() - make_interval(secs => 2.6)"
    trial.signal(signal.SIGSTOP)
    try:
        trial.until(lambda: trial.rows(beaten) == [], "the process has slept")
    finally:
        trial.signal(signal.SIGCONT)
    trial.go()


def by_a_dead_worker(trial: Trial) -> None:
    """The plan was claimed by a worker that does not beat any more."""
    trial.submit()
    trial.claim(trial.join(suspect_seconds=0.4))


def by_a_worker_that_left(trial: Trial) -> None:
    """The plan was claimed by a worker that has signed off."""
    trial.submit()
    incarnation = trial.join(suspect_seconds=1000)
    trial.claim(incarnation)
    trial.state.workers.retire(incarnation)


def by_a_forgetful_worker(trial: Trial) -> None:
    """The plan is held by a live worker that does not know of it."""
    trial.submit()
    incarnation = trial.join(suspect_seconds=1000)
    trial.claim(incarnation)
    old = "SELECT 1 FROM task WHERE started_at < cogmill.now() - make_interval(secs => 0.5)"
    trial.until(lambda: trial.rows(old), "two beats have passed")
    trial.state.workers.beat(incarnation, [])


def miscounted(trial: Trial) -> None:
    """Somebody's hand has changed how many tasks remain."""
    trial.submit()
    trial.start_worker()
    trial.until(lambda: trial.noted("sheet0") and trial.noted("sheet1"), "the sheets hold")
    trial.stop_worker()
    trial.rows("UPDATE stage SET remaining = remaining + 1 WHERE status = 'running' RETURNING 1")


def mended(trial: Trial) -> None:
    """Let go once the count is right again, or the fault has kept it from that."""
    wrong = "SELECT 1 FROM stage WHERE name = 'sheets' AND remaining <> 4"
    trial.until(lambda: trial.struck() or trial.rows(wrong) == [], "the count is right again")
    trial.go()


def long_told(trial: Trial) -> None:
    """Nobody came when the job's message was sent."""
    trial.submit()
    old = "SELECT 1 FROM wakeup WHERE sent_at < cogmill.now() - make_interval(secs => 0.4)"
    trial.until(lambda: trial.rows(old), "the message is old")


def made_before(trial: Trial) -> None:
    """The job has been successful."""
    _worked(trial, JobStatus.SUCCESSFUL)


def failed_before(trial: Trial) -> None:
    """The job has failed, and what it failed for is mended."""
    _worked(trial, JobStatus.FAILED)
    trial.mend()


def _worked(trial: Trial, status: JobStatus) -> None:
    job = trial.submit()
    trial.start_worker()
    trial.until(lambda: trial.job().status.terminal, "the job ends")
    assert trial.job().status is status, trial.job().failure
    owed = "SELECT 1 FROM cleanup WHERE done_at IS NULL"
    if status is JobStatus.SUCCESSFUL:
        trial.until(lambda: trial.rows(owed) == [], f"{job.id} is cleaned up after")
    trial.stop_worker()


def retried(trial: Trial) -> None:
    """The job has failed, was mended and is retried."""
    failed_before(trial)
    trial.processor.retry(trial.job().id)


def endlessly_cleaned(trial: Trial) -> None:
    """The clean-up was claimed an hour ago by a worker that beats, and has not ended."""
    made_before(trial)
    trial.rows(
        "UPDATE cleanup SET done_at = NULL, worker = %s, "
        "claimed_at = cogmill.now() - interval '1 hour' RETURNING 1",
        trial.join(suspect_seconds=1000),
    )


def at_work(trial: Trial) -> None:
    """An unarmed worker is at work, and two tasks hold."""
    trial.submit()
    trial.start_worker()
    trial.until(lambda: trial.noted("sheet0") and trial.noted("sheet1"), "the sheets hold")


def cut_off(trial: Trial) -> None:
    """The job was dismissed in the middle of its publish, and nobody has cleaned up yet."""
    trial.submit()
    trial.start_worker()
    trial.until(lambda: trial.noted("bind"), "the pages are published")
    # The worker's slots are to be busy no more before any of them could claim the clean-up.
    trial.stop_worker()
    trial.state.jobs.dismiss(trial.job().id)


def of_another_engine(trial: Trial) -> None:
    """The job was submitted for an engine that nobody has any more."""
    trial.submit()
    trial.rows("UPDATE job SET engine = 'press 0' RETURNING 1")
    trial.rows("UPDATE task SET engine = 'press 0' RETURNING 1")


def submit_again(trial: Trial) -> None:
    """Type the command again."""
    trial.submit()


def force_again(trial: Trial) -> None:
    """Type the command again; it names no job, so another one is made."""
    trial.processor.submit("press", trial.inputs(), force=True)


def retry_again(trial: Trial) -> None:
    """Type the command again, which joins what the first one made."""
    if trial.job().status.terminal:
        trial.processor.retry(trial.job().id)


def dismiss_again(trial: Trial) -> None:
    """Type the command again."""
    trial.state.jobs.dismiss(trial.job().id)


def with_inputs(trial: Trial) -> dict[str, Any]:
    return {"inputs": trial.given}


def with_force(trial: Trial) -> dict[str, Any]:
    return {"inputs": trial.given, "force": True}


def with_other_inputs(trial: Trial) -> dict[str, Any]:
    return {"inputs": {**trial.given, "pages": 7}}


def with_job(trial: Trial) -> dict[str, Any]:
    return {"job": trial.job().id, "workers": [str(trial.join(suspect_seconds=0.4))]}


BOTH = ("sheet0", "sheet1")
SCENARIOS: dict[str, Scenario] = {
    "calm": Scenario(),
    "last sheet": Scenario(inputs={"hold": ("sheet0",)}, moment=all_but_first, during=go),
    "binding": Scenario(inputs={"hold": ("bind",)}, moment=holding("bind"), during=go),
    "stumble": Scenario(
        inputs={"hold": ("sheet1",), "stumble": ("sheet1",)},
        moment=holding("sheet1"),
        during=go,
        charges="the paper is stuck",
    ),
    "spoil": Scenario(
        inputs={"hold": ("sheet1",), "spoil": ("sheet1",)},
        moment=holding("sheet1"),
        during=go,
        fails=True,
    ),
    "die": Scenario(
        inputs={"hold": ("sheet1",), "die": ("sheet1",)},
        moment=holding("sheet1"),
        during=go,
        charges="signal 9",
    ),
    "faint": Scenario(
        inputs={"wide": 2, "hold": ("sheet0",), "faint": ("sheet0",)},
        moment=holding("sheet0"),
        during=go,
        charges="MemoryError",
    ),
    "large": Scenario(inputs={"wide": 2, "large": ("sheet0",)}),
    "drain": Scenario(
        inputs={"hold": BOTH}, moment=holding(*BOTH), during=lambda trial: trial.hang_up()
    ),
    "nap": Scenario(inputs={"hold": ("sheet0",)}, moment=holding("sheet0"), during=nap),
    # Where the armed process is slow to start, the task's deadline passes before it looks twice.
    "rescue": Scenario(prepare=by_a_dead_worker, charges=FORGOTTEN.message),
    "orphan": Scenario(prepare=by_a_worker_that_left),
    "forgotten": Scenario(prepare=by_a_forgetful_worker, charges=FORGOTTEN.message),
    "miscounted": Scenario(
        inputs={"hold": ("sheet0", "sheet1", "sheet2", "sheet3")},
        prepare=miscounted,
        during=mended,
        excused=("I4: the count of what remains is wrong",),
    ),
    "retried": Scenario(inputs={"spoil": ("sheet1",)}, prepare=retried),
    "withdraw": Scenario(inputs={"hold": ("bind",)}, prepare=cut_off, dismissed=True),
    "endless": Scenario(prepare=endlessly_cleaned),
    "unwoken": Scenario(role="reconcile", prepare=long_told),
    "submit": Scenario(role="submit", prepare=nothing, arguments=with_inputs, again=submit_again),
    "resubmit": Scenario(
        role="submit", prepare=made_before, arguments=with_force, again=force_again
    ),
    "supersede": Scenario(
        role="submit", prepare=of_another_engine, arguments=with_inputs, again=submit_again
    ),
    "conflict": Scenario(role="submit", arguments=with_other_inputs),
    "retry": Scenario(
        role="retry",
        inputs={"spoil": ("sheet1",)},
        prepare=failed_before,
        arguments=with_job,
        again=retry_again,
    ),
    "dismiss": Scenario(
        role="dismiss",
        inputs={"hold": BOTH},
        prepare=at_work,
        arguments=with_job,
        again=dismiss_again,
        dismissed=True,
    ),
    "look": Scenario(role="look", arguments=with_job),
}
