"""The child that looks at the inputs of many submits: starting one is most of a submit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cogmill import runtime
from cogmill.core_machine.child.process import SpareChildren
from cogmill.settings import Settings


@pytest.fixture(scope="session")
def preflights() -> Iterator[SpareChildren]:
    """Keep a child for preflights."""
    children = SpareChildren(lambda: runtime.spawn(Settings()))
    yield children
    children.close()
