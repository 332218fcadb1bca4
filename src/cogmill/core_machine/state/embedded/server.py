"""The embedded PostgreSQL server: made, started, shared, mended and stopped.

Everybody who uses the server holds a `Lease`. The first one makes and starts it, a keeper process
(see ``keeper.py``, which also explains the locks) stops it after the last one is gone, however it
went. Whether the server is well is judged by connecting. Whether any process of it is left is
judged by a lock that all of them inherit, never by a pid.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg import pq

from cogmill.core_machine.state.embedded import binaries, keeper, moving
from cogmill.core_machine.state.embedded.configuration import SETTINGS
from cogmill.core_machine.state.embedded.paths import (
    ELSEWHERE,
    ROOT_HOME,
    Places,
    choose,
    pid_namespace,
)
from cogmill.core_machine.state.embedded.server_user import ServerUser
from cogmill.errors import DatabaseUnavailable

_BYTES_TO_MAKE = 200 * 2**20
_BYTES_TO_START = 32 * 2**20
_SWEPT_SOCKET_SECONDS = 5.0
_FULL = "No space left on device"
_SHOWN = 80
# The shell forks, tells the pid and ends: so the process belongs to init and not to the tree of
# whoever happened to start it.
_DETACH = '"$@" </dev/null >&2 & echo $!'
_ENVIRONMENT = {"LANG": "C", "LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}


class Lease:
    """The right to use the server: it runs as long as one lease is held anywhere.

    Close it, or use it as a context manager. The kernel takes it back at any death. A fork shares
    it: it ends when the last of the processes has closed it.
    """

    def __init__(self, server: EmbeddedServer, descriptor: int) -> None:
        self._server = server
        self._descriptor: int | None = descriptor

    @property
    def conninfo(self) -> str:
        """How psycopg reaches the server."""
        return self._server.conninfo

    @property
    def folder(self) -> Path:
        """Where the server's data and log lie."""
        return self._server.places.folder

    def ensure_running(self) -> None:
        """Start the server again when it is gone, and its keeper when that is gone.

        Raises
        ------
        DatabaseUnavailable
            It cannot be started, or its crash recovery takes longer than the server's patience;
            or its folder was removed, which is not made again.
        """
        folder = self.folder
        if self._descriptor is not None and not keeper.is_same(
            self._descriptor, folder / keeper.LEASE
        ):
            message = f"{folder} was removed while its database was in use"
            raise DatabaseUnavailable(message, "start cogmill again; its jobs are forgotten")
        self._server.ensure_running()

    def close(self) -> None:
        """Give the lease back. The server stops soon after the last one."""
        if self._descriptor is not None:
            # Closed, not unlocked: an unlock would take it from a fork as well.
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lease back."""
        self.close()


def lease(home: Path) -> Lease:
    """Lease the embedded server of that home (``COGMILL_HOME``), started when it is not running."""
    return EmbeddedServer(home).lease()


class EmbeddedServer:
    """The server of one home.

    Parameters
    ----------
    home : Path
        ``COGMILL_HOME``: the server's data lie in it.
    root_home : Path
        Where the binaries of root's servers lie, and state that earlier versions put there.
    linger_seconds : float
        How long the server outlives its last user.
    patience_seconds : float
        How long a start may take, crash recovery included.

    Raises
    ------
    DatabaseUnavailable
        The home has no name that the operating system takes, or cannot be looked into.
    """

    def __init__(
        self,
        home: Path,
        *,
        root_home: Path = ROOT_HOME,
        linger_seconds: float = 1.0,
        patience_seconds: float = 120.0,
    ) -> None:
        try:
            self.places = choose(home.resolve(), root_home.resolve())
        except OSError as error:
            # Whole, a name that is too long would hide why.
            message = f"COGMILL_HOME {str(home)[:_SHOWN]!r} cannot be used: {error.strerror}"
            raise DatabaseUnavailable(message, ELSEWHERE) from error
        self._linger_seconds = linger_seconds
        self._patience_seconds = patience_seconds

    @property
    def conninfo(self) -> str:
        """How libpq reaches the server."""
        return self.places.conninfo()

    def lease(self) -> Lease:
        """Hold the server, started when it is not running.

        Raises
        ------
        DatabaseUnavailable
            It cannot be made or started; the message says why.
        """
        with self._explained():
            descriptor = self._hold_lease()
            try:
                self._ensure()
            except BaseException:
                os.close(descriptor)
                raise
        return Lease(self, descriptor)

    def ensure_running(self) -> None:
        """Start what is gone: see `Lease.ensure_running`."""
        with self._explained():
            self.places.make_folder()
            self._ensure()

    def remove(self) -> None:
        """Stop the server and delete its data. Every job of this home is forgotten."""
        places = self.places
        if not places.folder.is_dir():
            return
        with self._explained(), self._life_lock(), self._opened(keeper.SERVER_LOCK) as server_lock:
            keeper.stop_server(server_lock, places.data)
            shutil.rmtree(places.socket_folder, ignore_errors=True)
            shutil.rmtree(places.folder)

    # Locks

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        descriptor = keeper.open_lock(self.places.folder, name)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _hold_lease(self) -> int:
        """Take the lease; the keeper has it only while it stops the server."""
        while True:
            self.places = self._find_state()
            self.places.make_folder()
            path = self.places.folder / keeper.LEASE
            try:
                descriptor = keeper.open_lock(self.places.folder, keeper.LEASE)
            except FileNotFoundError:
                # Somebody deleted or moved it since.
                continue
            try:
                self._wait_for_lock(descriptor, fcntl.LOCK_SH)
                # Nobody moves the state while we hold the lease; somebody may have before.
                there = choose(self.places.home, self.places.root_home) == self.places
                # Or deleted the folder while we waited.
                if there and keeper.is_same(descriptor, path):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _find_state(self) -> Places:
        """Look where the state lies, and bring it home where that is possible."""
        places = choose(self.places.home, self.places.root_home)
        if places.in_old_place:
            moving.bring_home(places, self._patience_seconds + 10)
        return choose(places.home, places.root_home)

    @contextlib.contextmanager
    def _life_lock(self) -> Iterator[None]:
        with self._opened(keeper.LIFE_LOCK) as life:
            self._wait_for_lock(life, fcntl.LOCK_EX)
            yield

    def _wait_for_lock(self, descriptor: int, operation: int) -> None:
        # Whoever has it may be in crash recovery, and we want to hear how that ended.
        seconds = self._patience_seconds + 10
        if not keeper.wait_until(lambda: keeper.try_lock(descriptor, operation), seconds):
            places = self.places
            message = f"another process has been starting or stopping {places.folder} for too long"
            raise DatabaseUnavailable(message, f"see {places.log}, or {ELSEWHERE}")

    # Life

    def _ensure(self) -> None:
        with self._life_lock():
            # The keeper first: were we killed in between, nobody would stop the server.
            self._ensure_keeper()
            self._ensure_server()
            moving.drop_old(self.places)

    def _ensure_keeper(self) -> None:
        with self._opened(keeper.KEEPER_LOCK) as keeper_lock:
            if not keeper.try_lock(keeper_lock):
                return
            places = self.places
            script = [sys.executable, "-I", "-S", keeper.__file__, str(places.folder)]
            script += [str(places.socket_folder), str(keeper_lock), str(self._linger_seconds)]
            self._detach(script, keeper_lock, None)

    def _ensure_server(self) -> None:
        """Look, and do what the look asks for, until the server accepts connections."""
        begun = started = time.monotonic()
        log_start: int | None = None
        while not self._is_ours(answer := self._ping()):
            waited = time.monotonic() - begun
            if answer == pq.Ping.NO_ATTEMPT:
                message = "a PG* variable keeps libpq from looking for the embedded PostgreSQL"
                raise DatabaseUnavailable(message, "unset PGSERVICE and its like")
            if waited > self._patience_seconds:
                raise self._too_slow(answer)
            if answer == pq.Ping.NO_RESPONSE:
                # Opened for every look: a lock that a server inherited from us is ours as well.
                with self._opened(keeper.SERVER_LOCK) as server_lock:
                    if not keeper.try_lock(server_lock):
                        # One that we just started has no socket yet: it gets its own time.
                        self._look_at_living_server(server_lock, time.monotonic() - started)
                    elif log_start is None:
                        log_start = self._start(server_lock)
                        started = time.monotonic()
                    else:
                        raise self._failure(self._log_since(log_start))
            time.sleep(0.02)

    def _ping(self) -> pq.Ping:
        # A frozen server takes the connection and never answers; libpq waits two seconds at least.
        seconds = max(2, min(5, int(self._patience_seconds)))
        return pq.Ping(pq.PGconn.ping(self.places.conninfo(connect_timeout=seconds).encode()))

    def _is_ours(self, answer: pq.Ping) -> bool:
        """Say whether the server that answers has our folder, and not one of that name before."""
        if answer != pq.Ping.OK:
            return False
        with self._opened(keeper.SERVER_LOCK) as server_lock:
            return not keeper.try_lock(server_lock)

    def _look_at_living_server(self, server_lock: int, waited: float) -> None:
        """Judge a server that lives and does not answer: it starts, ends, or cannot be reached."""
        places = self.places
        recorded = keeper.recorded(server_lock)
        if recorded and recorded.get("machine") != pid_namespace():
            message = f"{places.folder} is in use by another host or container"
            raise DatabaseUnavailable(message, ELSEWHERE)
        if waited > _SWEPT_SOCKET_SECONDS and not places.socket.exists():
            keeper.stop_server(server_lock, places.data)

    def _start(self, server_lock: int) -> int:
        """Start a postmaster, and return where in the log it begins. We hold the server's lock."""
        places = self.places
        installation = binaries.wheel_installation()
        if places.as_root:
            places.check_reach()
            installation = self._copied_binaries()
        self._make_data(installation)
        places.make_socket_folder()
        # We got the lock that every process of the server inherits: so none of them lives, and
        # these are left over, whatever the pid in them. PostgreSQL still checks its shared memory.
        lock_of_socket = places.socket.with_name(f"{places.socket.name}.lock")
        for leftover in (places.data / "postmaster.pid", places.socket, lock_of_socket):
            leftover.unlink(missing_ok=True)
        keeper.trim_log(places.folder)
        log_start = places.log.stat().st_size if places.log.exists() else 0
        directories = '"{}"'.format(str(places.socket_folder).replace('"', '""'))
        settings = {**SETTINGS, "unix_socket_directories": directories}
        command = [str(installation / "bin" / "postgres"), "-D", str(places.data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        os.ftruncate(server_lock, 0)
        pid = self._detach(command, server_lock, places.user)
        os.pwrite(server_lock, json.dumps({"pid": pid, "machine": pid_namespace()}).encode(), 0)
        return log_start

    def _copied_binaries(self) -> Path:
        """Return the copy of PostgreSQL's programs that root's server runs."""
        root_home = self.places.root_home
        try:
            self.places.make_open(root_home)
            return binaries.copied_installation(root_home)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            message = f"root's PostgreSQL has its programs in {root_home}: {error.strerror}"
            remedy = "mount something there that can be written to, run cogmill as an ordinary user"
            remedy += ", or set COGMILL_DATABASE_URL to a server"
            raise DatabaseUnavailable(message, remedy) from error

    def _detach(self, command: Sequence[str], inherited: int, user: ServerUser | None) -> int:
        """Run a command in a session of its own and return its pid; it inherits one descriptor."""
        switch = user if user and user.name else None
        log = os.open(self.places.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", _DETACH, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(inherited,),
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
                umask=0o077,
                user=switch.uid if switch else None,
                group=switch.gid if switch else None,
                extra_groups=[] if switch else None,
                check=True,
            )
        finally:
            os.close(log)
        return int(done.stdout)

    # The data

    def _make_data(self, installation: Path) -> None:
        """Make the cluster beside its place and rename it, so a kill half-way leaves no half."""
        places = self.places
        version = places.data / "PG_VERSION"
        self._check_room(_BYTES_TO_START if version.exists() else _BYTES_TO_MAKE)
        if version.exists():
            major = version.read_text(encoding="ascii").strip()
            if major != str(binaries.POSTGRES_MAJOR):
                message = f"{places.data} is of PostgreSQL {major}, not {binaries.POSTGRES_MAJOR}"
                raise DatabaseUnavailable(message, "move it away, or use the cogmill that made it")
            return
        binaries.check_version(installation)
        for unfinished in places.folder.glob(f"{keeper.DATA}.*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{keeper.DATA}.", dir=places.folder))
        try:
            self._initdb(installation, fresh)
            fresh.rename(places.data)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        with _folder_descriptor(places.folder) as descriptor:
            os.fsync(descriptor)

    def _initdb(self, installation: Path, data: Path) -> None:
        user = self.places.user
        user.give(data)
        command = [str(installation / "bin" / "initdb"), "-D", str(data), "--username=cogmill"]
        # The folders guard the socket; a peer check would demand a name for every uid.
        command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        command += ["--builtin-locale=C.UTF-8", "--wal-segsize=4"]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
                umask=0o077,
                user=user.uid if user.name else None,
                group=user.gid if user.name else None,
                extra_groups=[] if user.name else None,
                timeout=self._patience_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            message = f"initdb in {data} did not end within {self._patience_seconds:.0f} s"
            raise DatabaseUnavailable(message, ELSEWHERE) from error
        if done.returncode:
            raise self._failure(done.stdout.decode(errors="replace"))

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.places.folder).free
        if free < needed:
            raise self._full(f"{free // 2**20} MB free, {needed // 2**20} MB needed")

    # What is said when it goes wrong

    def _full(self, detail: str) -> DatabaseUnavailable:
        # PostgreSQL calls a piece of /dev/shm, where it lies whatever the home, a segment.
        if "shared memory segment" in detail:
            message = f"/dev/shm, the machine's or container's shared memory, is full ({detail})"
            remedy = "remove what fills it, or give a container more: docker run --shm-size=64m"
            return DatabaseUnavailable(message, remedy)
        message = f"the disk that holds {self.places.folder} is full ({detail})"
        return DatabaseUnavailable(message, "make room, or set COGMILL_HOME to another disk")

    def _log_since(self, start: int) -> str:
        with self.places.log.open("rb") as log:
            log.seek(start)
            return log.read(2**16).decode(errors="replace")

    def _failure(self, said: str) -> DatabaseUnavailable:
        """Explain a failed start or initdb by what it said."""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if full := [line for line in lines if _FULL in line]:
            return self._full(full[-1])
        reasons = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line]
        reason = (reasons or lines or ["it said nothing"])[-1]
        message = f"the embedded PostgreSQL in {self.places.folder} does not start: {reason}"
        elsewhere = moving.way_back(self.places) or ELSEWHERE
        return DatabaseUnavailable(message, f"see {self.places.log}, or {elsewhere}")

    def _too_slow(self, answer: pq.Ping) -> DatabaseUnavailable:
        recovering = "is still recovering from a crash" if answer == pq.Ping.REJECT else "is silent"
        patience = f"after {self._patience_seconds:g} s"
        message = f"the embedded PostgreSQL in {self.places.folder} {recovering} {patience}"
        return DatabaseUnavailable(message, f"try again later, or see {self.places.log}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in a sentence what the operating system refused."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._full(_FULL) from error
            message = f"the embedded PostgreSQL in {self.places.folder} cannot be used: {error}"
            raise DatabaseUnavailable(message, ELSEWHERE) from error
        except subprocess.CalledProcessError as error:
            message = f"a process cannot be started: {error}"
            raise DatabaseUnavailable(message, f"see {self.places.log}, or {ELSEWHERE}") from error


@contextlib.contextmanager
def _folder_descriptor(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
