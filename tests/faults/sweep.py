"""Every place of the machine where something can go wrong, with everything that can go wrong there.

A *place* is a failpoint that a traced run of a *scenario* reaches. A *trial* arms one place with
one fault in one real process, lets it happen, and lets an unarmed worker go on. Whatever happened:
the job ends, its bytes are those of a calm run, every invariant holds, nothing was done twice and
nothing is left over.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo
from tests.faults.hurry import hurried
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.harness.invariants import VIOLATIONS
from tests.harness.nursery import Nursery
from tests.harness.places import NO_RASTER, PACKAGES
from tests.harness.server import administer

from cogmill import runtime
from cogmill.core_machine.child.process import ChildProcess, SpareChildren
from cogmill.core_machine.contracts import Job, JobStatus, Offer, Task
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.embedded.server import Lease
from cogmill.core_machine.transitions.wakeups import NotifyPublisher
from cogmill.core_machine.worker.parts import Place, WorkerParts
from cogmill.core_machine.worker.worker import Worker
from cogmill.errors import DatabaseUnavailable
from cogmill.job_types.registry import Registry
from cogmill.settings import Pace, Settings

#: What takes longest comes first, so that others run beside it.
FAULTS = ("hang", "kill", "raise", "lose")
SQL = Path(runtime.__file__).parent / "core_machine" / "state" / "sql"
ARMED = Path(__file__).with_name("armed.py")
PACE = Pace(beat=0.2, suspect=2.0, lease=3.0, look=0.1, grace=0.2)
TRIAL_SECONDS = 60.0
TRIES = 2
"""So often a place is tried that a scenario reaches by chance: a reconciler that is the first."""
QUIET_SECONDS = 1.0
"""So long nothing is left to do when a process that was not struck yet is told to stop."""
HANG_SECONDS = 3.0
"""So long somebody waits for a command that hangs, until they end it and type it again."""
CLEANED_WITHIN_SECONDS = 2.0
"""So long a clean-up may take beside a process that hangs, before that is ended."""
#: Idle children that are kept: those of some trials at a time.
MOST_IDLE = 16
#: No job may have more of these than this; of what names a task, one for each task.
ONCE = ("job accepted", "job successful", "job failed", "job dismissed")
DOUBLED = {
    "a job began or ended twice": f"""
        SELECT job_id || ': ' || kind FROM event WHERE kind IN {ONCE}
        GROUP BY job_id, kind HAVING count(*) > 1""",
    "a stage was opened or closed twice": """
        SELECT job_id || ': ' || kind FROM event WHERE kind IN ('stage opened', 'stage closed')
        GROUP BY job_id, kind, stage HAVING count(*) > 1""",
    "a task succeeded twice": """
        SELECT event.job_id || ': ' || event.task FROM event
        WHERE kind IN ('plan succeeded', 'work succeeded', 'split succeeded')
        GROUP BY job_id, event.kind, task HAVING count(*) > (
            SELECT count(*) FROM task WHERE task.job_id = event.job_id AND task.key = event.task
              AND task.status = 'succeeded' AND task.kind || ' succeeded' = event.kind)""",
}
#: What was charged to tasks: nothing is where a reply was lost, but for what the scenario provokes
#: and what this machine was too busy for.
CHARGED = """
    SELECT task, data->>'failure' FROM event
    WHERE kind = 'task retrying' AND data->>'cause' <> 'hung'"""


class Broken(AssertionError):
    """A trial that did not end as it must."""


@dataclass(frozen=True)
class Case:
    """One fault at one place, in one scenario; `fault` is ``trace`` where nothing goes wrong.

    `instead` are scenarios that reach the place too, where chance does not lead to it in this one.
    """

    scenario: str
    place: str
    fault: str
    instead: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.place}={self.fault} ({self.scenario})"


@dataclass
class Outcome:
    """What came of a trial; `problem` is empty when all was well."""

    case: Case
    fired: bool = False
    reached: bool = True
    seconds: float = 0.0
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Report:
    """What came of a sweep."""

    places: list[str]
    unreached: list[str]
    outcomes: list[Outcome]

    @property
    def broken(self) -> list[str]:
        return [f"{one.case}: {one.problem}" for one in self.outcomes if one.problem]

    @property
    def figures(self) -> dict[str, int]:
        return {
            "places": len({one.case.place for one in self.outcomes}),
            "faults": len({one.case.fault for one in self.outcomes}),
            "trials": len(self.outcomes),
            "breaks": len(self.broken),
        }


class Bench:
    """One server with a migrated database to copy, for many trials at a time."""

    _numbers = itertools.count(1)

    def __init__(self, lease: Lease, template: str, folder: Path) -> None:
        self.lease = lease
        self.folder = folder
        self.settings = Settings.load(
            pace=PACE, workers=2, memory=2**30, host="here", database_url=None, home=folder
        )
        self._template = template
        self._creating = threading.Lock()
        self.nursery = Nursery(MOST_IDLE)
        self.types = Registry.load()
        self.calm: dict[str, bytes] = {}

    @classmethod
    @contextmanager
    def open(cls, lease: Lease, template: str) -> Iterator[Bench]:
        """Give a bench: packages and short waits are in force while it is open."""
        folder = Path(tempfile.mkdtemp(prefix="cogmill-test-sweep-"))
        plant = folder / "plant"
        plant.mkdir()
        (plant / "sitecustomize.py").write_text(NO_RASTER)
        before = list(sys.path)
        sys.path[:0] = [str(plant), str(PACKAGES)]
        try:
            with hurried():
                bench = cls(lease, template, folder)
                try:
                    yield bench
                finally:
                    bench.nursery.close()
        finally:
            sys.path[:] = before
            shutil.rmtree(folder)

    def spawn(self) -> ChildProcess:
        """Return a child that was kept."""
        return self.nursery.spawn(self.settings)

    @contextmanager
    def database(self) -> Iterator[str]:
        name = f"sweep_{next(self._numbers)}"
        with self._creating:
            administer(self.lease, "CREATE DATABASE {} TEMPLATE {}", name, self._template)
        yield make_conninfo(self.lease.conninfo, dbname=name)
        administer(self.lease, "DROP DATABASE {} WITH (FORCE)", name)

    def trial(self, case: Case) -> Outcome:
        """Run one trial, again where chance did not lead to the place; never raise for a find."""
        for scenario in (case.scenario, *case.instead):
            for _ in range(TRIES):
                outcome = self._trial(replace(case, scenario=scenario))
                if outcome.reached:
                    return outcome
        return outcome

    def _trial(self, case: Case) -> Outcome:
        outcome = Outcome(case)
        begun = time.monotonic()
        try:
            with self.database() as conninfo:
                folder = Path(tempfile.mkdtemp(dir=self.folder))
                trial = Trial(self, conninfo, folder, case, outcome)
                try:
                    trial.run()
                finally:
                    trial.close()
                trial.demand_no_process()
        except Exception as error:
            outcome.problem = f"{type(error).__name__}: {error}"
        outcome.seconds = round(time.monotonic() - begun, 1)
        return outcome

    def trials(
        self, cases: Iterable[Case], at_once: int, tell: Callable[[Outcome], object]
    ) -> list[Outcome]:
        """Run trials, several at a time."""

        def one(case: Case) -> Outcome:
            outcome = self.trial(case)
            tell(outcome)
            return outcome

        with ThreadPoolExecutor(at_once) as pool:
            try:
                return list(pool.map(one, cases))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def trace(
        self, names: Iterable[str], times: int, at_once: int, tell: Callable[[Outcome], object]
    ) -> dict[str, list[str]]:
        """Return the places that each scenario reaches each time, in order of their first.

        Raises
        ------
        Broken
            A scenario goes wrong by itself.
        """
        runs = [Case(name, "*", "trace") for name in names for _ in range(times)]
        found: dict[str, list[str]] = {}
        for outcome in self.trials(runs, at_once, tell):
            if outcome.problem:
                raise Broken(f"{outcome.case}: {outcome.problem}")
            name, places = outcome.case.scenario, outcome.places
            # What only one run has reached, it reached by chance.
            found[name] = [one for one in places if one in found.get(name, places)]
        return found


class Trial:
    """One database, one folder, one armed process, and what goes on after it."""

    def __init__(
        self, bench: Bench, conninfo: str, folder: Path, case: Case, outcome: Outcome
    ) -> None:
        self.bench = bench
        self.case = case
        self.outcome = outcome
        self.scenario: Scenario = SCENARIOS[case.scenario]
        self.conninfo = conninfo
        self.folder = folder
        self.notes = folder / "notes"
        self.destination = folder / "dst"
        self.fired = folder / "fired"
        for made in (self.notes, self.destination, folder / "plant"):
            made.mkdir()
        (folder / "plant" / "sitecustomize.py").write_text(NO_RASTER)
        self.database = Database(conninfo, restart=bench.lease.ensure_running, connections=6)
        self.state = StateManager(self.database)
        self.publisher = NotifyPublisher(self.state)
        self.machine = runtime.Machine(
            settings=bench.settings,
            state=self.state,
            types=bench.types,
            publisher=self.publisher,
            children=SpareChildren(bench.spawn),
        )
        self.processor = self.machine.job_processor()
        given = {"destination": f"{self.destination}/out/", "folder": str(self.notes)}
        self.given: dict[str, Any] = {**given, **self.scenario.inputs}
        self.deadline = time.monotonic() + TRIAL_SECONDS
        self.process: subprocess.Popen[bytes] | None = None
        self.worker: Worker | None = None

    # What scenarios do

    def submit(self) -> Job:
        """Submit the job of this trial, unarmed."""
        return self.processor.submit("press", self.inputs()).job

    def inputs(self) -> Any:
        return self.bench.types.get("press").inputs.model_validate(self.given)

    def newest(self) -> Job | None:
        """Return the newest generation of the job."""
        return self.state.generations.newest(self.bench.types.get("press").lineage(self.inputs()))

    def job(self) -> Job:
        found = self.newest()
        if found is None:
            raise Broken("there is no job")
        return found

    def start_worker(self) -> None:
        """Start an unarmed worker, in this process."""
        if self.worker is None:
            parts = WorkerParts(
                state=self.state,
                types=self.bench.types,
                processor=self.machine.task_processor(),
                reconciler=self.machine.reconciler(),
                spawn=self.bench.spawn,
                pace=PACE,
            )
            settings = self.bench.settings
            place = Place(slots=settings.workers, memory=settings.memory, host=settings.host)
            self.worker = Worker(parts, place)
            self.worker.start()

    def stop_worker(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def join(self, suspect_seconds: float) -> uuid.UUID:
        """Register a worker that does nothing by itself."""
        incarnation = uuid.uuid4()
        self.state.workers.register(
            incarnation,
            Offer(
                host="here",
                pid=1,
                slots=1,
                memory=1 << 30,
                job_types=("press:1",),
                engines=("press 1",),
                reaches=("any",),
                beat_seconds=PACE.beat,
                suspect_seconds=suspect_seconds,
            ),
        )
        return incarnation

    def claim(self, incarnation: uuid.UUID) -> Task:
        task = self.state.tasks.claim(incarnation, 1 << 30)
        if task is None:
            raise Broken("there is nothing to claim")
        return task

    def noted(self, key: str) -> bool:
        """Whether a task of that key was begun."""
        return any(self.notes.glob(f"{key}.t*"))

    def go(self) -> None:
        """Let go of the tasks that hold."""
        (self.notes / "go").touch()

    def mend(self) -> None:
        """Let no task be spoilt any more."""
        (self.notes / "mended").touch()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the armed process."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def hang_up(self) -> None:
        """Tell the armed worker to stop."""
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.database.transaction() as conn:
            return conn.execute(query.encode(), values or None).fetchall()

    def until(self, condition: Callable[[], object], what: str, seconds: float = 0.0) -> None:
        """Wait for a condition; fail when it does not come true in time."""
        if not self.comes(condition, seconds):
            raise Broken(f"waited in vain: {what}\n{self.standing()}")

    def comes(self, condition: Callable[[], object], seconds: float = 0.0) -> bool:
        """Wait for a condition, and return whether it came true."""
        until = min(self.deadline, time.monotonic() + seconds) if seconds else self.deadline
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def standing(self) -> str:
        """Return what the database says of everything, for whoever reads the report."""
        names = {
            "job": "status, generation, failure",
            "stage": "job_id, name, status, planned, remaining",
            "task": "id, kind, key, status, attempt, failures, worker, failure->>'message'",
            "worker": "incarnation, pid, status, progress, cogmill.now() - beat_at",
            "cleanup": "job_id, due_at, attempt, worker, done_at",
        }
        lines = []
        with suppress(DatabaseUnavailable):
            for table, columns in names.items():
                lines += [f"{table}: {row}" for row in self.rows(f"SELECT {columns} FROM {table}")]
        said = self.folder / "said"
        lines += said.read_text(errors="replace").splitlines()[-15:] if said.exists() else []
        return "\n".join(lines)

    # The trial itself

    def run(self) -> None:
        """Run the scenario with its fault, then without; raise `Broken` where anything is wrong."""
        self.scenario.prepare(self)
        tracing = self.case.fault == "trace"
        if not tracing and self.scenario.moment is not None:
            self.fired.touch()  # taken: what is reached before the moment is not struck
        self._launch()
        if self.scenario.moment is not None:
            moment = self.scenario.moment
            self.until(lambda: moment(self), "the moment to strike comes")
            self.fired.unlink(missing_ok=True)
        self.scenario.during(self)
        self._let_it_happen()
        self.outcome.fired = self.fired.exists()
        if tracing:
            self.outcome.places = list(dict.fromkeys(self.fired.read_text().splitlines()))
        elif not self.outcome.fired:
            self.outcome.reached = False
            raise Broken(f"it was never reached\n{self.standing()}")
        self._go_on()
        self._demand_end()
        self._end_process()
        self._demand_clean()
        self.stop_worker()
        self._judge()

    def _launch(self) -> None:
        known = [path for path in sys.path if path and not path.startswith(str(self.bench.folder))]
        fault = f"{self.case.place}={self.case.fault}@{self.fired}"
        environment = {
            "PYTHONPATH": ":".join((f"{self.folder}/plant", str(PACKAGES), *known)),
            "PATH": os.environ["PATH"],
            "COGMILL_DATABASE_URL": self.conninfo,
            "COGMILL_WORKERS": "2",
            "COGMILL_MEMORY": "1GB",
            "COGMILL_HOST": "here",
            "COGMILL_FAILPOINTS": fault,
            **{f"COGMILL_PACE__{name.upper()}": f"{value}" for name, value in PACE},
        }
        arguments = json.dumps(self.scenario.arguments(self))
        with (self.folder / "said").open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, str(ARMED), self.scenario.role, arguments],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )

    def _let_it_happen(self) -> None:
        """Wait until the fault has happened, or until there is nothing left that could bring it."""
        assert self.process is not None
        quiet_since = 0.0

        def happened() -> bool:
            nonlocal quiet_since
            if self.struck():
                return True
            if self.scenario.role != "work" or not self._nothing_to_do() or quiet_since == 0.0:
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > QUIET_SECONDS

        self.until(happened, "the fault happens")
        if not self.struck():
            # Some places are reached on the way out only.
            self.hang_up()
            self.until(self.struck, "its end")

    def struck(self) -> bool:
        """Whether the fault has happened, or no process is left in which it could."""
        return self._ended() or (self.fired.exists() and self.case.fault != "trace")

    def _ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def _nothing_to_do(self) -> bool:
        return self.rows(
            "SELECT 1 FROM job WHERE status IN ('accepted', 'running') UNION ALL "
            "SELECT 1 FROM cleanup WHERE done_at IS NULL AND due_at <= cogmill.now()"
        ) == []  # fmt: skip

    def _go_on(self) -> None:
        """Let the unarmed do what is left; a command is typed again unless it said it is done."""
        self.go()
        assert self.process is not None
        if self.scenario.role != "work":
            self.comes(self._ended, HANG_SECONDS)
            if self.process.poll() != 0:
                self.process.kill()
                self.process.wait()
                self.scenario.again(self)
        self.start_worker()

    def _demand_end(self) -> None:
        job = self._terminal()
        if self.scenario.dismissed:
            self._demand(job.status is JobStatus.DISMISSED, f"the job is {job.status}")
            self._end_process()
            self.until(self._all_cleaned, "the dismissed job is cleaned up after")
            left = sorted(map(str, self.destination.rglob("*")))
            self._demand(not left, f"of the dismissed job is left {left}")
            self.submit()
            job = self._terminal()
        if job.status is JobStatus.FAILED:
            assert job.failure is not None
            self.outcome.notes.append(f"failed: {job.failure}"[:200])
            permanent = self.case.fault == "raise" and self.case.place.startswith("storage.")
            self._demand(permanent or self.scenario.fails, f"the job failed: {job.failure}")
            self.mend()
            self.processor.retry(job.id)
            job = self._terminal()
        self._demand(job.status is JobStatus.SUCCESSFUL, f"the job is {job.status}: {job.failure}")

    def _terminal(self) -> Job:
        self.until(lambda: self.job().status.terminal, "the job ends")
        return self.job()

    def _end_process(self) -> None:
        """End the armed process: politely, and what hangs as a person would."""
        assert self.process is not None
        if self.case.fault == "hang" and not self.comes(self._all_cleaned, CLEANED_WITHIN_SECONDS):
            self.outcome.notes.append("clean-up waits for the process that hangs")
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.hang_up()
        patience = 1.0 if self.case.fault == "hang" else 15.0
        if not self.comes(self._ended, patience):
            self._demand(self.case.fault == "hang", "the process that was struck does not end")
            self.process.kill()
        self.process.wait()

    def _all_cleaned(self) -> bool:
        return (
            self.rows("SELECT 1 FROM cleanup WHERE done_at IS NULL AND due_at < 'infinity'") == []
        )

    def _demand_clean(self) -> None:
        undone = "SELECT job_id FROM cleanup WHERE done_at IS NULL"
        self.until(lambda: self.rows(undone) == [], "every clean-up is done")

    def _judge(self) -> None:
        made = contents(self.destination)
        self.outcome.contents = made
        if self.bench.calm:
            self._demand(
                made == self.bench.calm,
                f"made {sorted(made)}, not {sorted(self.bench.calm)}, or with other bytes",
            )
        for name, query in {**VIOLATIONS, **DOUBLED}.items():
            if name not in self.scenario.excused:
                found = self.rows(query)
                self._demand(not found, f"{name}: {found}")
        if self.case.fault == "lose":
            own = self.scenario.charges
            found = [row for row in self.rows(CHARGED) if not own or own not in row[1]]
            self._demand(not found, f"charged for a reply that was lost: {found}")

    def _demand(self, condition: object, what: str) -> None:
        if not condition:
            raise Broken(f"{what}\n{self.standing()}")

    def close(self) -> None:
        """End everything that was started."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdin is not None:
                with suppress(BrokenPipeError):
                    self.process.stdin.close()
        self.stop_worker()
        self.machine.children.close()
        self.database.close()

    def demand_no_process(self) -> None:
        """Demand that no process of the armed one lives; each is known by its environment."""
        mark = os.fsencode(f"{self.folder}/plant")
        if not self.comes(lambda: not living(mark), 5.0):
            raise Broken(f"processes live on: {living(mark)}")
        shutil.rmtree(self.folder)


