"""Where root's state lies: in the home, whatever was there before, and whoever may pass."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cogmill.core_machine.state.embedded import keeper, moving
from cogmill.core_machine.state.embedded.paths import Places
from cogmill.core_machine.state.embedded.server import EmbeddedServer
from cogmill.core_machine.state.embedded.server_user import server_user
from cogmill.errors import DatabaseUnavailable

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root's server runs as somebody else"
)

NOBODY = 65534
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "PATH": os.environ["PATH"],
}
USE = """
import os, signal, sys
from pathlib import Path
import psycopg
from cogmill.core_machine.state.embedded import moving
from cogmill.core_machine.state.embedded.server import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), root_home=Path(sys.argv[2]), linger_seconds=0.3)
{before}
with server.lease() as lease, psycopg.connect(lease.conninfo, autocommit=True) as conn:
    answers = conn.execute(sys.argv[3])
    while answers.nextset():
        pass
    row = answers.fetchone()
    print(server.places.folder, row[0], flush=True)
    {inside}
"""
KILLED_AT = """
def killing(owner, name, after, number=1):
    real, calls = getattr(owner, name), []
    def struck(*given, **named):
        calls.append(name)
        if not after and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*given, **named)
        if after and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(owner, name, struck)
killing({})
"""


def use(
    home: Path, root_home: Path, query: str = "SELECT 1", *, before: str = "", inside: str = "pass",
    within: str = "",
) -> subprocess.Popen[str]:  # fmt: skip
    """Start a process that leases the server, in mounts of its own where `within` makes some."""
    code = USE.format(before=before, inside=inside)
    words = [sys.executable, "-c", code, str(home), str(root_home), query]
    if within:
        words = ["unshare", "-m", "sh", "-ec", f'{within}; exec "$@"', "sh", *words]
    return subprocess.Popen(
        words, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def told(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return what a process said that has to end well, and what it warned of."""
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out.strip(), err


def idle(folder: Path, seconds: float = 15) -> bool:
    return keeper.wait_until(lambda: not mentions(folder), seconds)


