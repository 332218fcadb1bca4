"""The keeper of the embedded server: waits until nobody uses the server, then stops it.

It runs detached, in a session of its own, as a plain script in an isolated interpreter (``-I -S``),
so it imports the standard library only and depends on no environment. What it shares with
``server.py`` (the names of the lock files, how a lock is tried, how a server is stopped) lives
here for that reason.

Four files, all beside the server's data, are locked with ``flock``; the kernel drops a lock at any
death of its holder. None of them is ever replaced, for a lock belongs to the file and not the name.

==============  =============================================================================
``lease``       shared by every user; the keeper gets it exclusively once there is no user
``life.lock``   exclusive, for as long as somebody starts or stops the server
``keeper.lock`` exclusive, by the one keeper, from before it is spawned until it is done
``server.lock`` exclusive, inherited by every process of the server, so it tells whether one lives
==============  =============================================================================
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

LEASE = "lease"
LIFE_LOCK = "life.lock"
KEEPER_LOCK = "keeper.lock"
SERVER_LOCK = "server.lock"
LOG = "server.log"
DATA = "data"

LOG_BYTES = 4 * 2**20
_LOOK_SECONDS = 2.0
_LOOKS_PER_LOG = 30
_FAST_SECONDS = 30.0
_IMMEDIATE_SECONDS = 5.0


def open_lock(folder: Path, name: str) -> int:
    """Open a lock file, made when missing, as a descriptor that no child inherits."""
    return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Take a lock when it is free; True means taken."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look every few milliseconds whether the condition holds; False after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def is_postmaster(pid: int, data: Path) -> bool:
    """Say whether a process is the postmaster of that data folder, and no later owner of its pid.

    The command line tells: backends overwrite theirs with a title, zombies have none. Where there
    is no ``/proc`` (macOS) the pid has to do.
    """
    if pid <= 1:
        return False
    if not os.path.isdir("/proc/self"):
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"postgres") and os.fsencode(data) in words


def recorded(server_lock: int) -> dict[str, object]:
    """Return what the starter wrote into ``server.lock``: pid, and the host that it counts on."""
    try:
        content = json.loads(os.pread(server_lock, 4096, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def postmaster(server_lock: int, data: Path) -> int | None:
    """Return the pid of the living postmaster, None when there is none."""
    candidates = [recorded(server_lock).get("pid")]
    # The starter may have been killed before it wrote the pid down; PostgreSQL writes it as well.
    # Where the folder was deleted and made again, what lies there is of another server.
    if is_same(server_lock, data.parent / SERVER_LOCK):
        with contextlib.suppress(OSError, ValueError):
            candidates.append(int((data / "postmaster.pid").read_bytes().split(b"\n", 1)[0]))
    for pid in candidates:
        if isinstance(pid, int) and is_postmaster(pid, data):
            return pid
    return None


def stop_server(server_lock: int, data: Path) -> bool:
    """Stop the server: fast, then immediate, then by force. Call it under ``life.lock``.

    Returns
    -------
    bool
        True when no process of the server lives any more.
    """
    steps = (
        (signal.SIGINT, _FAST_SECONDS),
        (signal.SIGQUIT, _IMMEDIATE_SECONDS),
        (signal.SIGKILL, _IMMEDIATE_SECONDS),
    )
    for how, seconds in steps:
        if try_lock(server_lock):
            fcntl.flock(server_lock, fcntl.LOCK_UN)
            return True
        pid = postmaster(server_lock, data)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        wait_until(lambda: try_lock(server_lock), seconds)
    gone = try_lock(server_lock)
    fcntl.flock(server_lock, fcntl.LOCK_UN)
    return gone


def trim_log(folder: Path) -> None:
    """Keep the server's log bounded: one old half beside the current one.

    The server appends, so the file can be cut to nothing under it.
    """
    log = folder / LOG
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_BYTES:
            with log.open("rb") as stream:
                stream.seek(-LOG_BYTES, os.SEEK_END)
                (folder / f"{LOG}.1").write_bytes(stream.read())
            os.truncate(log, 0)


class FolderDeletedError(Exception):
    """The folder that is kept is gone, whoever still uses its server."""


def is_same(descriptor: int, path: Path) -> bool:
    """Say whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # A disk that does not answer has lost nothing yet.
        return True


def wait_for_last_user(lease: int, life: int, linger_seconds: float) -> None:
    """Wait until nobody uses the server; then hold both locks."""
    while True:
        fcntl.flock(lease, fcntl.LOCK_EX)
        # Nobody waits for the linger: the next user gets in at once.
        fcntl.flock(lease, fcntl.LOCK_UN)
        time.sleep(linger_seconds)
        fcntl.flock(life, fcntl.LOCK_EX)
        if try_lock(lease):
            return
        fcntl.flock(life, fcntl.LOCK_UN)


def remove_socket_folder(folder: Path, socket_folder: Path) -> None:
    """Remove what the next start makes anew; under ``/tmp`` it would outlive a deleted home."""
    if folder.exists():
        with contextlib.suppress(OSError):
            socket_folder.rmdir()
        return
    # A server that lost its data ends without tidying up.
    with contextlib.suppress(OSError):
        for left in socket_folder.glob(".s.PGSQL.*"):
            left.unlink()
        socket_folder.rmdir()


def keep(folder: Path, socket_folder: Path, keeper_lock: int, linger_seconds: float) -> None:
    """Wait for the last user to go, or the folder, linger, stop the server, let go.

    Every file is opened first, so the server is stopped even when its folder was deleted meanwhile.
    """
    lease, life, server = (open_lock(folder, name) for name in (LEASE, LIFE_LOCK, SERVER_LOCK))
    looks, missing, waiting = 0, 0, True

    def look(_number: int, _frame: FrameType | None) -> None:
        nonlocal looks, missing, waiting
        looks += 1
        if looks % _LOOKS_PER_LOG == 0:
            trim_log(folder)
        missing = 0 if is_same(lease, folder / LEASE) else missing + 1
        # The second look: what is just being deleted is left in peace until it is.
        if waiting and missing > 1:
            waiting = False
            raise FolderDeletedError

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    try:
        wait_for_last_user(lease, life, linger_seconds)
        waiting = False
    except FolderDeletedError:
        # Whoever starts the server right now fails as well; nobody else can come any more.
        wait_until(lambda: try_lock(life), _IMMEDIATE_SECONDS)
    stop_server(server, folder / DATA)
    remove_socket_folder(folder, socket_folder)
    # In this order: whoever gets in next has to find that there is no keeper any more.
    for descriptor in (server, keeper_lock, lease, life):
        os.close(descriptor)


def main(arguments: list[str]) -> None:
    """Run the keeper: folder, that of the socket, descriptor of its lock, seconds to linger."""
    folder, socket_folder = Path(arguments[0]), Path(arguments[1])
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    keep(folder, socket_folder, int(arguments[2]), float(arguments[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
