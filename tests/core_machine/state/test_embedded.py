"""The life of the embedded server: real servers, real kills, as root and as an ordinary user."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cogmill.core_machine.state.embedded import configuration, keeper
from cogmill.core_machine.state.embedded import server as embedded_server
from cogmill.core_machine.state.embedded.paths import Places
from cogmill.core_machine.state.embedded.server import EmbeddedServer
from cogmill.errors import DatabaseUnavailable

LINUX = sys.platform.startswith("linux")
NOBODY = 65534
HOLDER = """
import json, sys, time
from pathlib import Path
from cogmill.core_machine.state.embedded.server import EmbeddedServer
begun = time.monotonic()
server = EmbeddedServer(Path(sys.argv[1]), root_home=Path(sys.argv[2]), linger_seconds=0.3)
with server.lease() as lease:
    told = {"conninfo": lease.conninfo, "folder": str(server.places.folder),
            "seconds": time.monotonic() - begun}
    print(json.dumps(told), flush=True)
    for command in sys.stdin:
        lease.ensure_running()
        print("{}", flush=True)
"""


@dataclass(frozen=True)
class Account:
    """Who holds leases: we ourselves, or an ordinary user where we are root."""

    uid: int
    python: str
    environment: dict[str, str]

    @property
    def switched(self) -> int | None:
        """The uid to switch to, None when it is ours."""
        return None if self.uid == os.geteuid() else self.uid


def account_of(uid: int) -> Account | None:
    """Find an interpreter that this user may run; None where there is none."""
    environment = {"LANG": "C", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    beside = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, beside):
        account = Account(uid, python, environment)
        with contextlib.suppress(OSError):
            if run(account, "import cogmill.core_machine.state").returncode == 0:
                return account
    return None


def run(account: Account, code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [account.python, "-c", code],
        env=account.environment,
        cwd="/",
        capture_output=True,
        check=False,
        **switch(account),
    )


def switch(account: Account) -> dict[str, Any]:
    if account.switched is None:
        return {}
    return {"user": account.uid, "group": account.uid, "extra_groups": []}


class Holder:
    """A process that holds a lease."""

    def __init__(self, account: Account, home: Path, root_home: Path, *, wait: bool = True) -> None:
        self.process = subprocess.Popen(
            [account.python, "-c", HOLDER, str(home), str(root_home)],
            env=account.environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **switch(account),
        )
        if wait:
            self.told()

    def told(self) -> None:
        """Wait until it has its lease."""
        answer = self._answer()
        self.conninfo = str(answer["conninfo"])
        self.folder = Path(str(answer["folder"]))
        self.seconds = float(answer["seconds"])

    def ensure_running(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("ensure\n")
        self.process.stdin.flush()
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.stderr.read())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def query(self, text: str) -> Any:
        with psycopg.connect(self.conninfo) as conn:
            cursor = conn.execute(text.encode())
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def postmaster(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.wait(30)


def locked(folder: Path, name: str) -> bool:
    descriptor = keeper.open_lock(folder, name)
    try:
        return not keeper.try_lock(descriptor)
    finally:
        os.close(descriptor)


def running(folder: Path) -> list[str]:
    """Name what still runs for that server: its processes and its keeper."""
    found = [name for name in (keeper.SERVER_LOCK, keeper.KEEPER_LOCK) if locked(folder, name)]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if os.fsencode(folder) in command:
                found.append(command.replace(b"\0", b" ").decode())
    return found


def gone(folder: Path, seconds: float = 10.0) -> bool:
    return keeper.wait_until(lambda: not running(folder), seconds)


def kill_keeper(holder: Holder) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"keeper.py\0" + os.fsencode(holder.folder) in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def crash(holder: Holder) -> None:
    """Kill all that belongs to a server, the keeper first, so that nobody stops it properly."""
    kill_keeper(holder)
    os.kill(holder.postmaster(), signal.SIGKILL)
    holder.kill()
    assert gone(holder.folder)


USERS = {"ourselves": os.geteuid()} | ({"an ordinary user": NOBODY} if os.geteuid() == 0 else {})


@pytest.fixture(scope="module", params=USERS)
def account(request: pytest.FixtureRequest) -> Account:
    found = account_of(USERS[request.param])
    if found is None:
        pytest.skip("an ordinary user can run no Python that has our packages")
    return found


@pytest.fixture(scope="module")
def area(account: Account, open_folder: Path) -> Iterator[Path]:
    """Give a private folder of the account, in which homes lie."""
    folder = Path(tempfile.mkdtemp(prefix="area-", dir=open_folder))
    os.chown(folder, account.uid, -1)
    folder.chmod(0o700 if account.uid else 0o711)  # root's server has another user
    yield folder
    for home in folder.rglob("home*"):
        # Not EmbeddedServer.remove: as root we would look at another place than the ordinary user.
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def hold(account: Account, area: Path, open_folder: Path) -> Iterator[Callable[..., Holder]]:
    """Start holders, by default of one home that many tests share."""
    holders: list[Holder] = []

    def start(home: Path = area / "home", *, wait: bool = True) -> Holder:
        holders.append(Holder(account, home, open_folder / "root", wait=wait))
        return holders[-1]

    yield start
    for holder in holders:
        if holder.process.poll() is None:
            holder.close()
    assert all(gone(holder.folder) for holder in holders if hasattr(holder, "folder"))


Hold = Callable[..., Holder]


def test_a_server_is_made_in_seconds_joined_in_a_moment_and_gone_after_its_last_user(
    hold: Hold, area: Path
) -> None:
    first = hold(area / "home-new")
    assert first.seconds < 10
    second = hold(area / "home-new")
    assert second.seconds < 1
    assert first.postmaster() == second.postmaster()
    first.query("CREATE TABLE shared AS SELECT 42 AS n")
    assert second.query("SELECT n FROM shared") == 42
    first.close()
    second.close()
    assert gone(second.folder)


def test_many_that_begin_at_once_share_one_server(hold: Hold, area: Path) -> None:
    holders = [hold(area / "home-race", wait=False) for _ in range(4)]
    for holder in holders:
        holder.told()
    assert len({holder.postmaster() for holder in holders}) == 1
    keepers = [line for line in running(holders[0].folder) if "keeper.py" in line]
    assert len(keepers) == (1 if LINUX else 0)


def test_the_kill_of_one_holder_leaves_the_server_to_the_other(hold: Hold) -> None:
    first, second = hold(), hold()
    first.kill()
    time.sleep(0.6)
    assert second.query("SELECT 1") == 1


def test_no_server_is_left_ten_seconds_after_the_kill_of_every_holder(hold: Hold) -> None:
    first, second = hold(), hold()
    assert running(first.folder)
    first.kill()
    second.kill()
    assert gone(first.folder, 10)


def test_a_killed_postmaster_is_started_again_with_its_data(hold: Hold) -> None:
    holder = hold()
    holder.query("DROP TABLE IF EXISTS kept")
    holder.query("CREATE TABLE kept AS SELECT 7 AS n")
    killed = holder.postmaster()
    os.kill(killed, signal.SIGKILL)
    holder.ensure_running()
    assert holder.postmaster() != killed
    assert holder.query("SELECT n FROM kept") == 7


def test_a_killed_keeper_is_replaced(hold: Hold) -> None:
    holder = hold()
    kill_keeper(holder)
    assert keeper.wait_until(lambda: not locked(holder.folder, keeper.KEEPER_LOCK), 5)
    holder.ensure_running()
    assert locked(holder.folder, keeper.KEEPER_LOCK)
    holder.kill()
    assert gone(holder.folder)


@pytest.mark.parametrize("content", ["", "no number\n/nowhere\n"])
def test_a_half_written_lock_file_does_not_keep_the_server_from_starting(
    hold: Hold, content: str
) -> None:
    holder = hold()
    crash(holder)
    (holder.folder / "data" / "postmaster.pid").write_text(content)
    assert hold().query("SELECT 1") == 1


def test_a_lock_file_whose_pid_belongs_to_another_process_now_is_no_obstacle(
    hold: Hold, account: Account
) -> None:
    holder = hold()
    lines = (holder.folder / "data" / "postmaster.pid").read_text().splitlines()
    socket_lock = Places(holder.folder, holder.folder).socket.name + ".lock"
    socket_folder = Path(str(psycopg.conninfo.conninfo_to_dict(holder.conninfo)["host"]))
    crash(holder)
    # Under the server's own user: only such a pid makes PostgreSQL believe in its lock file.
    server_user = NOBODY if account.uid == 0 else account.switched
    other = subprocess.Popen(["sleep", "60"], user=server_user)
    try:
        lines[0] = str(other.pid)
        (holder.folder / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        (socket_folder / socket_lock).write_text(f"{other.pid}\n")
        (holder.folder / keeper.SERVER_LOCK).write_text(json.dumps({"pid": other.pid}))
        assert hold().query("SELECT 1") == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_kill_in_the_middle_of_initdb_heals(hold: Hold, area: Path) -> None:
    begun = hold(area / "home-torn", wait=False)

    def half_made() -> bool:
        roots = (area / "home-torn" / "postgres", *area.parent.glob("root/*"))
        return any([*root.glob("data.*/base")] for root in roots)

    assert keeper.wait_until(half_made, 10)
    begun.kill()
    healed = hold(area / "home-torn")
    assert healed.query("SELECT 1") == 1
    assert [*healed.folder.glob("data.*")] == []


def test_a_long_home_with_a_space_and_a_comma_works(hold: Hold, area: Path) -> None:
    home = area / "a folder, and more" / ("deep" * 30) / "home of jobs"
    holder = hold(home)
    assert holder.query("SELECT current_setting('listen_addresses')") == ""
    socket_folder = Path(str(psycopg.conninfo.conninfo_to_dict(holder.conninfo)["host"]))
    assert socket_folder.stat().st_mode & 0o777 == 0o700
    holder.close()
    assert gone(holder.folder)
    assert not socket_folder.exists()


def test_text_is_utf8_whatever_the_locale_of_the_caller(hold: Hold) -> None:
    holder = hold()
    assert holder.query("SHOW server_encoding") == "UTF8"
    assert holder.query("SELECT lower('ÄÖ')") == "äö"
    assert holder.query("SHOW fsync") == "on"


def test_the_server_has_a_session_of_its_own_that_no_terminal_interrupts(hold: Hold) -> None:
    holder = hold()
    assert os.getsid(holder.postmaster()) not in (os.getsid(0), os.getsid(holder.process.pid))


def test_no_folder_that_was_there_changes_its_mode_or_owner(
    hold: Hold, area: Path, account: Account
) -> None:
    home = area / "private" / "shared" / "home"
    # Root's server has another user, who has to get in.
    others = 0 if account.uid else 0o001
    for folder, mode in ((home.parent.parent, 0o700), (home.parent, 0o750), (home, 0o710)):
        folder.mkdir()
        folder.chmod(mode | others)
        os.chown(folder, account.uid, -1)
    there = [home, *home.parents, Path("/var"), Path("/var/lib")]
    before = [(folder.stat().st_mode, folder.stat().st_uid) for folder in there]
    hold(home)
    assert [(folder.stat().st_mode, folder.stat().st_uid) for folder in there] == before


def test_a_server_whose_folder_was_deleted_stops_with_its_last_user(hold: Hold, area: Path) -> None:
    holder = hold(area / "home-deleted")
    server = holder.postmaster()
    shutil.rmtree(holder.folder)
    holder.kill()
    data = holder.folder / "data"
    assert keeper.wait_until(lambda: not keeper.is_postmaster(server, data), 10)
    del holder.folder


# What needs no second process


@pytest.fixture
def server(open_folder: Path) -> Iterator[EmbeddedServer]:
    home = Path(tempfile.mkdtemp(dir=open_folder))
    home.chmod(0o755)
    made = EmbeddedServer(home, root_home=open_folder / "root", linger_seconds=0.2)
    yield made
    made.remove()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_shares_the_lease_until_it_ends(server: EmbeddedServer) -> None:
    lease = server.lease()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(into)
        os.read(out, 1)
        os._exit(0)
    os.close(out)
    lease.close()
    time.sleep(0.5)
    assert running(server.places.folder)
    os.close(into)
    os.waitpid(child, 0)
    assert gone(server.places.folder)


def test_a_server_whose_socket_was_swept_away_is_started_again(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_server, "_SWEPT_SOCKET_SECONDS", 0.5)
    with server.lease() as lease:
        shutil.rmtree(server.places.socket_folder)
        lease.ensure_running()
        with psycopg.connect(lease.conninfo) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_variables_of_libpq_do_not_reach_the_embedded_server(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGREQUIREAUTH": "scram-sha-256", "PGREQUIREPEER": "nobody-else",
        "PGSSLNEGOTIATION": "direct", "PGLOADBALANCEHOSTS": "x", "PGCLIENTENCODING": "LATIN1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with server.lease() as lease, psycopg.connect(lease.conninfo) as conn:
        assert conn.execute("SHOW client_encoding").fetchone() == ("UTF8",)


def test_a_service_that_libpq_does_not_know_is_an_error_at_once(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSERVICE", "nope")
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="unset PGSERVICE"):
        server.lease()
    assert time.monotonic() - begun < 10


def test_a_server_that_stays_silent_is_an_error_in_a_bounded_time(
    server: EmbeddedServer, open_folder: Path
) -> None:
    hasty = EmbeddedServer(server.places.home, root_home=open_folder / "root", patience_seconds=0.5)
    with server.lease():
        postmaster = int((server.places.data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseUnavailable, match=r"is silent after 0\.5 s"):
                hasty.lease()
        finally:
            os.kill(postmaster, signal.SIGCONT)


def test_a_disk_without_room_is_named_in_a_sentence(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_server, "_BYTES_TO_MAKE", 2**62)
    with pytest.raises(DatabaseUnavailable, match=r"disk that holds .* is full") as caught:
        server.lease()
    assert "make room" in caught.value.remedy
    assert gone(server.places.folder)


def test_data_of_another_major_version_is_left_alone(server: EmbeddedServer) -> None:
    server.places.make_folder()
    server.places.data.mkdir()
    (server.places.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL 17, not 18"):
        server.lease()
    assert [*server.places.data.iterdir()] == [server.places.data / "PG_VERSION"]


def test_a_server_of_another_host_or_container_is_not_started_a_second_time(
    server: EmbeddedServer,
) -> None:
    server.places.make_folder()
    other = keeper.open_lock(server.places.folder, keeper.SERVER_LOCK)
    os.write(other, json.dumps({"pid": 77, "machine": "another"}).encode())
    fcntl.flock(other, fcntl.LOCK_EX)
    try:
        with pytest.raises(DatabaseUnavailable, match="another host or container"):
            server.lease()
    finally:
        os.close(other)


def test_a_socket_folder_that_others_may_enter_is_refused(server: EmbeddedServer) -> None:
    server.places.make_folder()
    server.places.socket_folder.mkdir()
    server.places.socket_folder.chmod(0o755)
    with pytest.raises(DatabaseUnavailable, match="not a private folder"):
        server.lease()
    assert server.places.socket_folder.stat().st_mode & 0o777 == 0o755


def test_a_configuration_that_does_not_start_is_told_in_the_server_s_own_words(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(configuration.SETTINGS, "shared_buffers", "1B")
    with pytest.raises(DatabaseUnavailable, match=r"FATAL.*shared_buffers") as caught:
        server.lease()
    assert "server.log" in caught.value.remedy


def test_the_log_never_grows_beyond_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOG_BYTES", 100)
    log = tmp_path / keeper.LOG
    with log.open("ab") as writing:
        writing.write(b"x" * 150 + b"y" * 50)
        writing.flush()
        keeper.trim_log(tmp_path)
        writing.write(b"z")
    assert log.read_bytes() == b"z"
    assert (tmp_path / f"{keeper.LOG}.1").read_bytes() == b"x" * 50 + b"y" * 50


def test_a_removed_server_leaves_nothing(server: EmbeddedServer) -> None:
    server.lease().close()
    server.remove()
    assert not server.places.folder.exists()
    assert not server.places.socket_folder.exists()
