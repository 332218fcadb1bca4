"""Patterns of names mean the same on every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogmill.storage.local_store import LocalStore
from cogmill.storage.location import FILE, MEMORY, Location
from cogmill.storage.matching import is_pattern, matching
from cogmill.storage.memory_store import MemoryStore
from cogmill.storage.store import Storage

NAMES = (
    "a.tif", "b.tif", "b1.tif", "c.png", ".hidden.tif", "sub/d.tif", "sub/deep/e.tif",
    "other/f.tif", "odd [x].tif",
)  # fmt: skip


@pytest.fixture(params=[FILE, MEMORY])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, Location]:
    """Give a store with the names in one folder."""
    storage = Storage({FILE: LocalStore(), MEMORY: MemoryStore()})
    text = f"{tmp_path}/in/" if request.param == FILE else "memory://host/in/"
    folder = Location.parse(text)
    for name in NAMES:
        if request.param == FILE:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        else:
            area = folder.join(".cogmill-staging/test/")
            storage.commit(storage.stage(folder.join(name), [b"x"], area))
    return storage, folder


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.tif", ["a.tif", "b.tif", "b1.tif", "odd [x].tif"]),
        ("b?.tif", ["b1.tif"]),
        ("[ac].*", ["a.tif", "c.png"]),
        ("*/*.tif", ["other/f.tif", "sub/d.tif"]),
        ("s*/deep/?.tif", ["sub/deep/e.tif"]),
        (".h*", [".hidden.tif"]),
        ("*.jpg", []),
        ("missing/*.tif", []),
        ("sub*", []),
    ],
)
def test_a_pattern_matches_objects_part_by_part(
    pattern: str, names: list[str], shelf: tuple[Storage, Location]
) -> None:
    storage, folder = shelf
    found = matching(Location.parse(f"{folder}{pattern}"), storage)
    assert [folder.relative(place) for place in found] == names


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("a*.tif", True), ("a?.tif", True), ("a[1].tif", True), ("a (1).tif", False)],
)
def test_what_a_pattern_is(text: str, is_one: bool) -> None:
    assert is_pattern(text) == is_one
