"""The same command again: after success, after Ctrl-C, after a loss, after a transient failure."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.harness import killing
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.killing import (
    REPROJECTED,
    TWO_CHILDREN,
    Command,
    Home,
    Observer,
    between,
    contents,
    in_stage,
    undisturbed,
)
from tests.harness.nursery import Nursery
from tests.harness.processes import until

INTERRUPTED = 130
#: How many tasks have succeeded of the job that owns a destination; no row where there is none.
RECORDED = (
    "SELECT count(*) FILTER (WHERE task.status = 'succeeded') FROM cogmill.job "
    "JOIN cogmill.task ON job_id = job.id WHERE owns = %s GROUP BY job.id"
)
PAGE = mmap.PAGESIZE


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    # One lease for all of them: here nobody asks when the server goes.
    with Home.made() as made, made.server.lease():
        yield made


@pytest.fixture(scope="module")
def mill(home: Home, nursery: Nursery) -> Mill:
    return home.mill(nursery)


@pytest.fixture(scope="module")
def source() -> Path:
    return killing.source()


class Job:
    """One job: its command, and its destination."""

    def __init__(
        self, home: Home, mill: Mill, source: Path, destination: str, *options: object
    ) -> None:
        self.home, self.mill, self.destination = home, mill, destination
        self.words = (source, destination, *REPROJECTED, *TWO_CHILDREN, *options)

    def start(self, **process: Any) -> Command:
        """Start it in a process of its own."""
        return self.home.start("run", *self.words, "--json", **process)

    def run(self, *more: object) -> dict[str, Any]:
        """Run it to success and return what it printed."""
        return self.mill.run(*self.words, *more).document

    @property
    def contents(self) -> dict[str, str]:
        return contents(self.destination)


@pytest.fixture(scope="module")
def done(
    home: Home, mill: Mill, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, dict[str, Any], dict[str, str]]:
    """Give a job that was successful once, what it printed, and the bytes that it made."""
    job = Job(home, mill, source, f"{tmp_path_factory.mktemp('done')}/out/")
    document = job.run()
    assert job.contents == undisturbed("mosaic")
    return job, document, job.contents


def test_the_same_command_a_second_time_makes_no_attempt(
    done: tuple[Job, dict[str, Any], dict[str, str]], figure: Figure
) -> None:
    job, first, made = done
    with job.home.observer() as observer:
        before = observer.attempts()
        again = job.run()
        other_hints = job.run("--work-tile", "256", "--priority", "7")
        attempts = observer.attempts() - before
    figure.measured(f"{attempts} attempts", "0 attempts")
    assert attempts == 0
    assert again["job_id"] == other_hints["job_id"] == first["job_id"]
    assert again["outputs"] == first["outputs"]
    assert job.contents == made


def test_the_same_command_a_second_time_reads_no_source_bytes_beyond_inspection(
    home: Home, mill: Mill, tmp_path: Path, figure: Figure
) -> None:
    source = killing.plain_raster(tmp_path / "source.tif")
    job = Job(home, mill, source, f"{tmp_path}/out/", "--tile-size", "2048")
    first = job.run()
    inspected = _bytes_read(source, lambda: mill.inspect(source))
    again = _bytes_read(source, job.run)
    forced = _bytes_read(source, lambda: job.run("--force"))
    size = source.stat().st_size
    figure.measured(f"{again} bytes; inspection {inspected}, --force {forced} of {size}", inspected)
    assert first["counted"]["bytes"] > size / 2
    # What is counted would show a run that reads: the forced one read all of it.
    assert forced >= size * 0.9
    assert again <= inspected < size / 4


def _bytes_read(path: Path, act: Callable[[], object]) -> int:
    """Return how many bytes of a file were read while `act` ran: what the page cache now holds."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if _resident(file.fileno()):
            pytest.skip(f"the file system of {path} lives in memory: its cache cannot be emptied")
        act()
        return _resident(file.fileno())


def _resident(descriptor: int) -> int:
    """Return the bytes of a file that the page cache holds (mincore)."""
    size = os.fstat(descriptor).st_size
    with mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        address = ctypes.addressof(anchor := ctypes.c_char.from_buffer(mapped))
        pages = (ctypes.c_ubyte * -(-size // PAGE))()
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages)
        del anchor
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in pages) * PAGE


def test_force_works_three_times(
    done: tuple[Job, dict[str, Any], dict[str, str]], figure: Figure
) -> None:
    job, first, made = done
    with job.home.observer() as observer:
        before = observer.attempts()
        ids = [job.run("--force")["job_id"] for _ in range(3)]
        attempts = observer.attempts() - before
        left = observer.number("SELECT count(*) FROM cogmill.cleanup WHERE done_at IS NULL")
    figure.measured(f"{len(set(ids))} jobs, {attempts} attempts, 0 files differ", "3 jobs")
    assert len({first["job_id"], *ids}) == 4
    # Adopts nothing: every task of the first is done again, each time.
    assert attempts >= 3 * first["attempts"]
    assert left == 0
    assert job.contents == made


