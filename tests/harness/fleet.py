"""A fleet of real worker processes, to be killed, frozen and led astray, on a server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.harness.clock import Clock
from tests.harness.nursery import Nursery
from tests.harness.places import NO_RASTER, PACKAGES
from tests.harness.processes import until
from tests.harness.server import SessionServer
from tests.harness.site import PACE, WORKER

from cogmill import runtime
from cogmill.core_machine.child.process import SpareChildren
from cogmill.core_machine.contracts import Job, JobStatus, Offer
from cogmill.core_machine.orchestration import JobProcessor
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.tasks import Attempt
from cogmill.core_machine.state.workers import AttemptProgress
from cogmill.core_machine.transitions.wakeups import NotifyPublisher
from cogmill.core_machine.worker.worker import Worker
from cogmill.job_types.registry import Registry
from cogmill.settings import Pace, Settings

#: Of one machine, as the embedded database brings it.
FAST = Pace(beat=1.0, suspect=4.0, lease=6.0, look=1.0, grace=2.0)
#: As short as shared cores bear: for the selection of `make test`.
QUICK = PACE.model_copy(update={"look": 0.25})
ENGINE = "anvil 1"
GIBIBYTE = 1 << 30
PATIENCE_SECONDS = 120.0


class Fleet:
    """Workers, jobs of the type `heavy`, and the database that they share."""

    def __init__(
        self, server: SessionServer, conninfo: str, folder: Path, nursery: Nursery
    ) -> None:
        self.server = server
        self._children = SpareChildren(lambda: nursery.spawn(Settings.load()))
        self.conninfo = conninfo
        self.folder = folder
        self.pace = QUICK
        self.database = Database(conninfo, restart=server.lease.ensure_running)
        self.state = StateManager(self.database)
        self.types = Registry.load()
        self.publisher = NotifyPublisher(self.state)
        self.reconciler = SystemReconciler(self.state, self.publisher)
        self.processes: list[subprocess.Popen[str]] = []
        self._workers: list[Worker] = []
        self._spare: list[SpareChildren] = []

    # Jobs

    def submit(self, name: str = "job", **inputs: Any) -> Job:
        """Submit a job that has a folder and a destination of its own."""
        self.out(name).mkdir(parents=True)
        given = {"name": name, "folder": str(self.folder / name), "out": str(self.out(name))}
        parsed = self.types.get("heavy").inputs.model_validate({**given, **inputs})
        processor = JobProcessor(self.state, self.types, self.publisher, self._children)
        return processor.submit("heavy", parsed).job

    def out(self, name: str = "job") -> Path:
        """The destination of a job."""
        return self.folder / name / "out"

    def go(self, name: str = "job") -> None:
        """Let go of the tasks of a job that hold on."""
        (self.folder / name / "go").touch()

    def holding(self, name: str = "job") -> int:
        """Return how many tasks of a job were begun in a child."""
        begun = (self.folder / name).glob("[0-9]*.t*")
        return len({path.name.split(".")[0] for path in begun})

    def ended(self, job: Job, seconds: float = PATIENCE_SECONDS) -> Job:
        """Wait until a job is successful."""
        until(lambda: self.state.jobs.get(job.id).status.terminal, f"job {job.id} ends", seconds)
        found = self.state.jobs.get(job.id)
        assert found.status is JobStatus.SUCCESSFUL, found.failure
        return found

    def tasks(self, job: Job) -> list[tuple[Any, ...]]:
        """Return status, attempt and failures of every work task of the first stage."""
        return self.rows(
            "SELECT status, attempt, failures FROM task "
            "WHERE job_id = %s AND position = 0 AND kind = 'work' ORDER BY id",
            job.id,
        )

    def results(self, job: Job) -> list[dict[str, Any]]:
        """Return what every task says of itself."""
        return [
            row[0]
            for row in self.rows(
                "SELECT result FROM task_result JOIN task ON id = task_id "
                "WHERE job_id = %s AND kind = 'work' ORDER BY id",
                job.id,
            )
        ]

    def events(self, kind: str) -> int:
        """Return how many events there are of a kind."""
        return self.number("SELECT count(*) FROM event WHERE kind = %s", kind)

    # Workers

    def launch(
        self,
        *,
        slots: int = 1,
        host: str = "here",
        packages: Sequence[str | Path] = (PACKAGES,),
        customize: str = "",
        code: str = WORKER,
    ) -> subprocess.Popen[str]:
        """Start a worker in a process of its own.

        Parameters
        ----------
        packages : paths
            Where the job types lie that it knows besides the built-in ones.
        customize : str
            Code that it and its children run first.
        """
        plant = self.folder / f"plant{len(self.processes)}"
        plant.mkdir()
        (plant / "sitecustomize.py").write_text(NO_RASTER + customize)
        known = [path for path in sys.path if path and path != PACKAGES]
        environment = {
            "PYTHONPATH": ":".join(map(str, (plant, *packages, *known))),
            "PATH": os.environ["PATH"],
            "COGMILL_DATABASE_URL": self.conninfo,
            "COGMILL_WORKERS": str(slots),
            "COGMILL_MEMORY": str(GIBIBYTE),
            "COGMILL_HOST": host,
            **{f"COGMILL_PACE__{name.upper()}": f"{value}" for name, value in self.pace},
        }
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def started(self, processes: Iterable[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
        """Wait until workers that were launched can claim."""
        ready = list(processes)
        for process in ready:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return ready

    def work(self, only_jobs: Sequence[str] | None = None) -> Worker:
        """Start a worker in this process; of a job that is not, it only beats and repairs."""
        settings = Settings.load(pace=self.pace, workers=1, memory=GIBIBYTE, host="here")
        self._spare.append(children := SpareChildren(lambda: runtime.spawn(settings)))
        machine = runtime.Machine(
            settings=settings,
            state=self.state,
            types=self.types,
            publisher=self.publisher,
            children=children,
        )
        worker = machine.worker(only_jobs)
        self._workers.append(worker)
        worker.start()
        return worker

    def join(self, suspect_seconds: float | None = None) -> uuid.UUID:
        """Register a worker that is this test; by default it is missed as soon as any other."""
        incarnation = uuid.uuid4()
        self.state.workers.register(
            incarnation,
            Offer(
                host="here",
                pid=os.getpid(),
                slots=1000,
                memory=GIBIBYTE,
                job_types=("heavy:1",),
                engines=(ENGINE,),
                reaches=("any", "here"),
                beat_seconds=self.pace.beat,
                suspect_seconds=suspect_seconds or self.pace.suspect,
            ),
        )
        return incarnation

    def beat(self, incarnation: uuid.UUID, held: Iterable[Attempt] = ()) -> list[str]:
        """Beat as a worker does that works on `held`; return the orders that come back."""
        progress = [
            AttemptProgress(
                task_id=one.task.id, attempt=one.task.attempt, job_id=one.task.job_id, done=0
            )
            for one in held
        ]
        beaten = self.state.workers.beat(incarnation, progress)
        assert beaten is not None, "it was declared dead"
        return [order.order for order in beaten.orders]

    def claim(self, incarnation: uuid.UUID) -> Attempt | None:
        """Claim as a worker does."""
        task = self.state.tasks.claim(incarnation, GIBIBYTE)
        return None if task is None else Attempt(task=task, incarnation=incarnation)

    def workers(self) -> list[str]:
        """Return how it stands with every worker there ever was."""
        return [row[0] for row in self.rows("SELECT status FROM worker ORDER BY started_at")]

    # The database

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.database.transaction() as conn:
            return conn.execute(query.encode(), values).fetchall()

    def number(self, query: str, *values: object) -> int:
        ((found,),) = self.rows(query, *values)
        return int(found or 0)

    def now(self) -> datetime:
        """Return the time of the one clock."""
        ((found,),) = self.rows("SELECT cogmill.now()")
        assert isinstance(found, datetime)
        return found

    def stopped_clock(self) -> Clock:
        """Stop that clock at the present, and give it to the test."""
        return Clock(self.conninfo, self.now())

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()
        for children in (self._children, *self._spare):
            children.close()
        self.database.close()


@pytest.fixture(scope="session")
def no_raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder on the path in which no child loads GDAL; the same, so that children stay."""
    plant = tmp_path_factory.mktemp("plant")
    (plant / "sitecustomize.py").write_text(NO_RASTER)
    return plant


@pytest.fixture
def fleet(
    server: SessionServer,
    nursery: Nursery,
    no_raster: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    """Give a database, and end whatever a test starts on it."""
    for path in (PACKAGES, str(no_raster)):
        monkeypatch.syspath_prepend(path)
    with nursery.in_place(), server.database() as conninfo:
        made = Fleet(server, conninfo, tmp_path, nursery)
        try:
            yield made
        finally:
            made.close()
