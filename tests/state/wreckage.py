"""A wrecking yard: jobs made by real transitions, copied in bulk, and broken one by one.

Every shape that a job can have is built once through the transitions, at the time at which it is
what its name says. The copies are exactly such rows under other ids; then SQL breaks them as a
crash, a lost message, a restored backup or a hand in the database would. What counts as repaired is
said by kind, and never by what the reconciler finds.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from tests.harness.clock import Clock
from tests.harness.invariants import VIOLATIONS
from tests.harness.steps import BROKEN, MEBIBYTE, new_job, planned

from cogmill.core_machine.contracts import Cause, Failure, Job, Offer, Task, TaskKind
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.tasks import Attempt, Settled

BEAT_SECONDS = 1.0
BUDGET = 64 * MEBIBYTE
"""What every worker has; a task of the shapes `large` needs three times as much."""
BEGAN = 400.0
"""Seconds before the wreck at which most jobs were made."""
MOST_AGE = 600.0
STARVED = Failure(code="memory", cause=Cause.MEMORY, message="it died of memory")
RECORDS = ("job", "stage", "task", "task_result", "payload", "worker", "wakeup", "cleanup", "event")
CHECKS = {
    **VIOLATIONS,
    # As in VIOLATIONS, for jobs whose tasks are split too.
    "I4: the count of what remains is wrong": """
        SELECT 1 FROM stage WHERE status IN ('running', 'closed') AND remaining <> (
            SELECT count(*) FROM task WHERE task.job_id = stage.job_id
              AND task.position = stage.position AND kind <> 'plan'
              AND task.status <> 'succeeded')""",
}
#: After repairs: a job whose record contradicted itself has failed, and still shows why.
MENDED = dict(CHECKS)
for _name in (
    "I4: the count of what remains is wrong",
    "I4: a closed stage has a task that did not succeed",
):
    MENDED[_name] += """
        AND job_id NOT IN (SELECT id FROM job WHERE failure ->> 'code' = 'contradiction')"""

# --- what is broken, and when it is whole again -----------------------------------------------

Row = tuple[Any, ...]

_HIRE = """
    INSERT INTO worker (incarnation, host, pid, slots, memory, job_types, engines, reaches,
        beat_seconds, suspect_seconds, status, started_at, beat_at, suspected_at,
        suspected_postmaster, ended_at)
    SELECT one, 'wrecked', 7, 2, 64 << 20, ARRAY['toy:1'], ARRAY['e'], ARRAY['any'],
        1, 4, {status}, now() - interval '2 days',
        now() - make_interval(secs => 5 + abs(hashtext(one::text)) % 900), {suspected}, {ended}
    FROM (SELECT DISTINCT unnest(%(workers)s::uuid[]) AS one) AS doomed"""
_HOLD = """
    UPDATE task SET worker = doomed.worker
    FROM unnest(%(jobs)s::text[], %(workers)s::uuid[]) AS doomed (job, worker)
    WHERE task.job_id = doomed.job AND task.status = 'running'"""
_LIST = """
    UPDATE worker SET progress = (
        SELECT jsonb_agg(jsonb_build_object('task_id', id, 'attempt', attempt, 'job_id', job_id,
                                            'done', 7))
        FROM task WHERE task.worker = incarnation AND task.status = 'running')
    WHERE incarnation = ANY (%(workers)s)"""
_SAME_SERVER = "now() - make_interval(secs => 1 + abs(hashtext(one::text)) % 90), "
_SILENT = _HIRE.format(status="'live'", suspected="NULL, NULL", ended="NULL")
_SUSPECTED = _HIRE.format(
    status="'live'", suspected=_SAME_SERVER + "pg_postmaster_start_time()", ended="NULL"
)
_SUSPECTED_BEFORE_A_RESTART = _HIRE.format(
    status="'live'",
    suspected=_SAME_SERVER + "pg_postmaster_start_time() - interval '1 hour'",
    ended="NULL",
)
_ENDED_WORKER = _HIRE.format(
    status="CASE WHEN hashtext(one::text) % 2 = 0 THEN 'dead' ELSE 'gone' END",
    suspected="NULL, NULL",
    ended="now() - interval '1 minute'",
)
_OF = "job_id = ANY (%(jobs)s)"
_DRAW = "abs(hashtext(job_id))"

# Over `job`, one row each.
_LIVE = "status IN ('accepted', 'running')"
_AT_REST = """NOT EXISTS (SELECT FROM task WHERE job_id = job.id
                           AND status IN ('ready', 'running'))
    AND NOT EXISTS (SELECT FROM stage WHERE job_id = job.id
                    AND status IN ('pending', 'planning', 'running'))
    AND EXISTS (SELECT FROM cleanup WHERE job_id = job.id AND worker IS NULL
                AND (done_at IS NOT NULL OR due_at < now() + interval '25 hours'))"""
_FAILED = f"status = 'failed' AND {_AT_REST}"
_TAKEN_BACK = """NOT EXISTS (SELECT FROM task WHERE job_id = job.id AND status = 'running')
    AND EXISTS (SELECT FROM task WHERE job_id = job.id AND status = 'ready' AND failures = 1
                AND failure ->> 'code' = '{code}' AND due_at < now() + interval '10 seconds')"""
_LOST = _TAKEN_BACK.format(code="lost")
_BURIED = f"""{_LOST} AND NOT EXISTS (
    SELECT FROM unnest(%(jobs)s::text[], %(workers)s::uuid[]) AS doomed (job, worker)
    JOIN worker ON incarnation = doomed.worker AND worker.status = 'live'
    WHERE doomed.job = job.id)"""
_COUNTED = """NOT EXISTS (SELECT FROM stage WHERE job_id = job.id AND status = 'running'
    AND remaining IS DISTINCT FROM (
        SELECT count(*) FROM task WHERE task.job_id = stage.job_id
          AND task.position = stage.position AND kind <> 'plan'
          AND task.status NOT IN ('succeeded')))"""
# What a repair has owed a moment ago is sent with the next look.
_TOLD = """EXISTS (SELECT FROM wakeup WHERE job_id = job.id
    AND CASE WHEN sent = generation THEN job_id = ANY (%(heard)s)
             ELSE due_at > now() - interval '1 second' END)"""
_AT_ONE_STAGE = f"""{_LIVE} AND 1 = (SELECT count(*) FROM stage
    WHERE job_id = job.id AND status IN ('planning', 'running'))
    AND NOT EXISTS (SELECT FROM stage WHERE job_id = job.id AND status IN ('planning', 'running')
        AND NOT EXISTS (SELECT FROM task WHERE task.job_id = job.id
            AND task.position = stage.position AND task.status IN ('ready', 'running')))"""
_MOVED_ON = f"({_AT_ONE_STAGE}) OR (status = 'successful' AND outputs IS NOT NULL AND {_AT_REST})"
_PLANNED_ANEW = f"""{_AT_ONE_STAGE} AND EXISTS (SELECT FROM task JOIN stage USING (job_id, position)
    WHERE job_id = job.id AND kind = 'plan' AND task.status = 'ready'
      AND stage.status = 'planning')"""


@dataclass(frozen=True)
class Kind:
    """One way to be broken.

    Attributes
    ----------
    shapes : tuple of str
        The shapes that may be broken so.
    touches : frozenset of str
        What it touches; two kinds that touch the same are never combined.
    damage : tuple of str
        Statements over the job ids ``jobs`` and, at the same place, a ``workers`` of each.
    whole : str
        True of a row of ``job`` when it is repaired.
    ends : bool
        The repair ends the job, whatever else was to be mended.
    found_as : str
        The name of the finder that is to see it.
    """

    shapes: tuple[str, ...]
    touches: frozenset[str]
    damage: tuple[str, ...]
    whole: str
    found_as: str
    ends: bool = False


def _kind(
    shapes: str, touches: str, damage: str | tuple[str, ...], whole: str, found_as: str,
    ends: bool = False,
) -> Kind:  # fmt: skip
    statements = (damage,) if isinstance(damage, str) else damage
    return Kind(
        tuple(shapes.split()), frozenset(touches.split()), tuple(filter(None, statements)),
        whole, found_as, ends,
    )  # fmt: skip


HELD = "planning working second-working"
OPEN = f"fresh second waiting retried large {HELD}"
LIVE = f"{OPEN} drained last-drained failed-open plan-failed"

KINDS = {
    # Shapes that are broken as they are: whoever made them was cut off, or its message was lost.
    "settled and not advanced": _kind(
        "drained last-drained", "", "", _MOVED_ON, "settled, not advanced"
    ),
    "a task failed and its job goes on": _kind(
        "failed-open plan-failed", "", "", _FAILED, "settled, not advanced", ends=True
    ),
    "due again since the last wake-up": _kind("retried", "", "", _TOLD, "lost wake-up"),
    "its wake-up was lost and nobody looks by itself": _kind(
        "fresh-e2 waiting-e2", "", "", _TOLD, "lost wake-up"
    ),
    "a task has no room at any worker": _kind(
        "large", "", "",
        """NOT EXISTS (SELECT FROM task WHERE job_id = job.id AND status = 'ready'
                       AND memory > (64 << 20))
           AND EXISTS (SELECT FROM task WHERE job_id = job.id AND kind = 'split'
                       AND status = 'ready' AND split_budget = 64 << 20)""",
        "task without room",
    ),
    # Workers and what they hold.
    "its worker is silent": _kind(
        HELD, "worker", (_SILENT, _HOLD, _LIST), _BURIED, "silent worker"
    ),
    "its worker is suspected": _kind(
        HELD, "worker", (_SUSPECTED, _HOLD, _LIST), _BURIED, "dead worker"
    ),
    "its worker was suspected before a restart": _kind(
        HELD, "worker", (_SUSPECTED_BEFORE_A_RESTART, _HOLD, _LIST), _BURIED, "silent worker"
    ),
    "its worker is unknown": _kind(HELD, "worker", _HOLD, _LOST, "lost tasks"),
    "its worker has ended": _kind(HELD, "worker", (_ENDED_WORKER, _HOLD), _LOST, "lost tasks"),
    "its last attempt was lost": _kind(
        HELD, "worker attempts",
        (_HOLD, f"UPDATE task SET failures = max_failures - 1 WHERE {_OF} AND status = 'running'"),
        f"{_FAILED} AND failure ->> 'cause' = 'lost'", "lost tasks", ends=True,
    ),
    "it hangs at a worker that beats": _kind(
        HELD, "worker",
        f"""UPDATE task SET deadline_at = now() - make_interval(secs => 6 + {_DRAW} % 300)
            WHERE {_OF} AND status = 'running'""",
        _TAKEN_BACK.format(code="hung"), "hung task",
    ),
    "its worker does not know of it": _kind(HELD, "worker", "", _LOST, "forgotten task"),
    # Stages and counts.
    "a stage was never opened": _kind(
        "fresh second", "plan stage",
        (f"DELETE FROM task WHERE {_OF} AND kind = 'plan' AND status = 'ready'",
         f"""UPDATE stage SET status = 'pending', started_at = NULL
             WHERE {_OF} AND status = 'planning'"""),
        _PLANNED_ANEW, "settled, not advanced",
    ),
    "a stage has no plan task": _kind(
        "fresh second planning", "plan worker",
        f"DELETE FROM task WHERE {_OF} AND kind = 'plan' AND status IN ('ready', 'running')",
        _PLANNED_ANEW, "settled, not advanced",
    ),
    "a stage was planned and never began": _kind(
        "waiting", "stage remaining attempts plan",
        (f"DELETE FROM task WHERE {_OF} AND kind = 'work'",
         f"""UPDATE stage SET status = 'planning', planned = NULL, remaining = NULL
             WHERE {_OF} AND status = 'running'"""),
        f"{_FAILED} AND failure ->> 'code' = 'contradiction'", "settled, not advanced", ends=True,
    ),
    "a stage runs and has no plan task": _kind(
        "waiting working second-working retried", "plan stage worker attempts",
        f"""DELETE FROM task USING stage WHERE task.{_OF} AND kind = 'plan'
              AND stage.job_id = task.job_id AND stage.position = task.position
              AND stage.status = 'running'""",
        f"{_FAILED} AND failure ->> 'code' = 'contradiction'", "contradiction", ends=True,
    ),
    "a task is due at a time that never comes": _kind(
        "fresh second waiting working", "due",
        f"""UPDATE task SET due_at = (ARRAY['infinity', '3026-01-01'])[1 + {_DRAW} % 2]::timestamptz
            WHERE {_OF} AND id IN (SELECT max(id) FROM task WHERE status = 'ready' GROUP BY job_id)
        """,
        f"""{_LIVE} AND NOT EXISTS (SELECT FROM task WHERE job_id = job.id AND status = 'ready'
            AND due_at > now())""",
        "contradiction",
    ),
    "all stages are closed and the job is live": _kind(
        "successful", "cleanup stage",
        ("""UPDATE job SET status = 'running', finished_at = NULL, outputs = NULL
            WHERE id = ANY (%(jobs)s)""",
         f"DELETE FROM cleanup WHERE {_OF}"),
        f"status = 'successful' AND outputs IS NOT NULL AND {_AT_REST}", "settled, not advanced",
    ),
    "a closed stage has an open task": _kind(
        "second second-working", "stray",
        (f"""DELETE FROM task_result USING task
             WHERE task_id = id AND {_OF} AND position = 0 AND key = '0'""",
         f"""UPDATE task SET status = 'ready', finished_at = NULL
             WHERE {_OF} AND position = 0 AND key = '0'"""),
        f"{_FAILED} AND failure ->> 'code' = 'contradiction'", "contradiction", ends=True,
    ),
    "the count of a stage is too high": _kind(
        "waiting working second-working retried large failed-open", "remaining",
        f"""UPDATE stage SET remaining = remaining + 1 + {_DRAW} % 5
            WHERE {_OF} AND status = 'running'""",
        _COUNTED, "contradiction",
    ),
    "the count of a stage is too low": _kind(
        "waiting working second-working retried large failed-open", "remaining",
        f"""UPDATE stage SET remaining = {_DRAW} % remaining
            WHERE {_OF} AND status = 'running'""",
        _COUNTED, "contradiction",
    ),
    "a task waits and has used up its attempts": _kind(
        "fresh second waiting working second-working retried large", "attempts plan",
        f"""UPDATE task SET failures = max_failures, failure = jsonb_build_object('code', 'lost',
                'cause', 'lost', 'message', 'it was lost', 'remedy', '')
            WHERE {_OF} AND id IN (SELECT max(id) FROM task WHERE status = 'ready' GROUP BY job_id)
        """,
        _FAILED, "contradiction", ends=True,
    ),
    # Jobs.
    "a job is accepted and its work has begun": _kind(
        "waiting working second second-working retried large", "job",
        "UPDATE job SET status = 'accepted', started_at = NULL WHERE id = ANY (%(jobs)s)",
        "status <> 'accepted' AND started_at IS NOT NULL", "contradiction",
    ),
    "an ended job has live tasks": _kind(
        "failed dismissed", "task",
        f"""UPDATE task SET status = 'ready', finished_at = NULL
            WHERE {_OF} AND status = 'cancelled'""",
        _AT_REST, "contradiction",
    ),
    "an ended job has running tasks": _kind(
        "failed dismissed", "task",
        """UPDATE task SET status = 'running', finished_at = NULL, deadline_at = now() +
                interval '1 hour', worker = doomed.worker
            FROM unnest(%(jobs)s::text[], %(workers)s::uuid[]) AS doomed (job, worker)
            WHERE job_id = doomed.job AND status = 'cancelled'""",
        _AT_REST, "contradiction",
    ),
    "an ended job has live stages": _kind(
        "failed dismissed successful", "stage",
        f"""UPDATE stage SET finished_at = NULL, status =
                (ARRAY['pending', 'planning', 'running'])[1 + {_DRAW} % 3]
            WHERE {_OF} AND position = (SELECT max(position) FROM stage)""",
        _AT_REST, "contradiction",
    ),
    # Clean-ups.
    "an ended job is owed no clean-up": _kind(
        "failed dismissed successful", "cleanup", f"DELETE FROM cleanup WHERE {_OF}",
        f"""{_AT_REST} AND EXISTS (SELECT FROM cleanup WHERE job_id = job.id AND done_at IS NULL
            AND (due_at > now() + interval '23 hours') = (status = 'failed'))""",
        "contradiction",
    ),
    "a clean-up is held by a worker that has ended": _kind(
        "dismissed successful", "cleanup",
        (_ENDED_WORKER,
         """UPDATE cleanup SET worker = doomed.worker, attempt = 1, claimed_at = now()
            FROM unnest(%(jobs)s::text[], %(workers)s::uuid[]) AS doomed (job, worker)
            WHERE job_id = doomed.job"""),
        f"{_AT_REST} AND EXISTS (SELECT FROM cleanup WHERE job_id = job.id AND due_at <= now())",
        "lost tasks",
    ),
    "a clean-up does not end": _kind(
        "dismissed successful", "cleanup",
        f"""UPDATE cleanup SET worker = %(live)s, attempt = 1,
                claimed_at = now() - make_interval(secs => 1201 + {_DRAW} % 3600)
            WHERE {_OF}""",
        f"{_AT_REST} AND EXISTS (SELECT FROM cleanup WHERE job_id = job.id AND due_at <= now())",
        "endless clean-up",
    ),
    "an heir has ended and its debt is not due": _kind(
        "heir-ended heir-failed", "debt",
        "UPDATE cleanup SET due_at = 'infinity' WHERE heir = ANY (%(jobs)s)",
        """EXISTS (SELECT FROM cleanup WHERE heir = job.id AND done_at IS NULL
            AND due_at < now() + interval '25 hours'
            AND (due_at > now() + interval '23 hours') = (status = 'failed'))""",
        "contradiction",
    ),
    # Wake-ups.
    "a wake-up was never sent": _kind(
        LIVE, "wakeup",
        f"""UPDATE wakeup SET sent = generation - 1,
                due_at = now() - make_interval(secs => 2 + {_DRAW} % 500)
            WHERE {_OF}""",
        _TOLD, "wake-up not sent",
    ),
    "a wake-up is missing": _kind(
        OPEN, "wakeup", f"DELETE FROM wakeup WHERE {_OF}", _TOLD, "lost wake-up"
    ),
}  # fmt: skip

#: The shapes that are broken as they are, and how.
BROKEN_SHAPES = {shape: name for name, kind in KINDS.items() if not kind.touches and not kind.damage
                 for shape in kind.shapes}  # fmt: skip
FORGOTTEN = "its worker does not know of it"
#: Shapes that are healthy, the ones that look most like wrecks first.
HEALTHY = (
    "backing-off", "settled-now", "failed-now", "claimed-now", "being-cleaned", "at-late-worker",
    "splitting", "splitting-now", "heir", "large-elsewhere", "large-young", "failed", "waiting",
    "working", "fresh", "second", "second-working", "successful", "dismissed",
)  # fmt: skip
#: Healthy, too; but a message that is sent for others takes its own along.
OWED = "owed-now"


# --- the yard ---------------------------------------------------------------------------------


@dataclass
class Wrecks:
    """What lies in the yard: the kinds of each wreck by its job, and the healthy jobs by shape."""

    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    workers: dict[str, uuid.UUID] = field(default_factory=dict)
    shapes: dict[str, str] = field(default_factory=dict)

    @property
    def healthy(self) -> list[str]:
        """The jobs that nobody broke."""
        return [job for job in self.shapes if job not in self.kinds]

    def by_kind(self) -> dict[str, list[str]]:
        """Return the jobs of each kind."""
        jobs = defaultdict(list)
        for job, names in self.kinds.items():
            for name in names:
                jobs[name].append(job)
        return dict(jobs)

    def ends(self, job: str, but: str = "") -> bool:
        """Whether a repair ends the job, other than that of one kind."""
        return any(KINDS[name].ends for name in self.kinds.get(job, ()) if name != but)


class Yard:
    """One database full of jobs, live workers, and wrecks.

    Parameters
    ----------
    conn : Connection
        In autocommit, with ``search_path = cogmill``.
    """

    def __init__(
        self, database: Database, conn: psycopg.Connection[Any], clock: Clock, seed: int
    ) -> None:
        self.state = StateManager(database)
        self.conn = conn
        self.clock = clock
        self.wrecks = Wrecks()
        self._rng = random.Random(seed)
        self._now = clock.now
        self.pool: list[uuid.UUID] = []
        self.late = uuid.UUID(int=0)

    def join(self, engines: tuple[str, ...] = ("e",), types: tuple[str, ...] = ("toy:1",)):
        """Register a live worker."""
        incarnation = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        self.state.workers.register(
            incarnation,
            Offer(
                host="h", pid=1, slots=2, memory=BUDGET, job_types=types, engines=engines,
                reaches=("any",), beat_seconds=BEAT_SECONDS, suspect_seconds=4,
            ),
        )  # fmt: skip
        return incarnation

    def rows(self, query: str, **values: object) -> list[Row]:
        """Run a statement and return its rows, if it has any."""
        cursor = self.conn.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    # --- the shapes, by transitions -----------------------------------------------------------

    def build(
        self, wrecks: int, healthy: Iterable[str] = (), pairs: float = 0.3,
        only: Sequence[str] = (),
    ) -> Wrecks:  # fmt: skip
        """Fill the yard: every kind (or `only` some), alone and in pairs, and healthy shapes."""
        self.pool = [self.join() for _ in range(12)]
        self.late = self.join()
        self._prototypes()
        drawn = self._draw(list(only or KINDS), wrecks, pairs)
        self._copy([*(shape for shape, _ in drawn), *healthy])
        assert violated(self.conn, CHECKS) == []
        self._break([names for _, names in drawn])
        self.beat(ago=0.6)
        self.rows("ANALYZE")
        return self.wrecks

    def _prototypes(self) -> None:
        for ago, recipes in sorted(self._recipes().items(), reverse=True):
            self.clock.set(self._now)
            self.clock.advance(-ago)
            for shape, recipe in recipes.items():
                recipe(shape)
        self.clock.set(self._now)

    def _recipes(self) -> dict[float, dict[str, Callable[[str], object]]]:
        """Return how each shape is made, by how long ago."""
        waiting = self._planned
        return {
            BEGAN + 1: {"being-cleaned": self._successful},
            BEGAN: {
                "fresh": self._submit,
                "fresh-e2": lambda shape: self._submit(shape, engine="e2"),
                "planning": lambda shape: self._claim(self._submit(shape)),
                "waiting": lambda shape: waiting(shape, 3),
                "waiting-e2": self._waiting_at_e2,
                "working": lambda shape: self._work(waiting(shape, 4)),
                "drained": lambda shape: self._drain(waiting(shape, 2)),
                "second": self._second,
                "second-working": lambda shape: self._work(self._plan(self._second(shape), 3)),
                "last-drained": lambda shape: self._drain(self._plan(self._second(shape), 1)),
                "failed-open": self._fail,
                "plan-failed": self._fail_plan,
                "successful": self._successful,
                "failed": lambda shape: self.state.jobs.advance(self._fail(shape).id),
                "dismissed": self._dismissed,
                "backing-off": lambda shape: self._retry(shape, 3000, 3001),
                "retried": lambda shape: self._retry(shape, 1, BEGAN - 10),
                "large": self._large,
                "heir": self._heir,
                "heir-ended": lambda shape: self.state.jobs.dismiss(self._heir(shape).id),
                "heir-failed": self._failed_heir,
                "at-late-worker": lambda shape: self._work(waiting(shape, 4), self.late),
                "splitting": self._splitting,
            },
            BEGAN - 2: {"": lambda _: self.state.wakeups.take()},
            300: {"": self._being_cleaned},
            # Longer than one waits for room, and not so long that its message counts as lost.
            40: {"large-elsewhere": lambda shape: self._large(shape, type="elsewhere")},
            25: {"large-young": self._large},
            0.5: {
                "claimed-now": lambda shape: self._claim(waiting(shape, 2)),
                "settled-now": lambda shape: self._drain(waiting(shape, 2)),
                "failed-now": self._fail,
                "splitting-now": self._splitting,
            },
            0.3: {OWED: lambda shape: self._submit(shape, told=False)},
        }

    def _submit(self, shape: str, generation: int = 1, told: bool = True, **changes: object) -> Job:
        new = new_job(shape, generation, owns=f"/out/{shape}/")
        stages = tuple(one.model_copy(update={"plan_seconds": 3600}) for one in new.stages)
        job = self.state.generations.submit(new.model_copy(update={"stages": stages, **changes}))
        assert job is not None
        if told:
            self.state.wakeups.take()
        return job

    def _claim(self, job: Job, worker: uuid.UUID | None = None) -> Attempt:
        worker = worker or self.pool[0]
        task = self.state.tasks.claim(worker, BUDGET, job_id=job.id)
        assert task is not None
        return Attempt(task=task, incarnation=worker)

    def _plan(self, job: Job, count: int, worker: uuid.UUID | None = None) -> Job:
        attempt = self._claim(job, worker)
        assert attempt.task.kind is TaskKind.PLAN
        self.state.tasks.succeed_plan(attempt, {"shared": 1}, planned(count), None)
        self.state.wakeups.take()
        return job

    def _planned(self, shape: str, count: int) -> Job:
        return self._plan(self._submit(shape), count)

    def _waiting_at_e2(self, shape: str) -> Job:
        worker = self.join(engines=("e2",))
        job = self._plan(self._submit(shape, engine="e2"), 2, worker)
        self.state.workers.retire(worker)
        return job

    def _work(self, job: Job, worker: uuid.UUID | None = None) -> Job:
        """One task is done, all others but one are at work."""
        self.state.tasks.succeed(self._claim(job, worker), {"n": 0}, None)
        for _ in range(self._open(job) - 1):
            self._claim(job, worker)
        return job

    def _drain(self, job: Job) -> Job:
        for _ in range(self._open(job)):
            self.state.tasks.succeed(self._claim(job), {"n": 0}, None)
        return job

    def _open(self, job: Job) -> int:
        return self.state.jobs.stages(job.id)[self._position(job)].ready

    def _position(self, job: Job) -> int:
        return [stage.status for stage in self.state.jobs.stages(job.id)].index("running")

    def _advance(self, job: Job) -> Job:
        self.state.jobs.advance(job.id)
        self.state.wakeups.take()
        return job

    def _second(self, shape: str) -> Job:
        return self._advance(self._drain(self._planned(shape, 2)))

    def _successful(self, shape: str) -> Job:
        return self._advance(self._drain(self._plan(self._second(shape), 1)))

    def _fail(self, shape: str) -> Job:
        job = self._planned(shape, 4)
        self.state.tasks.succeed(self._claim(job), {"n": 0}, None)
        self.state.tasks.fail(self._claim(job), BROKEN)
        return job

    def _fail_plan(self, shape: str) -> None:
        self.state.tasks.fail(self._claim(self._submit(shape)), BROKEN)

    def _dismissed(self, shape: str) -> None:
        self.state.jobs.dismiss(self._planned(shape, 3).id)
        self.state.wakeups.take()

    def _retry(self, shape: str, first: float, second: float) -> None:
        job = self._planned(shape, 3)
        attempts = self._claim(job), self._claim(job)
        for attempt, delay in zip(attempts, (first, second), strict=True):
            self.state.tasks.retry(attempt, BROKEN, delay)

    def _large(self, shape: str, **changes: Any) -> None:
        other = self.join(types=(f"{changes['type']}:1",)) if changes else self.pool[0]
        job = self._submit(shape, **changes)
        attempt = self._claim(job, other)
        tasks = [planned(1, 3 * BUDGET)[0], *planned(3)[1:]]
        self.state.tasks.succeed_plan(attempt, None, tasks, None)
        self.state.wakeups.take()
        if changes:
            self.state.workers.retire(other)

    def _heir(self, shape: str) -> Job:
        self._advance(self._fail(shape))
        return self._plan(self._submit(shape, generation=2), 2)

    def _failed_heir(self, shape: str) -> None:
        job = self._heir(shape)
        self.state.tasks.fail(self._claim(job), BROKEN)
        self._advance(job)

    def _splitting(self, shape: str) -> None:
        job = self._planned(shape, 4)
        for _ in range(2):
            attempt = self._claim(job)
            self.state.tasks.split(attempt, STARVED, 1)
            self.state.wakeups.take()
            if self._claim(job).task.kind is TaskKind.SPLIT:
                break

    def _being_cleaned(self, shape: str) -> None:
        claimed = self.state.cleanups.claim(self.pool[0])
        assert claimed is not None
        assert claimed.job_id == "being-cleaned1"

    # --- copies -------------------------------------------------------------------------------

    def _draw(
        self, names: list[str], count: int, pairs: float
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Draw a shape and kinds for each wreck, every kind about as often."""
        drawn: list[tuple[str, tuple[str, ...]]] = []
        for name in itertools.islice(itertools.cycle(names), count):
            shapes = [
                shape for shape in KINDS[name].shapes
                if BROKEN_SHAPES.get(shape, name) == name
            ]  # fmt: skip
            options = _partners(name) if self._rng.random() < pairs else []
            if options:
                other, shape = self._rng.choice(options)
                drawn.append((shape, (name, other)))
            else:
                drawn.append((self._rng.choice(shapes), (name,)))
        self._rng.shuffle(drawn)
        return drawn

    def _copy(self, shapes: Sequence[str]) -> None:
        """Copy each shape under a lineage of its own, and remove the prototypes."""
        young = {
            row[0] for row in self.rows(
                "SELECT lineage FROM job WHERE created_at > cogmill.now() - interval '1 minute'"
            )
        }  # fmt: skip
        # The first twelve characters tell jobs apart: so many the reconciler shows of some.
        lineages = [f"{number:05}.{shape}." for number, shape in enumerate(shapes)]
        ages = [0.0 if shape in young else self._rng.uniform(0, MOST_AGE) for shape in shapes]
        self.rows("CREATE TEMPORARY TABLE fresh (shape text, lineage text, age interval)")
        self.rows(
            """INSERT INTO fresh
               SELECT shape, lineage, make_interval(secs => age)
               FROM unnest(%(shapes)s::text[], %(lineages)s::text[], %(ages)s::float[])
                   AS one (shape, lineage, age)""",
            shapes=list(shapes), lineages=lineages, ages=ages,
        )  # fmt: skip
        self.rows("ANALYZE job, stage, task, fresh")
        renamed = "fresh.lineage || substr({}, length(fresh.shape) + 1)"
        job_id = renamed.format("old.job_id")
        self._insert("job", "old.lineage = fresh.shape",
                     id=renamed.format("old.id"), lineage="fresh.lineage",
                     owns="'/out/' || fresh.lineage")  # fmt: skip
        for table in ("stage", "task", "wakeup"):
            self._insert(table, "job.lineage = fresh.shape", job_id=job_id)
        self._insert("cleanup", "job.lineage = fresh.shape", job_id=job_id,
                     heir=renamed.format("old.heir"))  # fmt: skip
        self.rows("ANALYZE task, job, fresh")
        self.rows(
            """INSERT INTO task_result
               SELECT copy.id, result, payload, peak_memory, task_result.seconds
               FROM task_result JOIN task AS old ON old.id = task_id
               JOIN job ON job.id = old.job_id JOIN fresh ON job.lineage = fresh.shape
               JOIN task AS copy ON copy.job_id =
                   fresh.lineage || substr(old.job_id, length(fresh.shape) + 1)
                AND (copy.position, copy.kind, copy.key) = (old.position, old.kind, old.key)"""
        )
        self.rows("DELETE FROM job WHERE lineage NOT IN (SELECT lineage FROM fresh)")
        self.rows("DELETE FROM worker WHERE status <> 'live'")
        self.rows("TRUNCATE event")
        for table in ("task", "cleanup"):
            self.rows(
                f"""UPDATE {table} SET worker = (%(pool)s::uuid[])[
                        1 + abs(hashtext(job_id)) %% cardinality(%(pool)s::uuid[])]
                    WHERE worker = %(first)s""",
                pool=self.pool, first=self.pool[0],
            )  # fmt: skip
        # The newest generation of a family stands for it.
        newest = self.rows(
            """SELECT fresh.lineage, max(job.id), fresh.shape FROM fresh JOIN job USING (lineage)
               GROUP BY 1, 3 ORDER BY 1"""
        )
        by_lineage = {lineage: (job, shape) for lineage, job, shape in newest}
        self.wrecks.shapes = dict(by_lineage[lineage] for lineage in lineages)
        self.rows("DROP TABLE fresh")

    def _insert(self, table: str, condition: str, **changed: str) -> None:
        """Copy the rows of a table, as old as drawn, with some columns changed."""
        columns = self.rows(
            """SELECT column_name, data_type FROM information_schema.columns
               WHERE table_schema = 'cogmill' AND table_name = %(table)s AND is_identity = 'NO'""",
            table=table,
        )
        values = [
            changed.get(name)
            or f"old.{name}" + (" - fresh.age" if kind.startswith("timestamp") else "")
            for name, kind in columns
        ]
        names = ", ".join(name for name, _ in columns)
        job = "" if table == "job" else "JOIN job ON job.id = old.job_id"
        order = "old.id" if table == "task" else "1"
        self.rows(
            f"""INSERT INTO {table} ({names}) SELECT {", ".join(values)}
                FROM {table} AS old {job} JOIN fresh ON {condition}
                ORDER BY fresh.lineage, {order}"""
        )

    # --- and damage ---------------------------------------------------------------------------

    def _break(self, drawn: Iterable[tuple[str, ...]]) -> None:
        self.wrecks.kinds = dict(zip(self.wrecks.shapes, drawn, strict=False))
        for name, jobs in self.wrecks.by_kind().items():
            self.damage(name, jobs)

    def damage(self, name: str, jobs: Sequence[str]) -> None:
        """Break jobs in one way; a few that are next to each other share a worker."""
        workers: list[uuid.UUID] = []
        while len(workers) < len(jobs):
            doomed = uuid.UUID(int=self._rng.getrandbits(128), version=4)
            workers += [doomed] * self._rng.randint(1, 6)
        self.wrecks.workers |= dict(zip(jobs, workers, strict=False))
        for statement in KINDS[name].damage:
            self.rows(
                # The machine's clock, and no other; a percent sign is written twice.
                statement.replace("now()", "cogmill.now()").replace(" % ", " %% "),
                jobs=list(jobs), workers=workers[: len(jobs)], live=self.pool[0],
            )  # fmt: skip

    def beat(self, ago: float = 0.0) -> None:
        """Have every live worker beat: it lists what it claimed before, and knows of."""
        known = [job for job, names in self.wrecks.kinds.items() if FORGOTTEN in names]
        self.rows(
            """UPDATE worker SET beat_at = cogmill.now() - make_interval(secs => %(ago)s),
                   progress = coalesce((
                       SELECT jsonb_agg(jsonb_build_object('task_id', id, 'attempt', attempt,
                                                           'job_id', job_id, 'done', 0) ORDER BY id)
                       FROM task WHERE task.worker = incarnation AND task.status = 'running'
                         AND NOT job_id = ANY (%(forgotten)s)
                         AND started_at <= cogmill.now() - make_interval(secs => %(ago)s)), '[]')
               WHERE incarnation = ANY (%(pool)s)""",
            ago=ago, pool=self.pool, forgotten=known,
        )  # fmt: skip
        # Late by more than two beats, and not suspected.
        self.rows(
            """UPDATE worker SET beat_at = cogmill.now() - interval '2.5 seconds',
                   progress = coalesce((
                       SELECT jsonb_agg(jsonb_build_object('task_id', id, 'attempt', attempt,
                                                           'job_id', job_id, 'done', 0) ORDER BY id)
                       FROM task WHERE task.worker = incarnation AND task.status = 'running'), '[]')
               WHERE incarnation = %(late)s""",
            late=self.late,
        )

    def beat_later(self) -> None:
        """Let one beat pass."""
        self.clock.advance(BEAT_SECONDS + 0.05)
        self.beat()

    # --- looks --------------------------------------------------------------------------------

    def broken(self, heard: Collection[str]) -> dict[str, list[str]]:
        """Return the wrecks that are not repaired, by kind."""
        left = {}
        for name, jobs in self.wrecks.by_kind().items():
            # What ended because of something else needs no more than to be at rest.
            ended = [job for job in jobs if self.wrecks.ends(job, but=name)]
            own = [job for job in jobs if job not in ended]
            found = self._not(KINDS[name].whole, own, heard) + self._not(_FAILED, ended, heard)
            if found:
                left[name] = found
        return left

    def _not(self, goal: str, jobs: list[str], heard: Collection[str]) -> list[str]:
        workers = [self.wrecks.workers.get(job) for job in jobs]
        goal = goal.replace("now()", "cogmill.now()")
        query = f"SELECT id FROM job WHERE id = ANY (%(jobs)s) AND ({goal}) IS NOT TRUE ORDER BY id"
        return [row[0] for row in self.rows(query, jobs=jobs, workers=workers, heard=list(heard))]

    def digest(self, jobs: Sequence[str] | None = None) -> dict[str, str]:
        """Return a hash over each table, or over what it has of some jobs but their wake-ups."""
        found = {}
        for table in RECORDS:
            of = ""
            if jobs is not None:
                if table in ("payload", "worker", "wakeup"):
                    continue
                of = {
                    "job": "WHERE id = ANY (%(jobs)s)",
                    "task_result": """WHERE task_id IN (
                        SELECT id FROM task WHERE job_id = ANY (%(jobs)s))""",
                }.get(table, "WHERE job_id = ANY (%(jobs)s)")
            row = self.rows(
                f"""SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(one::text), ''
                        ORDER BY md5(one::text))), '') FROM {table} AS one {of}""",
                jobs=[] if jobs is None else list(jobs),
            )
            found[table] = str(row[0][0])
        return found

    def attempts(self) -> list[Attempt]:
        """Return every attempt that is under way, as its worker has it."""
        names = ", ".join(Task.model_fields)
        rows = self.rows(f"SELECT worker, {names} FROM task WHERE status = 'running' ORDER BY id")
        return [
            Attempt(
                task=Task.model_validate(dict(zip(Task.model_fields, values, strict=True))),
                incarnation=worker,
            )
            for worker, *values in rows
        ]

    # --- to the end ---------------------------------------------------------------------------

    def drive(self, jobs: Iterable[str], reconcile: Callable[[], object]) -> None:
        """Let one good worker do all that is left of these jobs (I10)."""
        worker = self.join(engines=("e", "e2"), types=("toy:1", "elsewhere:1"))
        left = list(jobs)
        for _ in range(12):
            for job in left:
                while (task := self.state.tasks.claim(worker, BUDGET, job_id=job)) is not None:
                    self._do(Attempt(task=task, incarnation=worker))
            left = [
                row[0] for row in self.rows(
                    f"SELECT id FROM job WHERE id = ANY (%(jobs)s) AND {_LIVE} ORDER BY id",
                    jobs=left,
                )
            ]  # fmt: skip
            if not left:
                return
            self.clock.advance(400)
            self.beat()
            self.state.workers.beat(worker, [])
            reconcile()
        raise AssertionError(f"these do not end: {left}")

    def _do(self, attempt: Attempt) -> None:
        task, tasks = attempt.task, self.state.tasks
        parts = planned(2, MEBIBYTE)
        if task.kind is TaskKind.PLAN:
            settled = tasks.succeed_plan(attempt, None, parts, None)
        elif task.kind is TaskKind.SPLIT:
            parts = [one.model_copy(update={"key": f"{task.key}.{one.key}"}) for one in parts]
            settled = tasks.succeed_split(attempt, parts, None)
        else:
            settled = tasks.succeed(attempt, {"by": task.label}, None)
        assert settled is not Settled.LOST
        if settled is Settled.STAGE_DONE:
            self.state.jobs.advance(task.job_id)


