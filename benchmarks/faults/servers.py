"""The servers that systems keep their state in: cogmill's embedded PostgreSQL, and Redis."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psycopg
from benchmarks.faults import leash
from benchmarks.faults.pace import RESTART
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cogmill.core_machine.state.embedded.server import EmbeddedServer

_REDIS_START_SECONDS = 20.0
_TEMPLATE = "prepared"


class Missing(Exception):
    """One sentence: what is missing, and how to get it."""


class Server(Protocol):
    """One server for one system."""

    version: str

    def fresh(self, prepare: Callable[[str], object]) -> str:
        """Return the address of a place that is as `prepare` makes an empty one."""
        ...

    def crash(self) -> None:
        """Kill it, let it stay away for a while, and start it again."""
        ...

    def close(self) -> None:
        """End it and remove its files."""
        ...


class PostgresServer:
    """A server of its own a system, so that a restart meets nobody else; a database a trial."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedServer(folder / "home", root_home=folder / "root")
        self._lease = self._server.lease()
        self._made = 0
        with self._administer() as conn:
            self.version = f"PostgreSQL {conn.info.server_version // 10000}"

    def fresh(self, prepare: Callable[[str], object]) -> str:
        """Give a copy of a database that was prepared once."""
        if self._made == 0:
            self._create(sql.SQL("CREATE DATABASE {}"), _TEMPLATE)
            prepare(self._address(_TEMPLATE))
        self._made += 1
        name = f"trial_{self._made}"
        # By file, since a copy by WAL takes a sequence's unlogged head start along, and the
        # sequence steps back when the copy's server is killed (seen with PostgreSQL 18).
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._create(copy, name, _TEMPLATE)
        return self._address(name)

    def _create(self, statement: sql.SQL, *names: str) -> None:
        with self._administer() as conn:
            # Whoever prepared the template may have kept a connection to it.
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                (_TEMPLATE,),
            )
            conn.execute(statement.format(*map(sql.Identifier, names)))

    def _address(self, name: str) -> str:
        parts = conninfo_to_dict(self._lease.conninfo)
        return make_conninfo(
            "", **{key: parts[key] for key in ("host", "port", "user")}, dbname=name
        )

    def crash(self) -> None:
        """SIGKILL the postmaster."""
        with self._administer() as conn:
            row = conn.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
        assert row is not None
        os.kill(int(row[0].split()[0]), signal.SIGKILL)
        time.sleep(RESTART)
        self._lease.ensure_running()

    def close(self) -> None:
        """Stop it and remove its data."""
        self._lease.close()
        self._server.remove()

    def _administer(self) -> psycopg.Connection:
        return psycopg.connect(self._lease.conninfo, autocommit=True)


class RedisServer:
    """Debian's redis-server on a socket, no TCP."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise Missing(
                "redis-server is missing; install it with: apt-get install redis-server"
                " (or leave Celery out with --systems)"
            )
        self._folder = folder
        self._program = program
        self._socket = folder / "redis.sock"
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        self.version = "Redis " + said.stdout.partition("v=")[2].split()[0]
        self._process = self._start()

    def fresh(self, prepare: Callable[[str], object]) -> str:
        """Give the one address; to prepare is to empty it."""
        prepare(str(self._socket))
        return str(self._socket)

    def crash(self) -> None:
        """SIGKILL it."""
        self._process.kill()
        self._process.wait()
        time.sleep(RESTART)
        self._process = self._start()

    def close(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self._socket.unlink(missing_ok=True)
        process = subprocess.Popen(
            [
                *(*leash.COMMAND, self._program),
                *("--port", "0", "--unixsocket", str(self._socket)),
                *("--dir", str(self._folder), "--daemonize", "no", "--save", ""),
                # Redis, Persistence: an append-only file, synced always, is its most durable way.
                *("--appendonly", "yes", "--appendfsync", "always"),
                # Celery, Redis, Key eviction: no key may be evicted.
                *("--maxmemory-policy", "noeviction"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _REDIS_START_SECONDS
        while not self._socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                raise Missing("redis-server does not start; run it by hand to see why")
            time.sleep(0.02)
        return process