def mentions(folder: Path) -> list[bytes]:
    """Return the command lines of what runs for a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if os.fsencode(folder) in command and int(process.name) != os.getpid():
                found.append(command)
    return found


@pytest.fixture(scope="module")
def root_home(open_folder: Path) -> Path:
    return open_folder / "root"


@pytest.fixture
def area(open_folder: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="place-", dir=open_folder))
    folder.chmod(0o755)
    yield folder
    assert idle(folder)
    shutil.rmtree(folder)


def server_of(home: Path, root_home: Path) -> EmbeddedServer:
    return EmbeddedServer(home, root_home=root_home, linger_seconds=0.2)


@pytest.fixture(scope="module")
def stopped(open_folder: Path, root_home: Path) -> Path:
    """Make the state of a stopped server with one table, to be copied."""
    made = server_of(open_folder / "template", root_home)
    with made.lease() as lease, psycopg.connect(lease.conninfo, autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS n")
    assert idle(made.places.folder)
    return made.places.folder


def put_in_old_place(stopped: Path, home: Path, root_home: Path) -> Path:
    """Put state with one table where earlier versions of cogmill had it."""
    folder = Places(home, root_home).old_folder
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["cp", "-a", stopped, folder], check=True)
    return folder


@pytest.fixture
def old(area: Path, root_home: Path, stopped: Path) -> Iterator[Path]:
    (area / "home").mkdir()
    folder = put_in_old_place(stopped, area / "home", root_home)
    yield folder
    assert idle(folder)
    shutil.rmtree(folder, ignore_errors=True)


def kept(server: EmbeddedServer) -> Any:
    with server.lease() as lease, psycopg.connect(lease.conninfo) as conn:
        row = conn.execute("SELECT n FROM kept").fetchone()
    return row and row[0]


# New state


def test_root_s_data_lie_in_the_home_and_belong_to_the_server_s_user(
    area: Path, root_home: Path
) -> None:
    server = server_of(area / "deep" / "home", root_home)
    server.lease().close()
    data = area / "deep" / "home" / "postgres" / "data"
    assert (data / "PG_VERSION").exists()
    assert (data.stat().st_uid, data.stat().st_mode & 0o777) == (NOBODY, 0o700)
    assert (data.parent.stat().st_uid, data.parent.stat().st_mode & 0o777) == (0, 0o711)
    assert not Places(area / "deep" / "home", root_home).old_folder.exists()


@pytest.mark.parametrize("closed", ["parent", "parent/home", "both"])
def test_a_home_that_the_server_s_user_cannot_reach_is_refused_with_what_helps(
    area: Path, root_home: Path, closed: str
) -> None:
    home = area / "a parent" / "home"
    home.mkdir(parents=True)
    names = [home.parent] if closed == "parent" else [home]
    names = [home.parent, home] if closed == "both" else names
    for folder in names:
        folder.chmod(0o700)
    with pytest.raises(DatabaseUnavailable, match="does not let the user nobody pass") as caught:
        server_of(home, root_home).lease()
    assert [*home.iterdir()] == []
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in names)
    command, _, other = caught.value.remedy.partition(", or set COGMILL_HOME=")
    # The other way out works, and so does this one.
    server_of(Path(other.split(",")[0]), root_home).lease().close()
    subprocess.run(command.removeprefix("run "), shell=True, check=True)
    server_of(home, root_home).lease().close()
    assert (home / "postgres" / "data" / "PG_VERSION").exists()


def test_binaries_that_the_server_s_user_cannot_reach_are_refused_before_anything_is_made(
    area: Path,
) -> None:
    closed = area / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DatabaseUnavailable, match="does not let the user nobody pass") as caught:
        server_of(area / "home", closed / "root").lease()
    assert f"chmod o+x {closed}" in caught.value.remedy
    assert not (area / "home").exists()


def test_a_home_that_is_closed_later_is_named(area: Path, root_home: Path) -> None:
    server = server_of(area / "home", root_home)
    server.lease().close()
    assert idle(area)
    (area / "home").chmod(0o700)
    with pytest.raises(DatabaseUnavailable, match="home does not let the user nobody pass"):
        server.lease()


def test_a_file_system_that_gives_nothing_away_is_refused_and_left_empty(
    area: Path, root_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def squashed(*_given: object, **_named: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", squashed)
    (area / "home").mkdir()
    with pytest.raises(DatabaseUnavailable, match="can be given to nobody: Operation not") as seen:
        server_of(area / "home", root_home).lease()
    assert f"set COGMILL_HOME={root_home}" in seen.value.remedy
    assert [*(area / "home").iterdir()] == []


def test_root_of_a_user_namespace_is_told_to_be_an_ordinary_user(
    area: Path, root_home: Path
) -> None:
    root_home.mkdir(exist_ok=True)
    process = use(area / "home", root_home)
    told(process)
    code = ["unshare", "-r", *process.args]  # type: ignore[misc]
    code[code.index(str(area / "home"))] = str(area / "other")
    ended = subprocess.run(code, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert "run cogmill as an ordinary user" in ended.stderr
    assert not (area / "other").exists()


def test_a_folder_of_another_user_s_server_is_refused_by_its_owner(
    area: Path, root_home: Path
) -> None:
    (area / "home" / "postgres").mkdir(parents=True)
    os.chown(area / "home" / "postgres", 1234, 1234)
    with pytest.raises(DatabaseUnavailable, match="user with the uid 1234") as caught:
        server_of(area / "home", root_home).lease()
    assert "run cogmill as that user" in caught.value.remedy


def test_a_home_on_a_read_only_mount_is_refused_by_its_name(area: Path, root_home: Path) -> None:
    home = area / "home"
    home.mkdir()
    within = f"mount --bind {home} {home}; mount -o remount,bind,ro {home}"
    ended = use(home, root_home, within=within)
    _, err = ended.communicate(timeout=100)
    assert "Read-only file system" in err
    assert str(home) in err


def test_a_read_only_place_for_root_s_programs_is_named_with_what_helps(
    area: Path, root_home: Path
) -> None:
    within = f"mkdir -p {root_home}; mount -t tmpfs -o ro tmpfs {root_home}"
    ended = use(area / "home", root_home, within=within)
    _, err = ended.communicate(timeout=100)
    assert f"programs in {root_home}: Read-only file system" in err
    assert "run cogmill as an ordinary user" in err


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 22)], ids=["name", "path"])
def test_a_home_whose_name_is_too_long_is_refused_in_a_short_sentence(
    area: Path, root_home: Path, name: str
) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be used: File name too long") as caught:
        server_of(area / name, root_home)
    assert len(caught.value.message) < 200


def test_two_containers_one_after_the_other_share_the_state_of_one_volume(
    area: Path, root_home: Path
) -> None:
    home = area / "home"
    within = f"mkdir -p {root_home}; mount -t tmpfs tmpfs {root_home}"
    first = "CREATE TABLE t AS SELECT 7 AS n; SELECT 1"
    told(use(home, root_home, first, within=within))
    assert idle(area)
    assert told(use(home, root_home, "SELECT n FROM t", within=within))[0].endswith(" 7")


def test_a_kill_of_everything_in_one_container_leaves_the_state_to_the_next(
    area: Path, root_home: Path
) -> None:
    home = area / "home"
    within = f"mkdir -p {root_home}; mount -t tmpfs tmpfs {root_home}"
    first = use(home, root_home, "CREATE TABLE t AS SELECT 7 AS n; SELECT 1", within=within,
                inside="import time; time.sleep(60)")  # fmt: skip
    assert first.stdout is not None
    assert first.stdout.readline()
    kill_all(area)
    first.kill()
    first.communicate()
    assert idle(area)
    assert told(use(home, root_home, "SELECT n FROM t", within=within))[0].endswith(" 7")


def kill_all(folder: Path) -> None:
    """Kill keeper and postmaster at once; the backends end by themselves."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if os.fsencode(folder) in command and (b"keeper.py" in command or b"-D\0" in command):
                os.kill(int(process.name), 9)


