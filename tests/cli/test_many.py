"""Many sources: which output each becomes, and what is refused before anything is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cogmill.cli import many
from cogmill.cli.asking import Asked
from cogmill.errors import Refused
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.storage.local_store import LocalStore
from cogmill.storage.location import FILE
from cogmill.storage.store import Storage


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("in/a.tif", "in/b.tif", "in/odd[1].tif", "else/a.tiff", "out/keep.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wanted(*sources: str, to: str, **options: Any) -> Any:
    asked = Asked(
        sources=sources, destination=to, options=options, overwrite=False, force=False, priority=0
    )
    return many.wanted(asked, Storage({FILE: LocalStore()}))


def pairs(folder: Path, *sources: str, to: str = "out/") -> list[tuple[str, str]]:
    found = wanted(*sources, to=to)
    root = f"{folder}/"
    return [
        (str(each.source).removeprefix(root), str(each.target).removeprefix(root)) for each in found
    ]


def test_a_pattern_becomes_one_cog_a_file(folder: Path) -> None:
    assert pairs(folder, "in/?.tif") == [("in/a.tif", "out/a.tif"), ("in/b.tif", "out/b.tif")]


def test_a_pattern_that_matches_one_file_becomes_one_cog_too(folder: Path) -> None:
    assert pairs(folder, "in/a*") == [("in/a.tif", "out/a.tif")]


def test_several_sources_and_patterns_keep_their_order(folder: Path) -> None:
    assert pairs(folder, "in/b.tif", "else/*", "in/odd[1].tif", to="new/") == [
        ("in/b.tif", "new/b.tif"),
        ("else/a.tiff", "new/a.tif"),
        ("in/odd[1].tif", "new/odd[1].tif"),
    ]


@pytest.mark.parametrize("source", ["in/a.tif", "in/odd[1].tif"])
def test_one_source_is_one_job_to_the_destination_as_it_is(folder: Path, source: str) -> None:
    found = wanted(source, to="out/")
    assert isinstance(found, Inputs)
    assert str(found.target) == f"{folder}/out/"


@pytest.mark.parametrize(
    ("sources", "to", "words"),
    [
        (("in/a.tif", "in/b.tif"), "out", "2 sources cannot all become out"),
        (("in/a.tif", "in/b.tif"), "out.tif", "2 sources cannot all become out.tif"),
        (("in/a.tif", "else/a.tiff"), "out/", "would both become"),
        (("in/a.tif", "in/../in/a.tif"), "out/", "would both become"),
        (("in/a.tif", "in/b.tif"), "in/", "in/a.tif is a source itself"),
        (("in/a.tif", "in/b.tif"), "in/a.tif/", "in/a.tif is a file"),
        (("in/*.png",), "out/", "no file matches in/*.png"),
        (("in/a.tif", "s3://bucket/*.tif"), "out/", "no store answers to s3://"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    folder: Path, sources: tuple[str, ...], to: str, words: str
) -> None:
    with pytest.raises(Refused) as refusal:
        wanted(*sources, to=to)
    assert words in refusal.value.message
    assert refusal.value.remedy


def test_an_output_that_is_a_source_by_another_name_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "in")
    with pytest.raises(Refused, match="is a source itself"):
        wanted("in/a.tif", "in/b.tif", to="link/")