@pytest.mark.parametrize(
    ("kind", "interrupt"),
    [("mosaic", Command.interrupt), ("one COG", Command.interrupt_process)],
    ids=["mosaic, process group", "one COG, process"],
)
def test_ctrl_c_and_again_finishes_without_redoing_finished_tasks(
    home: Home,
    mill: Mill,
    source: Path,
    tmp_path: Path,
    figure: Figure,
    kind: str,
    interrupt: Callable[[Command], object],
) -> None:
    destination = f"{tmp_path}/out/" if kind == "mosaic" else f"{tmp_path}/out.tif"
    job = Job(home, mill, source, destination, "--strategy", "two-stage")
    running = job.start()
    running.strike(home, between(), interrupt)
    begun = time.monotonic()
    interrupted = running.end()
    seconds = time.monotonic() - begun
    assert interrupted.code == INTERRUPTED, interrupted.stderr
    assert "resumes" in interrupted.stderr
    with home.observer() as observer:
        before = observer.tasks(interrupted.document["job_id"])
        document = job.run()
        after = observer.tasks(document["job_id"])
    assert document["job_id"] == interrupted.document["job_id"]
    finished = {task: tries for task, (status, tries) in before.items() if status == "succeeded"}
    redone = [task for task, tries in finished.items() if after[task][1] != tries]
    figure.measured(f"{len(redone)} of {len(finished)} finished tasks redone, {seconds:.1f} s", "0")
    assert len(finished) >= 4
    assert set(finished.values()) == {1}
    assert not redone
    assert job.contents == undisturbed(kind)
    assert len(job.contents) == len(document["outputs"]["files"])


def test_ctrl_c_before_the_first_task_is_harmless(
    home: Home, mill: Mill, source: Path, tmp_path: Path
) -> None:
    job = Job(home, mill, source, f"{tmp_path}/out/")
    for moment in (_loading, _with_a_child, _recorded):
        running = job.start()
        running.strike(home, partial(moment, running, job.destination), Command.interrupt)
        ended = running.end()
        assert ended.code == INTERRUPTED, (moment.__name__, ended)
    job.run()


def _loading(running: Command, destination: str, observer: Observer) -> bool:
    """It loads what it needs: of that, pydantic's library is there, which Python itself lacks."""
    with open(f"/proc/{running.pid}/maps") as maps:
        return "pydantic_core" in maps.read()


def _with_a_child(running: Command, destination: str, observer: Observer) -> bool:
    """It looks at the source, or is about to; nothing is recorded."""
    return bool(running.children()) and not observer.rows(RECORDED, destination)


def _recorded(running: Command, destination: str, observer: Observer) -> bool:
    """The job is recorded, and no task of it has ended."""
    return observer.rows(RECORDED, destination) == [(0,)]


def _remove_all(place: Path) -> None:
    shutil.rmtree(place)


def _remove_one(place: Path) -> None:
    sorted(place.glob("*.tif"))[4].unlink()


def _remove_manifest(place: Path) -> None:
    (place / "cogmill.json").unlink()


def _spoil_one(place: Path) -> None:
    tile = sorted(place.glob("*.tif"))[4]
    data = bytearray(tile.read_bytes())
    data[-100] ^= 1
    tile.write_bytes(data)


LOSSES = (_remove_all, _remove_one, _remove_manifest, _spoil_one)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("--full")
    if "loss" in metafunc.fixturenames:
        metafunc.parametrize("loss", LOSSES if full else LOSSES[:1])
    if "trouble" in metafunc.fixturenames:
        metafunc.parametrize("trouble", TROUBLES if full else TROUBLES[:1])


def test_after_the_outputs_were_deleted_the_same_command_ends_successful(
    done: tuple[Job, dict[str, Any], dict[str, str]],
    loss: Callable[[Path], None],
) -> None:
    job, _, made = done
    with job.home.observer() as observer:
        before = observer.attempts()
        loss(Path(job.destination))
        job.run()
        assert observer.attempts() > before
    assert job.contents == made


class Limit:
    """A process may write no file larger than a megabyte: nobody needs to be root for that."""

    room = (1 << 20, resource.RLIM_INFINITY)

    def __init__(self, folder: Path) -> None:
        self.place = folder

    def __enter__(self) -> Limit:
        self.place.mkdir()
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, job: Job) -> Command:
        return job.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, self.room))

    def lift(self, command: Command) -> None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        for pid in command.tree():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)


class Disk:
    """A disk with too little room, which root can mount."""

    def __init__(self, folder: Path) -> None:
        self.place = folder

    def __enter__(self) -> Disk:
        self.place.mkdir()
        self._mount("size=12m", "cogmill-test")
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)

    def start(self, job: Job) -> Command:
        return job.start()

    def lift(self, command: Command) -> None:
        self._mount("remount,size=200m", "cogmill-test")

    def _mount(self, options: str, name: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, name, str(self.place)]
        subprocess.run(words, check=True)