def look_alikes(count: int) -> list[str]:
    """Return so many healthy shapes, each about as often."""
    return list(itertools.islice(itertools.cycle(HEALTHY), count))


def _partners(name: str) -> list[tuple[str, str]]:
    """Return the kinds that a job can have besides, each with the shape."""
    kind = KINDS[name]
    found = []
    for other, second in KINDS.items():
        if other == name or kind.touches & second.touches:
            continue
        for shape in kind.shapes:
            if shape in second.shapes and BROKEN_SHAPES.get(shape, name) in (name, other):
                found.append((other, shape))
    return found


def violated(conn: psycopg.Connection[Any], checks: dict[str, str]) -> list[str]:
    """Return the checks that fail."""
    return [name for name, query in checks.items() if conn.execute(query.encode()).fetchone()]


@contextmanager
def yard(address: str, clock: Clock, seed: int, connections: int = 4) -> Iterator[Yard]:
    """Open a yard on a database that is empty but for its schema."""
    # Nobody crashes this server: no commit of the machine need wait for its disk.
    fast = make_conninfo(address, options="-c synchronous_commit=off -c jit=off")
    with (
        Database(fast, connections=connections) as database,
        psycopg.connect(fast, autocommit=True) as conn,
    ):
        conn.execute("SET search_path = cogmill")
        yield Yard(database, conn, clock, seed)
