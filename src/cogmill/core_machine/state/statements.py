"""SQL from files: one statement each, named as the method that runs it."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def statement(name: str) -> bytes:
    """Return the statement of ``sql/<name>.sql``; its parameters are written ``%(name)s``.

    Bytes, which psycopg takes without asking for a literal. Where parameters are given (an empty
    mapping too), a percent sign is written twice.
    """
    file = resources.files("cogmill.core_machine.state") / "sql" / f"{name}.sql"
    return file.read_bytes()
