"""Where the embedded server lies, who runs it, and how it is reached."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from psycopg import conninfo, pq

from cogmill.core_machine.state.embedded import keeper
from cogmill.errors import DatabaseUnavailable

ROOT_HOME = Path("/var/lib/cogmill")
ELSEWHERE = "set COGMILL_DATABASE_URL to a server, or COGMILL_HOME to a folder on a local disk"

_PORT = 5432
_SOCKET = f".s.PGSQL.{_PORT}"
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included.
_SOCKET_PATH_BYTES = 103

# What PG* variables could otherwise add; older libpqs do not know all of it.
_PLAINLY = {
    "hostaddr": "",
    "options": "",
    "client_encoding": "UTF8",
    "sslmode": "disable",
    "sslnegotiation": "postgres",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "requirepeer": "",
    "require_auth": "",
    "load_balance_hosts": "disable",
    "target_session_attrs": "any",
}


@dataclass(frozen=True)
class ServerUser:
    """Who runs the server: whoever uses it, but ``nobody`` where that is root."""

    uid: int
    gid: int
    name: str | None
    """None means the user that we are: nothing to switch."""


@dataclass(frozen=True)
class Places:
    """Paths of one embedded server, absolute and without symbolic links.

    Parameters
    ----------
    home : Path
        ``COGMILL_HOME``.
    root_home : Path
        Where root's servers lie.
    """

    home: Path
    root_home: Path

    @property
    def as_root(self) -> bool:
        """True when we are root, which PostgreSQL refuses to run as."""
        return os.geteuid() == 0

    @property
    def folder(self) -> Path:
        """Locks, log, data and (path permitting) socket.

        An ordinary user's lies in the home. Root's lies by a hash of the home, for the server's
        user could not get into a home at 0700, and its mode is not ours to change.
        """
        if not self.as_root:
            return self.home / "postgres"
        if self.home == self.root_home:
            return self.root_home / "postgres"
        return self.root_home / _name_of(self.home)

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.folder / keeper.DATA

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / keeper.LOG

    @property
    def socket_folder(self) -> Path:
        """Beside the data; under ``/tmp`` where that path is too long or libpq would split it."""
        beside = self.folder / "socket"
        plain = re.fullmatch(r"[\w./-]+", str(beside), re.ASCII)
        if plain and len(str(beside / _SOCKET)) <= _SOCKET_PATH_BYTES:
            return beside
        return Path("/tmp") / f"cogmill-{self.user.uid}-{_name_of(self.folder)}"

    @property
    def socket(self) -> Path:
        """The socket itself."""
        return self.socket_folder / _SOCKET

    @property
    def user(self) -> ServerUser:
        """Who runs the server."""
        if not self.as_root:
            return ServerUser(os.geteuid(), os.getegid(), None)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as error:
            message = "there is no user nobody, and PostgreSQL refuses to run as root"
            raise DatabaseUnavailable(message, ELSEWHERE) from error
        return ServerUser(nobody.pw_uid, nobody.pw_gid, "nobody")

    def conninfo(self, connect_timeout: int = 10) -> str:
        """Return how libpq reaches the server; nothing of it is left to ``PG*`` variables."""
        given: dict[str, str | int] = {
            "host": str(self.socket_folder),
            "port": _PORT,
            "dbname": "postgres",
            "user": "cogmill",
            "connect_timeout": connect_timeout,
        }
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        given |= {name: value for name, value in _PLAINLY.items() if name in known}
        return conninfo.make_conninfo("", **given)

    def make_folder(self) -> None:
        """Make `folder`, and what it lies in. No folder that exists is changed."""
        if self.folder.is_dir():
            return
        if not self.as_root:
            self.home.mkdir(parents=True, exist_ok=True)
            _make(self.folder, 0o700)
            return
        if not self.root_home.is_dir():
            self.root_home.parent.mkdir(parents=True, exist_ok=True)
            _make(self.root_home, 0o755)
        for place in (self.root_home, *self.root_home.parents):
            if not place.stat().st_mode & stat.S_IXOTH:
                message = f"{place} lets no other user in, and PostgreSQL refuses to run as root"
                raise DatabaseUnavailable(message, f"run chmod o+x {place}, or {ELSEWHERE}")
        _make(self.folder, 0o711)
        # For the person who wonders what this hash is.
        (self.folder / "home").write_bytes(os.fsencode(self.home) + b"\n")

    def make_socket_folder(self) -> None:
        """Make `socket_folder`; refuse one that others may enter or that somebody else made."""
        user = self.user
        with contextlib.suppress(FileExistsError):
            self.socket_folder.mkdir(mode=0o700)
            os.chown(self.socket_folder, user.uid, user.gid)
        found = self.socket_folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
        if not private or found.st_uid != user.uid:
            message = f"{self.socket_folder} is not a private folder of the server's user"
            raise DatabaseUnavailable(message, "remove it, or set COGMILL_HOME to a short path")


def pid_namespace() -> str:
    """Return what a pid counts on: this boot of this kernel and this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _name_of(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _make(folder: Path, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=mode)
        # The umask may have taken more than we want; this folder is ours.
        folder.chmod(mode)
