"""SQL from files: one statement each, named as the method that runs it, in folders by noun."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType


@cache
def statement(name: str) -> bytes:
    """Return the statement of ``sql/<noun>/<name>.sql``; its parameters are written ``%(name)s``.

    Bytes, which psycopg takes without asking for a literal. Where parameters are given (an empty
    mapping too), a percent sign is written twice.
    """
    return _files()[name].read_bytes()


@cache
def _files() -> Mapping[str, Traversable]:
    """Return every statement's file by its name, which no two nouns share."""
    folders = (resources.files("cogmill.core_machine.state") / "sql").iterdir()
    files = [file for folder in folders for file in folder.iterdir()]
    return MappingProxyType({file.name.removesuffix(".sql"): file for file in files})