def living(mark: bytes) -> list[int]:
    """Return the pids of processes that have a text in their environment."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def contents(top: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, and of every folder that is empty."""
    return {
        str(path.relative_to(top)): path.read_bytes() if path.is_file() else b""
        for path in sorted(top.rglob("*"))
        if path.is_file() or not any(path.iterdir())
    }


def faults_of(place: str) -> tuple[str, ...]:
    """Return what can go wrong at a place: a reply is lost only where one was on its way."""
    commits = place.endswith(".committed") and not place.startswith("storage.")
    return FAULTS if commits else FAULTS[:3]


def cases(traced: dict[str, list[str]], scenarios: int = 1) -> list[Case]:
    """Return every fault at every place, in the first `scenarios` scenarios that reach it."""
    reached: dict[str, list[str]] = {}
    for name, places in traced.items():
        for place in places:
            reached.setdefault(place, []).append(name)
    return [
        Case(name, place, fault, tuple(names[number + 1 :]))
        for place, names in sorted(reached.items())
        for number, name in enumerate(names[:scenarios])
        for fault in faults_of(place)
    ]


def selection(every: list[Case], seed: int, of_each: int = 2) -> list[Case]:
    """Return a few cases, as many of each fault."""
    chance = random.Random(seed)
    return [
        case
        for fault in FAULTS
        for case in chance.sample([one for one in every if one.fault == fault], of_each)
    ]


