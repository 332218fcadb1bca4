"""Runs of the real command that are watched in the database, frozen, and struck at a named moment.

A strike is no race: the whole tree is stopped first, then looked at again, and killed only where
the moment still holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import psycopg
import rasterio
from affine import Affine
from tests.harness.command import COMMAND, Mill
from tests.harness.nursery import Nursery
from tests.harness.once import DONE, once
from tests.harness.plugin import in_session
from tests.harness.processes import all_pids, children_of, command_line, signal_all
from tests.harness.server import furnished
from tests.harness.whole_job import WholeJob

from cogmill.core_machine.state.embedded.server import EmbeddedServer

SEED = 3
#: As many as make the decoded raster larger than the smallest piece.
BANDS = 3
LOOK_SECONDS = 0.002
PATIENCE_SECONDS = 90.0
#: Quick enough that nobody waits long for a dead worker to be believed dead.
QUICK_PACE = {
    "COGMILL_PACE__BEAT": "0.3",
    "COGMILL_PACE__SUSPECT": "1.5",
    "COGMILL_PACE__LEASE": "4",
    "COGMILL_PACE__LOOK": "0.3",
}
#: Output tiles of eight blocks, so that a small raster has at least 3 x 3 of them.
SMALL_TILES = ("--blocksize", "64", "--tile-size", "512", "--co", "LEVEL=1")
REPROJECTED = (*SMALL_TILES, "--dst-crs", "EPSG:3857")
#: The same for a job in this process.
UNDISTURBED: dict[str, Any] = {
    "blocksize": 64, "tile_size": 512, "creation_options": {"LEVEL": "1"}, "dst_crs": "EPSG:3857",
}  # fmt: skip
TWO_CHILDREN = ("--memory", "1GB", "--workers", "2")

Moment = Callable[["Observer"], bool]


def striped_raster(path: Path, width: int = 1301, height: int = 1187) -> Path:
    """Write a striped raster whose pieces are two, with nodata that runs across every seam."""
    random = np.random.default_rng(SEED)
    rows, cols = np.mgrid[:height, :width]
    wave = np.round(127 + 60 * np.sin(cols / 37) * np.cos(rows / 53))
    bands = [wave + band + random.integers(0, 4, wave.shape) for band in range(BANDS)]
    pixels = np.stack(bands).astype("float64")
    pixels[:, (cols * 0.31 + rows * 0.17) % 400 < 37] = -9999
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="float64",
        count=BANDS,
        width=width,
        height=height,
        blockysize=13,
        compress="deflate",
        zlevel=1,
        crs="EPSG:32633",
        transform=Affine(30, 0, 700000, 0, -30, 5600000),
        nodata=-9999,
    ) as dataset:
        dataset.write(pixels)
    return path


def source() -> Path:
    """Return the striped raster of the session."""
    return once("striped", lambda folder: striped_raster(folder / "source.tif")) / "source.tif"


def undisturbed(kind: str) -> dict[str, str]:
    """Return the bytes that no death has a part in, of `REPROJECTED`; any way makes the same."""

    def make(folder: Path) -> None:
        destination = f"{folder}/out/" if kind == "mosaic" else f"{folder}/out.tif"
        WholeJob(source(), destination, options=dict(UNDISTURBED)).run()

    folder = once(f"undisturbed {kind}", make)
    found = contents(folder / "out" if kind == "mosaic" else folder / "out.tif")
    assert not [name for name in found if name.startswith(".") and name != DONE]
    return {name: digest for name, digest in found.items() if name != DONE}


def plain_raster(path: Path) -> Path:
    """Write a striped raster, uncompressed: large against what an inspection reads of it."""
    random = np.random.default_rng(SEED)
    form = {"driver": "GTiff", "dtype": "uint8", "count": 1, "width": 2503, "height": 2001}
    with rasterio.open(
        path, "w", **form, crs="EPSG:32633", transform=Affine(30, 0, 7e5, 0, -30, 5.6e6)
    ) as dataset:
        dataset.write(random.integers(1, 40, (2001, 2503), np.uint8), 1)
    return path


def empty_raster(path: Path) -> Path:
    """Write the header of a large striped raster, for plans: no strip is there."""
    form = {"driver": "GTiff", "dtype": "float32", "count": 4, "width": 8011, "height": 8011}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 180000, 0, -10, 5650000)}
    with rasterio.open(path, "w", **form, **place, SPARSE_OK=True, blockysize=8, nodata=-9999):
        return path


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object that ``--json`` printed last."""
        found: dict[str, Any] = json.loads(self.stdout.strip().splitlines()[-1])
        return found


