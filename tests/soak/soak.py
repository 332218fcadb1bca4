"""Jobs again and again, while a killer strikes at random: ``python -m tests.soak.soak``.

Real rasters, several ``cogmill worker`` processes and one embedded database. Every output is
compared with a calm run's. What is struck, and how, follows from the seed; when, from the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import rasterio
from affine import Affine
from tests.faults.sweep import DOUBLED, living
from tests.harness.invariants import VIOLATIONS
from tests.harness.killing import (
    QUICK_PACE,
    SMALL_TILES,
    Command,
    Home,
    contents,
    plain_raster,
    striped_raster,
)
from tests.harness.processes import gone

REPORT = Path("build") / "soak.json"
LOOK_SECONDS = 0.1
#: Long enough for what a worker waits for a database that recovers, and a retry's backoff.
JOB_SECONDS = 300.0
END_SECONDS = 30.0
SERVER_SECONDS = 15.0
MEMORY = ("--memory", "1GB", "--workers", "2")
#: Seconds between two strikes, and between two of the postmaster.
BETWEEN = (1.0, 4.0)
POSTMASTER_SECONDS = 20.0
FREEZE_SECONDS = (1.0, 15.0)
KINDS = {
    "kill worker": 3,
    "kill child": 5,
    "freeze worker": 2,
    "freeze child": 2,
    "freeze tree": 2,
    "terminate worker": 2,
    "kill postmaster": 1,
    "kill submit": 2,
    "dismiss": 2,
}
LIVE = "SELECT id FROM cogmill.job WHERE status IN ('accepted', 'running') ORDER BY id"
OWED = "SELECT 1 FROM cogmill.cleanup WHERE done_at IS NULL AND due_at <= cogmill.now()"


def tiled_raster(path: Path) -> Path:
    """Write a tiled raster of three bands with a mask of nodata across seams."""
    width, height = 1403, 1291
    chance = np.random.default_rng(5)
    rows, cols = np.mgrid[:height, :width]
    waves = [127 + 60 * np.sin(cols / (31 + band)) * np.cos(rows / 47) for band in range(3)]
    pixels = np.stack(waves) + chance.integers(0, 4, (3, height, width))
    pixels[:, (cols * 0.3 + rows * 0.2) % 500 < 41] = 0
    form = {"driver": "GTiff", "dtype": "uint8", "count": 3, "width": width, "height": height}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5.6e6), "nodata": 0}
    with rasterio.open(
        path, "w", **form, **place, tiled=True, blockxsize=128, blockysize=128, compress="deflate"
    ) as dataset:
        dataset.write(pixels.astype("uint8"))
    return path


@dataclass(frozen=True)
class Order:
    """What is submitted again and again: one source, one destination, one way."""

    name: str
    source: Path
    destination: str
    options: tuple[str, ...]

    def to(self, folder: Path) -> str:
        """Return a destination of the same name elsewhere, which names no file differently."""
        folder.mkdir(parents=True)
        return f"{folder}/out/" if self.destination.endswith("/") else f"{folder}/out.tif"


@dataclass
class Tally:
    """What happened; every thread adds to it."""

    jobs: Counter[str] = field(default_factory=Counter)
    strikes: Counter[str] = field(default_factory=Counter)
    submits_failed: int = 0
    looks: int = 0
    differing: list[str] = field(default_factory=list)
    violations: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Database:
    """Looks into the database of a home, which may be gone at any time."""

    def __init__(self, home: Home) -> None:
        self._conninfo = home.server.conninfo

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]] | None:
        """Return rows; None while nobody answers."""
        try:
            with psycopg.connect(
                self._conninfo, autocommit=True, options="-c search_path=cogmill"
            ) as conn:
                return conn.execute(query.encode(), values or None).fetchall()
        except psycopg.Error:
            return None


class Fleet:
    """Worker processes, each replaced when it has ended."""

    def __init__(self, home: Home, count: int) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._wanted = count
        self.workers: list[Command] = []
        self.submits: list[Command] = []

    def keep(self) -> None:
        """Replace what has ended."""
        with self._lock:
            self.workers = [worker for worker in self.workers if worker.running]
            while len(self.workers) < self._wanted:
                self.workers.append(self._home.start("worker", *MEMORY))

    def running(self) -> list[Command]:
        with self._lock:
            return [worker for worker in self.workers if worker.running]

    def call(self, *words: object) -> tuple[int, str, str]:
        """Run a command that may be killed; return its code and what it said."""
        command = self._home.start(*words, "--json")
        self.submits.append(command)
        try:
            ended = command.end(within=JOB_SECONDS)
        finally:
            self.submits.remove(command)
        return ended.code, ended.stdout, ended.stderr

    def end(self) -> list[int]:
        """Stop all workers politely; return the codes of those that would not end well."""
        with self._lock:
            self._wanted = 0
            for worker in self.workers:
                signal_all([worker.pid], signal.SIGTERM)
            codes = [worker.end(within=END_SECONDS).code for worker in self.workers]
        return [code for code in codes if code != 0]


class Killer:
    """Strikes whatever the seed says."""

    def __init__(self, home: Home, fleet: Fleet, tally: Tally, seed: int) -> None:
        self._home, self._fleet, self._tally = home, fleet, tally
        self._database = Database(home)
        self._chance = random.Random(seed)
        self._postmaster_at = time.monotonic()
        self._thaws: list[threading.Thread] = []

    def work(self, stop: threading.Event) -> None:
        """Strike until it is enough, and wait until nothing is frozen any more."""
        while not stop.wait(self._chance.uniform(*BETWEEN)):
            self._fleet.keep()
            kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
            if self._strike(kind):
                self._tally.strikes[kind] += 1
        for thaw in self._thaws:
            thaw.join()

    def _strike(self, kind: str) -> bool:
        """Strike; false when there is nothing of that kind to strike."""
        match kind:
            case "kill worker":
                return self._signal([self._worker()], signal.SIGKILL)
            case "kill child":
                return self._signal([self._child()], signal.SIGKILL)
            case "terminate worker":
                return self._signal([self._worker()], signal.SIGTERM)
            case "freeze worker":
                return self._freeze([self._worker()])
            case "freeze child":
                return self._freeze([self._child()])
            case "freeze tree":
                return self._freeze(self._tree())
            case "kill submit":
                return self._signal([self._one(self._fleet.submits, _pid)], signal.SIGKILL)
            case "kill postmaster":
                return self._kill_postmaster()
            case _:
                return self._dismiss()

    def _one(self, things: Iterable[Any], of: Callable[[Any], Any]) -> Any:
        found = list(things)
        return of(self._chance.choice(found)) if found else None

    def _worker(self) -> int | None:
        return self._one(self._fleet.running(), _pid)

    def _tree(self) -> list[int | None]:
        return self._one(self._fleet.running(), Command.tree) or [None]

    def _child(self) -> int | None:
        below = [pid for worker in self._fleet.running() for pid in worker.children()]
        return self._one(below, int)

    def _signal(self, pids: Iterable[int | None], number: signal.Signals) -> bool:
        known = [pid for pid in pids if pid is not None]
        signal_all(known, number)
        return bool(known)

    def _freeze(self, pids: list[int | None]) -> bool:
        seconds = self._chance.uniform(*FREEZE_SECONDS)
        if not self._signal(pids, signal.SIGSTOP):
            return False

        def thaw() -> None:
            self._signal(pids, signal.SIGCONT)

        timer = threading.Timer(seconds, thaw)
        timer.start()
        self._thaws.append(timer)
        return True

    def _kill_postmaster(self) -> bool:
        if time.monotonic() - self._postmaster_at < POSTMASTER_SECONDS:
            return False
        try:
            pid = self._home.postmaster()
        except ValueError:  # it is just being started
            return False
        self._postmaster_at = time.monotonic()
        return self._signal([pid], signal.SIGKILL)

    def _dismiss(self) -> bool:
        live = self._database.rows(LIVE) or []
        job = self._one(live, lambda row: row[0])
        if job is None:
            return False
        code, _, _ = self._fleet.call("dismiss", job)
        return code == 0


class Customer:
    """Submits one order again and again, and compares what came of it."""

    def __init__(
        self, home: Home, fleet: Fleet, tally: Tally, order: Order, calm: dict[str, str]
    ) -> None:
        self._fleet, self._tally, self._order, self._calm = fleet, tally, order, calm
        self._database = Database(home)

    def work(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._once()
            # What was dismissed last may have left half of an older result: the last word counts.
            while self._once() == "dismissed":
                pass
        except Exception as error:
            self._tally.errors.append(f"{self._order.name}: {type(error).__name__}: {error}")

    def _once(self) -> str:
        job = self._submit()
        if job is None:
            return "not submitted"
        status = self._ended(job)
        self._tally.jobs[status] += 1
        if status == "failed":
            rows = self._database.rows("SELECT failure FROM job WHERE id = %s", job)
            self._tally.failures.append(f"{self._order.name} {job[:12]}: {rows}")
        self._until(lambda: self._owes_nothing(job), f"job {job[:12]} is cleaned up after")
        found = contents(self._order.destination)
        hidden = [name for name in found if "/." in f"/{name}"]
        if hidden:
            self._tally.leftovers.append(f"{self._order.name} {job[:12]}: {hidden}")
        if status == "successful" and found != self._calm:
            names = [n for n in {*found, *self._calm} if found.get(n) != self._calm.get(n)]
            self._tally.differing.append(f"{self._order.name} {job[:12]}: {sorted(names)}")
        return status

    def _submit(self) -> str | None:
        """Type the command until it answers, as a person does, whatever has struck it."""
        order, until = self._order, time.monotonic() + JOB_SECONDS
        words = ("submit", order.source, order.destination, *order.options, *MEMORY, "--force")
        while time.monotonic() < until:
            code, said, error = self._fleet.call(*words)
            if code == 0:
                return str(json.loads(said.strip().splitlines()[-1])["job_id"])
            if code == 2:
                raise AssertionError(f"refused: {said} {error}")
            self._tally.submits_failed += 1
        raise AssertionError(f"no submit came through: {error}")

    def _ended(self, job: str) -> str:
        status = ""

        def ended() -> bool:
            nonlocal status
            rows = self._database.rows("SELECT status FROM job WHERE id = %s", job)
            status = rows[0][0] if rows else ""
            return status in ("successful", "failed", "dismissed")

        self._until(ended, f"job {job[:12]} ends")
        return status

    def _owes_nothing(self, job: str) -> bool:
        return self._database.rows(f"{OWED} AND job_id = %s", job) == []

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + JOB_SECONDS
        while not holds():
            if time.monotonic() > until:
                raise AssertionError(f"waited {JOB_SECONDS:g} s in vain: {what}")
            time.sleep(LOOK_SECONDS)


def auditing(home: Home, tally: Tally, stop: threading.Event) -> None:
    """Look for broken invariants all the time: they hold after every transaction."""
    database = Database(home)
    while not stop.wait(1.0):
        audit(database, tally, VIOLATIONS)


def audit(database: Database, tally: Tally, queries: dict[str, str]) -> None:
    for name, query in queries.items():
        found = database.rows(query)
        if found:
            tally.violations.add(name)
        tally.looks += found is not None


def orders(folder: Path) -> list[Order]:
    """Make the rasters, and what is done with them."""
    (folder / "src").mkdir()
    striped = striped_raster(folder / "src" / "striped.tif")
    tiled = tiled_raster(folder / "src" / "tiled.tif")
    plain = plain_raster(folder / "src" / "plain.tif")
    mercator = (*SMALL_TILES, "--dst-crs", "EPSG:3857")
    made = [
        ("striped mosaic", striped, "out/", (*mercator, "--strategy", "two-stage")),
        ("striped COG", striped, "out.tif", (*mercator, "--strategy", "two-stage")),
        ("tiled mosaic", tiled, "out/", mercator),
        ("tiled COG", tiled, "out.tif", (*SMALL_TILES, "--strategy", "direct")),
        ("plain mosaic", plain, "out/", mercator),
    ]
    found = []
    for number, (name, source, last, options) in enumerate(made):
        place = folder / "dst" / str(number)
        place.mkdir(parents=True)
        found.append(Order(name, source, f"{place}/{last}", options))
    return found


def calm_runs(home: Home, todo: list[Order], folder: Path) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of every file that each order makes when nothing is struck."""
    calm = {}
    for order in todo:
        destination = order.to(folder / "calm" / order.name.replace(" ", "-"))
        ended = home.call("run", order.source, destination, *order.options, *MEMORY, "--json")
        assert ended.code == 0, ended.stderr
        calm[order.name] = contents(destination)
    return calm