def places_in_source() -> set[str]:
    """Return the names of all statements, as failpoints."""
    return {f"sql.{path.stem}" for path in SQL.rglob("*.sql")}


def sweep(
    lease: Lease,
    template: str,
    *,
    names: Iterable[str] = tuple(SCENARIOS),
    choose: Callable[[list[Case]], list[Case]] = lambda every: every,
    scenarios: int = 1,
    traces: int = 2,
    at_once: int = 4,
    tell: Callable[[Outcome], object] = lambda outcome: None,
) -> Report:
    """Trace, choose, and run.

    Parameters
    ----------
    names : iterable of str
        The scenarios, the commonest first.
    choose : callable
        Picks of all cases those that are tried.
    scenarios : int
        In how many of the scenarios that reach it a place is struck.
    traces : int
        How often a scenario is traced; with one, the calm run that all are compared with counts.
    at_once : int
        Trials at a time.
    tell : callable
        Told what came of each.
    """
    with Bench.open(lease, template) as bench:
        calm = bench.trial(Case("calm", "*", "trace"))
        if calm.problem:
            raise Broken(calm.problem)
        bench.calm = calm.contents
        tell(calm)
        known = {"calm": calm.places} if traces == 1 else {}
        others = [name for name in names if name not in known]
        traced = {name: known[name] for name in names if name in known}
        traced |= bench.trace(others, traces, at_once, tell)
        chosen = choose(cases(traced, scenarios))
        outcomes = bench.trials(chosen, at_once, tell)
        places = sorted({place for found in traced.values() for place in found})
        unreached = sorted(places_in_source() - set(places))
        return Report(places, unreached, outcomes)