@dataclass(frozen=True)
class Home:
    """One COGMILL_HOME: where commands run, and where their database is looked into."""

    path: Path
    variables: Mapping[str, str] = field(default_factory=lambda: QUICK_PACE)
    python_path: tuple[Path, ...] = ()

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.path)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but what Python needs."""
        path = os.pathsep.join([*map(str, self.python_path), *filter(None, sys.path)])
        base = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": path}
        return {**base, "COGMILL_HOME": str(self.path), **self.variables}

    def start(self, *arguments: object, **overrides: Any) -> Command:
        """Start a ``cogmill`` command in a session of its own, as a terminal would."""
        return self._started(*COMMAND[1:], *arguments, **overrides)

    def python(self, code: str, *arguments: object) -> Ended:
        """Run Python code to its end."""
        return self._started("-c", code, *arguments).end()

    def _started(self, *words: object, **overrides: Any) -> Command:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                [sys.executable, *map(str, words)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=(mine := os.dup(out.fileno())),
                stderr=(also := os.dup(err.fileno())),
                start_new_session=True,
                **overrides,
            )
        return Command(process, mine, also)

    def call(self, *arguments: object, **overrides: Any) -> Ended:
        """Run a command to its end."""
        return self.start(*arguments, **overrides).end()

    def mill(self, nursery: Nursery) -> Mill:
        """Give the command in the process of the tests, in this home: for what nobody strikes."""
        return Mill(nursery, {"COGMILL_HOME": str(self.path), **self.variables})

    def observer(self) -> Observer:
        return Observer(self.server.conninfo)

    def servers(self) -> list[int]:
        """Return the pids of the postmaster and of the keeper that live for this home."""
        folder = os.fsencode(self.server.places.folder)
        return [pid for pid in all_pids() if folder in command_line(pid)]

    def postmaster(self) -> int:
        data = os.fsencode(self.server.places.data)
        (pid,) = (
            pid
            for pid in self.servers()
            if command_line(pid).split(b"\0")[0].endswith(b"postgres") and data in command_line(pid)
        )
        return pid

    @classmethod
    @contextlib.contextmanager
    def made(cls, **given: Any) -> Iterator[Self]:
        """Give a home of its own, its database made already, and remove it with its server."""
        folder = Path(tempfile.mkdtemp(prefix="cogmill-test-"))
        folder.chmod(0o755)  # the server's user must get in, which it cannot into pytest's folders
        home = cls(folder / "home", **given)
        if in_session():
            furnished(home.path)
        try:
            yield home
        finally:
            home.server.remove()
            shutil.rmtree(folder)


class Command:
    """A command that runs, and the processes below it."""

    def __init__(self, process: subprocess.Popen[bytes], out: int, err: int) -> None:
        self._process = process
        self._out, self._err = out, err

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def tree(self) -> list[int]:
        """Return its pid and those of everything below it, parents first."""
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                found += children_of(pid)
        return found

    def children(self) -> list[int]:
        return [pid for pid in self.tree()[1:] if b"cogmill.child" in command_line(pid)]

    def end(self, within: float = PATIENCE_SECONDS) -> Ended:
        """Wait until it ends, and read what it said."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill_tree()
            self._process.wait()
            code = -1
        texts = []
        for descriptor in (self._out, self._err):
            with open(descriptor, "rb") as stream:
                stream.seek(0)
                texts.append(stream.read().decode())
        assert code != -1, f"it did not end within {within:g} s: {texts}"
        return Ended(code, *texts)

    def strike(self, home: Home, moment: Moment, how: Callable[[Command], object]) -> list[int]:
        """Wait for a moment, freeze the tree in it, and strike.

        Returns
        -------
        list of int
            The pids below the command at that moment.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        with home.observer() as observer:
            while self.running and time.monotonic() < deadline:
                if observer.is_in(moment):
                    frozen = self.freeze()
                    if observer.is_in(moment) and self.running:
                        below = self.tree()[1:]
                        how(self)
                        # Whoever was not struck goes on.
                        signal_all(frozen, signal.SIGCONT)
                        return below
                    signal_all(frozen, signal.SIGCONT)
                time.sleep(LOOK_SECONDS)
        ended = self.end()
        raise AssertionError(f"the moment never came; it ended with {ended.code}: {ended.stderr}")

    def freeze(self) -> list[int]:
        """Stop every process of the tree, those that are just being started too."""
        frozen: list[int] = []
        while fresh := [pid for pid in self.tree() if pid not in frozen]:
            signal_all(fresh, signal.SIGSTOP)
            frozen += fresh
        return frozen

    def kill_tree(self) -> None:
        """kill -9 of all of it, the parent first."""
        signal_all(self.tree(), signal.SIGKILL)

    def kill(self) -> None:
        """kill -9 of the parent alone."""
        signal_all([self.pid], signal.SIGKILL)

    def kill_child(self) -> None:
        """kill -9 of one child that is busy."""
        signal_all(self.children()[:1], signal.SIGKILL)

    def interrupt(self) -> None:
        """Ctrl-C in a terminal: SIGINT to the foreground process group."""
        os.killpg(self.pid, signal.SIGINT)

    def interrupt_process(self) -> None:
        """SIGINT to the process alone."""
        signal_all([self.pid], signal.SIGINT)


class Observer:
    """Looks into the database of a home, and holds no lease: the server does not live for it."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._conn: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *error: object) -> None:
        self._hang_up()

    def is_in(self, moment: Moment) -> bool:
        """Whether it is that moment; False while there is no database to ask."""
        try:
            return moment(self)
        except psycopg.Error:
            self._hang_up()
            return False

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        if self._conn is None:
            self._conn = psycopg.connect(self._conninfo, autocommit=True)
        return self._conn.execute(query, parameters).fetchall()

    def number(self, query: str, *parameters: object) -> int:
        ((found,),) = self.rows(query, *parameters)
        return int(found or 0)

    def tasks(self, job_id: str) -> dict[tuple[str, str, str], tuple[str, int]]:
        """Return status and attempts of every task of a job, by stage, kind and key."""
        rows = self.rows(
            "SELECT stage.name, kind, key, task.status, attempt FROM cogmill.task "
            "JOIN cogmill.stage USING (job_id, position) WHERE job_id = %s",
            job_id,
        )
        return {(stage, kind, key): (status, tries) for stage, kind, key, status, tries in rows}

    def attempts(self) -> int:
        """Return how many attempts all tasks of all jobs have had."""
        return self.number("SELECT sum(attempt) FROM cogmill.task")

    def _hang_up(self) -> None:
        if self._conn is not None:
            self._conn.close()
        self._conn = None