def soak(seconds: float, seed: int, workers: int, folder: Path) -> dict[str, Any]:
    """Strike for that long, let all end, and return what came of it."""
    begun = time.monotonic()
    mark = folder / "mark"
    mark.mkdir()
    tally, stop, quiet = Tally(), threading.Event(), threading.Event()
    with Home.made(variables=QUICK_PACE, python_path=(mark,)) as home:
        todo = orders(folder)
        calm = calm_runs(home, todo, folder)
        fleet = Fleet(home, workers)
        fleet.keep()
        killer = Killer(home, fleet, tally, seed)
        customers = [Customer(home, fleet, tally, order, calm[order.name]) for order in todo]
        threads = [threading.Thread(target=one.work, args=(stop,)) for one in customers]
        watching = threading.Thread(target=auditing, args=(home, tally, quiet))
        for thread in (*threads, watching):
            thread.start()
        strikes = threading.Thread(target=killer.work, args=(stop,))
        strikes.start()
        stop.wait(seconds)
        stop.set()
        strikes.join()
        while any(thread.is_alive() for thread in threads):
            fleet.keep()
            threads[0].join(LOOK_SECONDS)
            time.sleep(LOOK_SECONDS)
        quiet.set()
        watching.join()
        _until_paid(Database(home))
        audit(Database(home), tally, {**VIOLATIONS, **DOUBLED})
        ended_badly = fleet.end()
        if gone(home.servers, SERVER_SECONDS) > SERVER_SECONDS:
            tally.leftovers.append(f"servers {home.servers()}")
        processes = living(os.fsencode(mark))
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - begun, 1),
        "workers": workers,
        "jobs": {"all": tally.jobs.total(), **tally.jobs},
        "strikes": {"all": tally.strikes.total(), **tally.strikes},
        "submits_failed": tally.submits_failed,
        "invariants_looked_at": tally.looks,
        "differing": tally.differing,
        "failures": tally.failures,
        "violations": sorted(tally.violations),
        "leftovers": tally.leftovers,
        "processes": processes,
        "workers_ended_badly": ended_badly,
        "errors": tally.errors,
    }


def _until_paid(database: Database) -> None:
    """Wait until no clean-up that is due is owed any more."""
    until = time.monotonic() + JOB_SECONDS
    while database.rows(OWED) != []:
        if time.monotonic() > until:
            raise AssertionError(f"clean-ups stay owed: {database.rows(OWED)}")
        time.sleep(LOOK_SECONDS)


def passed(report: dict[str, Any]) -> bool:
    """Whether nothing was lost, doubled, different or left."""
    bad = ("differing", "failures", "violations", "leftovers", "processes", "errors")
    return not any(report[name] for name in bad) and report["jobs"].get("successful", 0) > 0


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _pid(command: Command) -> int:
    return command.pid


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cogmill-soak-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run, print one JSON object, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=480.0, help="how long to strike")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    with _folder() as folder:
        report = soak(given.seconds, given.seed, given.workers, folder)
    report = {**report, "pass": passed(report)}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    return 0 if report["pass"] else 1


if __name__ == "__main__":
    sys.exit(main())
