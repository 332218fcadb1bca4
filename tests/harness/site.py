"""A machine with short intervals on a database of its own, and processes that tests may kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import BaseModel
from tests.harness.nursery import Nursery
from tests.harness.places import PACKAGES
from tests.harness.processes import until

from cogmill import runtime
from cogmill.core_machine.child.process import ChildProcess, SpareChildren
from cogmill.core_machine.contracts import Job, JobStatus
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.embedded.server import Lease
from cogmill.core_machine.transitions.wakeups import NotifyPublisher
from cogmill.core_machine.worker.worker import Worker
from cogmill.job_types.registry import Registry
from cogmill.settings import Pace, Settings

# As short as a machine bears whose cores are shared with servers, children and other tests.
PACE = Pace(beat=0.2, suspect=2.0, lease=3.0, look=0.1, grace=0.2)


WORKER = """
import sys
from cogmill import runtime
from cogmill.settings import Settings
with runtime.machine(Settings.load()) as machine:
    worker = machine.worker()
    worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    worker.stop()
"""


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test packages findable, here and in children, which get this path."""
    monkeypatch.syspath_prepend(PACKAGES)


class Site:
    """One database, one folder, and everything that works on them."""

    def __init__(self, conninfo: str, held: Lease, folder: Path, nursery: Nursery) -> None:
        self._nursery = nursery
        self.conninfo = conninfo
        self.lease = held
        self.folder = folder
        self.database = Database(conninfo, restart=held.ensure_running)
        self.state = StateManager(self.database)
        self._used: list[SpareChildren] = []
        self.use(Settings.load(pace=PACE, workers=2, memory=2**30, host="here"))
        self.workers: list[Worker] = []
        self.processes: list[subprocess.Popen[str]] = []

    def use(self, settings: Settings) -> None:
        """Work with other settings from now on."""
        self.settings = settings
        self._used.append(children := SpareChildren(lambda: runtime.spawn(settings)))
        self.machine = runtime.Machine(
            settings=settings,
            state=self.state,
            types=Registry.load(),
            publisher=NotifyPublisher(self.state),
            children=children,
        )

    def submit(self, type_id: str = "toy", **inputs: Any) -> Job:
        """Submit a job whose tasks leave a file an attempt in the folder."""
        return self.machine.job_processor().submit(type_id, self.inputs(type_id, **inputs)).job

    def inputs(self, type_id: str = "toy", **inputs: Any) -> BaseModel:
        """Make the inputs of a job."""
        given = {"name": "n", "count": 2, **inputs} if type_id == "toy" else inputs
        parsed: BaseModel = self.machine.types.get(type_id).inputs.model_validate(
            {"folder": str(self.folder), **given}
        )
        return parsed

    def kept(self) -> ChildProcess:
        """Return a child that was kept."""
        return self._nursery.spawn(self.settings)

    def work(self, only_jobs: Sequence[str] | None = None) -> Worker:
        """Start a worker in this process."""
        worker = self.machine.worker(only_jobs)
        self.workers.append(worker)
        worker.start()
        return worker

    def environment(self, **variables: str) -> dict[str, str]:
        """Return what a process on this site needs, with settings beside the usual ones."""
        return {
            "PYTHONPATH": ":".join(filter(None, sys.path)),
            "PATH": os.environ["PATH"],
            "COGMILL_DATABASE_URL": make_conninfo(self.conninfo),
            "COGMILL_WORKERS": "2",
            "COGMILL_MEMORY": "1GB",
            "COGMILL_HOST": "here",
            **{f"COGMILL_PACE__{name.upper()}": f"{value}" for name, value in PACE},
            **variables,
        }

    def launch(self, script: str = WORKER, **variables: str) -> subprocess.Popen[str]:
        """Start a worker in a process of its own, with settings beside the usual ones."""
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            env=self.environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def started(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Wait until a launched worker can claim."""
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def go(self) -> None:
        """Let go of the tasks that hold."""
        (self.folder / "go").touch()

    def attempts(self, key: int) -> int:
        """Return how often a toy's number was begun."""
        return len(list(self.folder.glob(f"{key}.*")))

    def ended(self, job: Job, status: JobStatus = JobStatus.SUCCESSFUL) -> Job:
        """Wait for a job's end and return it."""
        until(lambda: self.state.jobs.get(job.id).status.terminal, f"job {job.id} ends")
        found = self.state.jobs.get(job.id)
        assert found.status is status, found.failure
        return found

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with self.database.transaction() as conn:
            return conn.execute(query.encode(), values).fetchall()

    def close(self) -> None:
        """End everything that was started."""
        for worker in self.workers:
            worker.stop()
        for process in self.processes:
            process.kill()
            process.communicate()
        for children in self._used:
            children.close()
        self.database.close()


@pytest.fixture
def site(
    address: str, lease: Lease, tmp_path: Path, packages: None, nursery: Nursery
) -> Iterator[Site]:
    """Give a site, and end what a test leaves running."""
    made = Site(address, lease, tmp_path, nursery)
    with nursery.in_place():
        yield made
        made.close()