_LIVE = (
    "SELECT count(*) FROM cogmill.task JOIN cogmill.stage USING (job_id, position) "
    "JOIN cogmill.job ON job.id = task.job_id "
    "WHERE job.status IN ('accepted', 'running') AND task.kind = 'work' "
)


def in_stage(name: str, done: int = 0) -> Moment:
    """A task of the stage runs, and at least `done` have succeeded."""

    def holds(observer: Observer) -> bool:
        at = _LIVE + "AND stage.name = %s AND task.status = %s"
        return (
            observer.number(at, name, "running") > 0
            and observer.number(at, name, "succeeded") >= done
        )

    return holds


def between(first: int = 2, last: int = 2) -> Moment:
    """At least `first` tasks of the tiles have succeeded, `last` are open, and one runs."""

    def holds(observer: Observer) -> bool:
        at = _LIVE + "AND stage.name = 'tiles' AND task.status = %s"
        succeeded, running = observer.number(at, "succeeded"), observer.number(at, "running")
        return running > 0 and succeeded >= first and running + observer.number(at, "ready") >= last

    return holds


def publishing(when: Callable[[], bool]) -> Moment:
    """The publish task runs, and the destination looks as `when` says."""
    runs = in_stage("publish")
    return lambda observer: runs(observer) and when()


def contents(destination: str | Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a destination, hidden ones too, by relative name.

    For one COG that is its whole folder: whatever lies beside it would be left over.
    """
    given = Path(destination)
    top = given.parent if given.suffix == ".tif" else given
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(top.rglob("*"))
        if path.is_file() or not any(path.iterdir())
    }