def main() -> None:
    """``python -m tests.faults.sweep [PATTERN] [--scenarios N] [--at-once N]``: run and tell."""
    from cogmill.core_machine.state.embedded.server import EmbeddedServer

    words = sys.argv[1:]
    pattern = re.compile(next((word for word in words if not word.startswith("--")), ""))
    options = dict(word[2:].split("=") for word in words if word.startswith("--"))
    only = options.get("names", ",".join(SCENARIOS)).split(",")
    folder = Path(tempfile.mkdtemp(prefix="cogmill-test-"))
    folder.chmod(0o755)
    server = EmbeddedServer(folder / "home", root_home=folder / "root")
    try:
        with server.lease() as lease:
            administer(lease, "CREATE DATABASE {}", "sweep_template")
            template = make_conninfo(lease.conninfo, dbname="sweep_template")
            with Database(template) as database:
                database.migrate()
            report = sweep(
                lease,
                "sweep_template",
                names=only,
                choose=lambda every: [case for case in every if pattern.search(str(case))],
                scenarios=int(options.get("scenarios", "1")),
                at_once=int(options.get("at-once", "4")),
                tell=_print,
            )
    finally:
        server.remove()
        shutil.rmtree(folder)
    print(json.dumps({**report.figures, "unreached": report.unreached}, indent=1))
    print("\n\n".join(report.broken))


def _print(outcome: Outcome) -> None:
    word = outcome.problem.splitlines()[0] if outcome.problem else "ok"
    extra = f" {len(outcome.places)} places" if outcome.places else ""
    print(f"{outcome.seconds:5.1f} {outcome.case}: {word}{extra} {outcome.notes or ''}", flush=True)


if __name__ == "__main__":
    main()
