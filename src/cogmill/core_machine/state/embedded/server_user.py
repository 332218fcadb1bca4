"""Who runs the server, and which folders this user can pass; root's server runs as ``nobody``."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cogmill.errors import DatabaseUnavailable

_ORDINARY = "set COGMILL_DATABASE_URL to a server, or run cogmill as an ordinary user"
# The kernel looks for the right to search a folder before it follows the dot.
_ENTERS = "[ -e ./. ]"
_REACHES = '[ -e "$0/." ]'


@dataclass(frozen=True)
class ServerUser:
    """Who runs the server: whoever uses it, but ``nobody`` where that is root."""

    uid: int
    gid: int
    name: str | None
    """None means the user that we are: nothing to switch."""

    def closed(self, folder: Path) -> list[Path]:
        """Return what of a folder and those above it this user cannot pass, found by trying.

        Modes alone do not tell: lists of access, and file systems that squash root, have their say.

        Raises
        ------
        DatabaseUnavailable
            We cannot become this user, as in a container without root's rights.
        """
        if self.name is None or self._can(_REACHES, Path("/"), str(folder)):
            return []
        # Only now each by itself: every trial is a process.
        return [
            place for place in (*reversed(folder.parents), folder) if not self._can(_ENTERS, place)
        ]

    def check_ownership(self, folder: Path) -> None:
        """Give a folder that is made in `folder` to this user, and remove it again.

        Raises
        ------
        OSError
            The file system gives nothing away, as NFS with root_squash.
        """
        if self.name is not None:
            with tempfile.TemporaryDirectory(prefix="owner.", dir=folder) as probe:
                self.give(Path(probe))

    def give(self, path: Path) -> None:
        """Make this user the owner of what we made."""
        if self.name is not None and path.lstat().st_uid != self.uid:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def _can(self, script: str, folder: Path, *arguments: str) -> bool:
        """Whether a script of the shell succeeds, run by this user in a folder."""
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", script, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin"},
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                check=False,
            )
        except PermissionError as error:
            if error.filename == str(folder):
                # Not even we get in, as where the file system squashes root.
                return False
            raise _no_switch(self.name, error) from error
        except (OSError, subprocess.SubprocessError) as error:
            raise _no_switch(self.name, error) from error
        return done.returncode == 0


def _no_switch(name: str | None, error: Exception) -> DatabaseUnavailable:
    message = f"PostgreSQL refuses to run as root, and nothing can be run as {name} here: {error}"
    return DatabaseUnavailable(message, _ORDINARY)


def server_user() -> ServerUser:
    """Return who runs our servers.

    Raises
    ------
    DatabaseUnavailable
        We are root, and there is no ``nobody``.
    """
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), None)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        message = "there is no user nobody, and PostgreSQL refuses to run as root"
        raise DatabaseUnavailable(message, _ORDINARY) from error
    return ServerUser(nobody.pw_uid, nobody.pw_gid, "nobody")
