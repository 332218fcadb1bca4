"""Brings root's state into the home; earlier versions put it below ``/var/lib/cogmill``.

It is moved while nobody uses it: copied, brought to the disk, and given its name at the end, so a
kill at any moment leaves the old state in force or the new. The old one goes after the first start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cogmill.core_machine.state.embedded import keeper
from cogmill.core_machine.state.embedded.paths import Places
from cogmill.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

# In the data, so that it gets there, and goes, with what it speaks of.
_RECORD = "cogmill-moved-from"


def bring_home(old: Places, seconds: float) -> None:
    """Move state into its home where that is possible, else warn of where it stays.

    Parameters
    ----------
    old : Places
        Where it lies.
    seconds : float
        How long to wait for another process that moves, starts or stops it.
    """
    new = dataclasses.replace(old, in_old_place=False)
    try:
        new.make_folder()
        new.check_reach()
        why = _move(old, new, seconds)
    except DatabaseUnavailable as error:
        why = str(error)
    except OSError as error:
        why = f"it cannot be moved: {error}; mount the home writable and with room"
    if why:
        log.warning(
            "the state of %s lies in %s and is used there: another machine or container that "
            "shares the home does not see it: %s",
            *(old.home, old.folder, why),
        )


def _move(old: Places, new: Places, seconds: float) -> str:
    """Move under every lock of both places; return why not, if so."""
    with contextlib.ExitStack() as held:
        life, lease, server = (
            held.enter_context(_opened(old.folder, name))
            for name in (keeper.LIFE_LOCK, keeper.LEASE, keeper.SERVER_LOCK)
        )
        if not keeper.wait_until(lambda: keeper.try_lock(life), seconds):
            return "another process has been starting or stopping it for too long"
        if new.has_state or not old.has_state:
            return ""
        if not keeper.try_lock(lease):
            return "it is in use; it is moved by the first command after that"
        if not keeper.stop_server(server, old.data):
            return "its server does not stop"
        new_life = held.enter_context(_opened(new.folder, keeper.LIFE_LOCK))
        if not keeper.wait_until(lambda: keeper.try_lock(new_life), seconds):
            return f"another process has been starting or stopping {new.folder} for too long"
        if not new.has_state:
            _copy(old, new)
    return ""


def _copy(old: Places, new: Places) -> None:
    for unfinished in new.folder.glob(f"{keeper.DATA}.*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{keeper.DATA}.", dir=new.folder))
    try:
        shutil.copytree(old.data, fresh, symlinks=True, dirs_exist_ok=True)
        record = {"folder": str(old.folder), "control": _control(old)}
        (fresh / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        for folder, _, files in os.walk(fresh, topdown=False):
            for path in (*(Path(folder, name) for name in files), Path(folder)):
                new.user.give(path)
                if not path.is_symlink():
                    _sync(path)
        fresh.rename(new.data)
        _sync(new.folder)
        for made in new.folder.parents:
            with contextlib.suppress(OSError):
                _sync(made)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    log.warning("the state of %s was moved from %s to %s", new.home, old.folder, new.folder)


def drop_old(places: Places) -> None:
    """Remove the old state, once what was moved has started; call it under the life lock.

    Old state that somebody has used since, an older cogmill, is kept and named.
    """
    record = places.data / _RECORD
    old = dataclasses.replace(places, in_old_place=True)
    if not places.as_root or places.in_old_place or not (record.exists() or old.has_state):
        return
    going = old.folder.with_name(f".{old.folder.name}.moved")
    if old.has_state:
        if not record.exists() or json.loads(record.read_text())["control"] != _control(old):
            _name_unused(old, places)
            return
        with (
            _opened(old.folder, keeper.LIFE_LOCK) as life,
            _opened(old.folder, keeper.LEASE) as lease,
        ):
            if not (keeper.try_lock(life) and keeper.try_lock(lease)):
                return
            # Whatever kills us, the old state is either whole in its place or out of the way.
            old.folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)
    if going.exists():
        log.warning("%s, which was moved from there, could not be removed", going)
        return
    record.unlink()


def way_back(places: Places) -> str:
    """Return what to do when state that was moved does not start in the home; empty if none was."""
    old = dataclasses.replace(places, in_old_place=True)
    if not (places.data / _RECORD).exists() or not old.has_state:
        return ""
    return (
        f"the state is kept in {old.folder}: run mv {shlex.quote(str(old.folder))} DIR/postgres "
        "with a DIR on a local disk, and set COGMILL_HOME=DIR"
    )


def _name_unused(old: Places, new: Places) -> None:
    log.warning(
        "other state of %s lies in %s and is not used, for there is some in %s; remove it, or, "
        "to go on with it, move %s away",
        *(old.home, old.folder, new.folder, new.folder),
    )


def _control(places: Places) -> str:
    """Return a digest that every start of a server changes."""
    return hashlib.sha256((places.data / "global" / "pg_control").read_bytes()).hexdigest()


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[int]:
    descriptor = keeper.open_lock(folder, name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