def _retrying(observer: Observer) -> bool:
    return (
        observer.number("SELECT count(*) FROM cogmill.task WHERE status = 'ready' AND failures > 1")
        > 0
    )


def _no_room_until_the_end(home: Home, mill: Mill, source: Path, folder: Path) -> Job:
    job = Job(home, mill, source, f"{folder}/out/", "--strategy", "direct")
    failed = Limit(folder).start(job).end()
    assert failed.code == 1, failed
    assert "File too large" in failed.stderr
    document = job.run()
    assert document["job_id"] != failed.document["job_id"]
    assert os.listdir(folder) == ["out"]
    return job


def _no_room_for_a_while(home: Home, mill: Mill, source: Path, folder: Path) -> Job:
    job = Job(home, mill, source, f"{folder}/disk/out/", "--strategy", "direct")
    with (Limit if os.geteuid() else Disk)(folder / "disk") as obstacle:
        running = obstacle.start(job)
        # Nobody has to type it again: it is tried again until it fits.
        running.strike(home, _retrying, obstacle.lift)
        ended = running.end()
        assert ended.code == 0, ended
        assert os.listdir(obstacle.place) == ["out"]
        # The disk goes with its mount.
        shutil.copytree(obstacle.place / "out", folder / "out")
    return Job(home, mill, source, f"{folder}/out/")


def _source_away_for_a_while(home: Home, mill: Mill, source: Path, folder: Path) -> Job:
    there, away = folder / "source.tif", folder / "elsewhere.tif"
    shutil.copy2(source, there)
    job = Job(home, mill, there, f"{folder}/out/", "--strategy", "direct")
    running = job.start()
    running.strike(home, between(), lambda _: there.rename(away))
    failed = running.end()
    assert failed.code == 1, failed
    assert str(there) in failed.stderr
    away.rename(there)
    document = job.run()
    assert document["job_id"] != failed.document["job_id"]
    return job


TROUBLES = (_no_room_until_the_end, _no_room_for_a_while, _source_away_for_a_while)


def test_after_a_transient_failure_the_same_command_ends_successful(
    home: Home,
    mill: Mill,
    source: Path,
    tmp_path: Path,
    figure: Figure,
    trouble: Callable[[Home, Mill, Path, Path], Job],
) -> None:
    job = trouble(home, mill, source, tmp_path)
    assert job.contents == undisturbed("mosaic")
    figure.measured("0 files differ", "0 differ")


def test_submit_in_one_shell_and_two_workers_in_others_finish_one_job_each_task_once(
    home: Home,
    mill: Mill,
    source: Path,
    tmp_path: Path,
    figure: Figure,
) -> None:
    budget = ("--memory", "600MB", "--workers", "1")
    words = ("submit", source, f"{tmp_path}/out/", *REPROJECTED, "--strategy", "two-stage")
    submitted = mill(*words, *budget)
    assert submitted.exit_code == 0, submitted.said
    job = submitted.document["job_id"]
    seen: set[str] = set()

    def ended(observer: Observer) -> bool:
        held = observer.rows("SELECT worker::text FROM cogmill.task WHERE status = 'running'")
        seen.update(worker for (worker,) in held)
        query = "SELECT count(*) FROM cogmill.job WHERE id = %s AND status = 'successful'"
        return observer.number(query, job) > 0

    workers = [home.start("worker", "--until-idle", *budget) for _ in range(2)]
    with home.observer() as observer:
        until(
            lambda: observer.is_in(ended),
            "the job has ended",
            killing.PATIENCE_SECONDS,
            killing.LOOK_SECONDS,
        )
        assert [worker.end().code for worker in workers] == [0, 0]
        tasks = observer.tasks(job)
    figure.measured(f"{len(tasks)} tasks, {len(seen)} workers, 1 attempt each")
    assert len(seen) == 2
    assert {attempts for _, attempts in tasks.values()} == {1}
    assert contents(f"{tmp_path}/out/") == undisturbed("mosaic")


def test_the_clean_up_of_a_failed_job_leaves_the_result_of_a_later_one_alone(
    home: Home,
    mill: Mill,
    source: Path,
    tmp_path: Path,
) -> None:
    place = tmp_path / "out"
    job = Job(home, mill, source, f"{place}/", "--strategy", "direct")
    running = job.start()
    # In the way of the last commit: the tiles are visible by then, and recorded.
    running.strike(home, in_stage("publish"), lambda _: (place / "cogmill.json").mkdir())
    failed = running.end()
    assert failed.code == 1, failed
    (place / "cogmill.json").rmdir()
    job.run()
    assert job.contents == undisturbed("mosaic")
    with home.observer() as observer:
        observer.rows("UPDATE cogmill.cleanup SET due_at = cogmill.now() RETURNING 1")
        worked = home.call("worker", "--until-idle")
        assert worked.code == 0, worked.stderr
        assert not observer.number("SELECT count(*) FROM cogmill.cleanup WHERE done_at IS NULL")
    assert job.contents == undisturbed("mosaic")