# What earlier versions left


def test_old_state_is_moved_and_the_old_place_goes_after_the_first_start(
    area: Path, root_home: Path, old: Path
) -> None:
    server = server_of(area / "home", root_home)
    moving.bring_home(server.places, 5)
    assert old.is_dir()
    assert (area / "home" / "postgres" / "data" / "PG_VERSION").exists()
    assert kept(server) == 42
    assert server.places.folder == area / "home" / "postgres"
    assert not old.exists()
    assert kept(server) == 42


def test_old_state_below_a_closed_folder_is_used_where_it_lies_with_a_warning(
    area: Path, root_home: Path, old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (area / "home").chmod(0o700)
    server = server_of(area / "home", root_home)
    assert kept(server) == 42
    assert server.places.folder == old
    assert f"lies in {old}" in caplog.text
    assert f"chmod o+x {area / 'home'}" in caplog.text
    assert [*(area / "home").iterdir()] == []


def test_old_state_of_a_home_on_a_read_only_mount_is_used_where_it_lies(
    area: Path, root_home: Path, old: Path
) -> None:
    home = area / "home"
    within = f"mount --bind {home} {home}; mount -o remount,bind,ro {home}"
    out, err = told(use(home, root_home, "SELECT n FROM kept", within=within))
    assert out == f"{old} 42"
    assert "Read-only file system" in err


def test_old_state_that_is_in_use_is_used_there_by_all_and_moved_after_them(
    area: Path, root_home: Path, old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = keeper.open_lock(old, keeper.LEASE)
    assert keeper.try_lock(older, 1)
    server = server_of(area / "home", root_home)
    assert kept(server) == 42
    assert server.places.folder == old
    assert "it is in use" in caplog.text
    os.close(older)
    assert idle(old)
    assert kept(server) == 42
    assert server.places.folder == area / "home" / "postgres"


def test_many_that_begin_at_once_move_old_state_once(
    area: Path, root_home: Path, old: Path
) -> None:
    all_of_them = [use(area / "home", root_home, "SELECT n FROM kept") for _ in range(4)]
    assert {told(each)[0] for each in all_of_them} == {f"{area / 'home' / 'postgres'} 42"}
    assert not old.exists()


STEPS = {
    "before the copy": "moving.tempfile, 'mkdtemp', False",
    "in the copy": "shutil, 'copyfile', False, 200",
    "after the copy": "moving, '_control', False",
    "before anything is on the disk": "moving, '_sync', False",
    "in the middle of bringing it there": "moving, '_sync', True, 300",
    "before the rename": "Path, 'rename', False",
    "after the rename": "Path, 'rename', True",
    "before the folder is on the disk": "moving, '_move', True",
    "before the old place goes": "moving, 'drop_old', False",
    "after it is out of the way": "Path, 'rename', True, 2",
    "before it is deleted": "moving.shutil, 'rmtree', True",
}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_in_the_middle_of_moving_loses_nothing_and_leaves_nothing(
    area: Path, root_home: Path, old: Path, step: str
) -> None:
    before = "import shutil\n" + KILLED_AT.format(STEPS[step])
    struck = use(area / "home", root_home, before=before)
    struck.communicate(timeout=100)
    assert struck.returncode == -9
    assert told(use(area / "home", root_home, "SELECT n FROM kept"))[0].endswith(" 42")
    assert idle(area)
    assert not old.exists()
    assert [*root_home.glob(".*moved")] == []
    left = {path.name for path in (area / "home" / "postgres").iterdir()}
    assert {name for name in left if name.startswith("data")} == {"data"}
    assert not (area / "home" / "postgres" / "data" / "cogmill-moved-from").exists()


def test_of_state_in_both_places_that_in_the_home_is_used_and_the_other_named(
    area: Path, root_home: Path, old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = server_of(area / "home", root_home)
    shutil.copytree(old, area / "aside", symlinks=True)
    assert kept(server) == 42
    shutil.copytree(area / "aside", old, symlinks=True)
    assert kept(server) == 42
    assert server.places.folder == area / "home" / "postgres"
    assert f"lies in {old} and is not used" in caplog.text
    assert (old / "data" / "PG_VERSION").exists()


def test_old_state_that_an_older_version_has_used_since_it_was_copied_is_kept(
    area: Path, root_home: Path, old: Path
) -> None:
    server = server_of(area / "home", root_home)
    moving.bring_home(server.places, 5)
    control = old / "data" / "global" / "pg_control"
    control.write_bytes(control.read_bytes() + b"x")
    assert kept(server) == 42
    assert old.exists()


def test_moved_state_that_does_not_start_is_kept_where_it_was_with_a_way_back(
    area: Path, root_home: Path, old: Path
) -> None:
    server = server_of(area / "home", root_home)
    moving.bring_home(server.places, 5)
    (area / "home" / "postgres" / "data" / "global" / "pg_control").write_bytes(b"torn")
    with pytest.raises(DatabaseUnavailable, match="does not start") as caught:
        server.lease()
    assert f"run mv {old} DIR/postgres" in caught.value.remedy
    assert idle(area)
    (area / "other").mkdir()
    old.rename(area / "other" / "postgres")
    assert kept(server_of(area / "other", root_home)) == 42


# Removal, and shared memory


@pytest.mark.parametrize("name", ["home", "home " + "x" * 90])
def test_a_removed_home_leaves_nothing_even_while_it_is_used(
    area: Path, root_home: Path, name: str
) -> None:
    home = area / name
    server = server_of(home, root_home)
    with server.lease() as lease:
        socket_folder = server.places.socket_folder
        assert socket_folder.is_dir()
        postmaster = (server.places.data / "postmaster.pid").read_text().split()[0]
        words = Path(f"/proc/{postmaster}/maps").read_text().split()
        shared = {word for word in words if word.startswith("/dev/shm/")}
        assert shared
        shutil.rmtree(home)
        begun = time.monotonic()
        assert idle(home, 30)
        print(json.dumps({"seconds until nothing is left": time.monotonic() - begun}))
        assert not socket_folder.exists()
        assert not any(Path(segment).exists() for segment in shared)
        with pytest.raises(DatabaseUnavailable, match="was removed while"):
            lease.ensure_running()
    assert not home.exists()


def test_a_home_made_again_under_its_name_never_gets_the_server_of_the_removed_one(
    area: Path, root_home: Path
) -> None:
    home = area / ("home " + "x" * 90)
    server = server_of(home, root_home)
    with server.lease() as lease:
        with psycopg.connect(lease.conninfo, autocommit=True) as conn:
            conn.execute("CREATE TABLE t AS SELECT 1 AS n")
        shutil.rmtree(home)
        again = use(home, root_home, "SELECT to_regclass('t')")
        assert told(again)[0].endswith(" None")


def test_full_shared_memory_is_named_as_what_it_is(area: Path, root_home: Path) -> None:
    full = use(area / "home", root_home, within="mount -t tmpfs -o size=100k tmpfs /dev/shm")
    _, err = full.communicate(timeout=100)
    assert "/dev/shm" in err
    assert "docker run --shm-size" in err


def test_who_passes_is_found_out_by_trying(area: Path) -> None:
    closed = area / "closed"
    (closed / "below").mkdir(parents=True)
    closed.chmod(0o700)
    assert server_user().closed(closed / "below") == [closed]
    os.chown(closed, NOBODY, -1)
    assert server_user().closed(closed / "below") == []
