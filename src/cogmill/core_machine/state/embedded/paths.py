"""Where the embedded server lies, who runs it, and how it is reached."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from psycopg import conninfo, pq

from cogmill.core_machine.state.embedded import keeper
from cogmill.core_machine.state.embedded.server_user import ServerUser, server_user
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
class Places:
    """Paths of one embedded server, absolute and without symbolic links.

    Parameters
    ----------
    home : Path
        ``COGMILL_HOME``.
    root_home : Path
        Where the binaries of root's servers lie.
    in_old_place : bool
        True for root's state that lies below `root_home`, where earlier versions put it.
    """

    home: Path
    root_home: Path
    in_old_place: bool = False

    @property
    def as_root(self) -> bool:
        """True when we are root, which PostgreSQL refuses to run as."""
        return os.geteuid() == 0

    @property
    def folder(self) -> Path:
        """Locks, log, data and (path permitting) socket.

        It is its maker's; only the data and the socket in it belong to the server's user, who
        could else put links in the place of the files that root opens.
        """
        return self.old_folder if self.in_old_place else self.home / "postgres"

    @property
    def old_folder(self) -> Path:
        """Where earlier versions put the state of root's homes, the default one apart."""
        return self.root_home / _name_of(self.home)

    @property
    def has_state(self) -> bool:
        """True when a whole cluster lies there; it gets its name when it is whole."""
        return (self.data / "PG_VERSION").exists()

    @property
    def owner(self) -> int | None:
        """The uid of who made the folder, None when there is none."""
        try:
            return self.folder.lstat().st_uid
        except OSError:
            return None

    @property
    def is_foreign(self) -> bool:
        """True when another user's server lies there."""
        # Root's files are nobody's where the file system squashes root.
        ours = {0, self.user.uid} if self.as_root else {os.geteuid()}
        return self.owner is not None and self.owner not in ours

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
        return server_user()

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
        """Make `folder`, and what it lies in. No folder that exists is changed.

        Raises
        ------
        DatabaseUnavailable
            It is another user's, or the server's user could not use it: nothing is left of it.
        """
        if self.is_foreign:
            message = f"{self.folder} belongs to the user with the uid {self.owner}"
            raise DatabaseUnavailable(message, f"run cogmill as that user, or {ELSEWHERE}")
        # The old place is used while it is there, and made no more.
        if self.folder.is_dir() or self.in_old_place:
            return
        if not self.as_root:
            self.home.mkdir(parents=True, exist_ok=True)
            _make(self.folder, 0o700)
            return
        self.check_reach()
        self.make_open(self.home)
        _make(self.folder, 0o711)
        try:
            self.user.check_ownership(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            message = f"nothing in {self.home} can be given to {self.user.name}: {error.strerror}"
            raise DatabaseUnavailable(message, self._elsewhere()) from error

    def make_open(self, folder: Path) -> None:
        """Make a folder, and those that it lies in, so that every user may pass them."""
        for place in (*reversed(folder.parents), folder):
            if not place.is_dir():
                _make(place, 0o755)

    def check_reach(self) -> None:
        """Refuse data or binaries that the server's user could not get to."""
        needed = [_nearest(self.folder), _nearest(self.root_home)]
        if closed := [place for folder in needed for place in self.user.closed(folder)]:
            closed = list(dict.fromkeys(closed))
            message = f"{closed[0]} does not let the user {self.user.name} pass, and as root "
            message += f"PostgreSQL runs as that user, with its data in {self.folder} "
            message += f"and its binaries in {self.root_home}"
            remedy = f"run chmod o+x {shlex.join(map(str, closed))}, or {self._elsewhere()}"
            raise DatabaseUnavailable(message, remedy)

    def _elsewhere(self) -> str:
        """Name a home that works for root, and is no other home's."""
        if self.user.closed(_nearest(self.root_home)):
            return "set COGMILL_HOME to a folder that every user may pass, or COGMILL_DATABASE_URL"
        found = self.root_home / "homes" / _name_of(self.home)
        return f"set COGMILL_HOME={found}, or COGMILL_DATABASE_URL to a server"

    def make_socket_folder(self) -> None:
        """Make `socket_folder`; refuse one that others may enter or that somebody else made."""
        user = self.user
        with contextlib.suppress(FileExistsError):
            self.socket_folder.mkdir(mode=0o700)
            user.give(self.socket_folder)
        found = self.socket_folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
        if not private or found.st_uid != user.uid:
            message = f"{self.socket_folder} is not a private folder of the server's user"
            raise DatabaseUnavailable(message, "remove it, or set COGMILL_HOME to a short path")


def choose(home: Path, root_home: Path) -> Places:
    """Return where the state of a home lies: in it, unless only root's old place has some."""
    places = Places(home, root_home)
    if places.as_root and (places.is_foreign or not places.has_state):
        old = dataclasses.replace(places, in_old_place=True)
        if old.has_state:
            return old
    return places


def pid_namespace() -> str:
    """Return what a pid counts on: this boot of this kernel and this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _nearest(folder: Path) -> Path:
    """Return the folder, or what it would be made in."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _name_of(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _make(folder: Path, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=mode)
        # The umask may have taken more than we want; this folder is ours.
        folder.chmod(mode)
