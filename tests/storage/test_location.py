"""A location is one absolute, normalised text, whatever characters its names hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from cogmill.errors import Refused
from cogmill.storage.location import Location
from cogmill.storage.staging import StagedObject, demand_area, staging_area

names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
collections = st.builds(
    lambda root, path: Location.parse(root + path + "/"),
    st.sampled_from(["/", "memory://"]),
    paths,
)


def where(text: str) -> str:
    return str(Location.parse(text, base="/base/folder"))


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("/data/a.tif", "/data/a.tif"),
        ("a.tif", "/base/folder/a.tif"),
        ("../a.tif", "/base/a.tif"),
        ("./tiles/", "/base/folder/tiles/"),
        ("//data///a.tif", "/data/a.tif"),
        ("/data/x/../y/./a.tif", "/data/y/a.tif"),
        ("/../../a.tif", "/a.tif"),
        (".", "/base/folder/"),
        ("..", "/base/"),
        ("/data/.", "/data/"),
        ("/", "/"),
        ("~/a.tif", "/base/folder/~/a.tif"),
        ("a b%20#1?.tif", "/base/folder/a b%20#1?.tif"),
        ("höhe/地形.tif", "/base/folder/höhe/地形.tif"),
        ("memory://bucket/x/../a.tif", "memory://bucket/a.tif"),
        ("MEMORY://Bucket/A.tif", "memory://Bucket/A.tif"),
        ("memory://", "memory://"),
    ],
)
def test_what_a_person_types_becomes_one_absolute_text(typed, means):
    assert where(typed) == means
    assert where(means) == means


def test_a_relative_path_begins_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(Location.parse("a.tif")) == f"{tmp_path}/a.tif"


@pytest.mark.parametrize(
    "typed", ["", "a\0b", "\udcff.tif", "https://host/a.tif", "gopher://host/a.tif"]
)
def test_a_text_that_names_no_place_is_refused_with_a_remedy(typed):
    with pytest.raises(Refused) as caught:
        where(typed)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("/vsizip/a.zip/b.tif", "gdal_translate '/vsizip/a.zip/b.tif' INPUT.tif"),
        ("/vsicurl/https://host/a.tif", "gdal_translate '/vsicurl/https://host/a.tif' INPUT.tif"),
        ('NETCDF:"a.nc":t', "gdal_translate 'NETCDF:\"a.nc\":t' INPUT.tif"),
        ("GTIFF_DIR:2:/data/a.tif", "give /data/a.tif and --page 2"),
    ],
)
def test_a_name_that_gdal_alone_understands_is_refused_with_what_to_do(typed, remedy):
    with pytest.raises(Refused, match=re.escape(typed)) as caught:
        where(typed)
    assert caught.value.remedy.endswith(remedy)


def test_a_relative_path_in_a_folder_that_is_gone_is_refused(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(Refused, match="current folder"):
        Location.parse("a.tif")
    assert str(Location.parse("/a.tif")) == "/a.tif"


@pytest.mark.parametrize("stored", ["a.tif", "/a/../b", "/a//b", "//a", ""])
def test_a_stored_text_that_was_never_normalised_is_an_error(stored):
    with pytest.raises(ValidationError):
        Location(stored)


@pytest.mark.parametrize(
    ("text", "name", "stem", "parent", "collection"),
    [
        ("/data/a.b.tif", "a.b.tif", "a.b", "/data/", False),
        ("/data/tiles/", "tiles", "tiles", "/data/", True),
        ("/a", "a", "a", "/", False),
        ("/", "", "", "/", True),
        ("memory://bucket/a.tif", "a.tif", "a", "memory://bucket/", False),
        ("memory://bucket/", "bucket", "bucket", "memory://", True),
    ],
)
def test_the_parts_of_a_location(text, name, stem, parent, collection):
    location = Location(text)
    assert (location.name, location.stem) == (name, stem)
    assert str(location.parent) == parent
    assert location.is_collection is collection


@pytest.mark.parametrize(
    ("text", "one"),
    [("/a.tif", True), ("/A.TIFF", True), ("/a.tif/", False), ("/a", False), ("/a.tif.d", False)],
)
def test_a_destination_that_ends_in_tif_is_one_cog(text, one):
    assert Location(text).is_one_cog is one


@pytest.mark.parametrize(
    ("outer", "inner", "inside"),
    [
        ("/data/", "/data/a.tif", True),
        ("/data/", "/data/x/y/", True),
        ("/data/", "/data/", True),
        ("/data/", "/data", True),
        ("/data/", "/database/a.tif", False),
        ("/data/x/", "/data/a.tif", False),
        ("/data/a.tif", "/data/a.tif", True),
        ("/data/a.tif", "/data/b.tif", False),
        ("/", "/data/a.tif", True),
        ("/", "memory://data/a.tif", False),
        ("memory://a/", "memory://a/b.tif", True),
    ],
)
def test_what_lies_in_a_destination_is_told_apart_from_what_is_beside_it(outer, inner, inside):
    assert Location(outer).contains(Location(inner)) is inside


@pytest.mark.parametrize("name", ["", ".", "..", "../b", "x/../../b", "/etc/passwd", "a\0b"])
def test_no_name_leads_out_of_its_collection(name):
    with pytest.raises(Refused):
        Location("/data/").join(name)


def test_nothing_is_joined_to_an_object():
    with pytest.raises(Refused, match="slash"):
        Location("/data/a.tif").join("b")


def test_locations_sort_as_their_texts_and_are_keys():
    unsorted = [Location("/b"), Location("/a/c"), Location("/a.tif")]
    assert [str(each) for each in sorted(unsorted)] == ["/a.tif", "/a/c", "/b"]
    assert {Location("/a"): 1}[Location.parse("/x/../a")] == 1


def test_a_location_in_a_model_is_its_text():
    class Model(BaseModel):
        where: Location

    made = Model(where=Location("/a b"))
    assert made.model_dump_json() == '{"where":"/a b"}'
    assert Model.model_validate_json(made.model_dump_json()) == made


@given(collections, paths)
def test_join_and_relative_are_inverse_for_any_names(collection, path):
    joined = collection.join(path)
    assert collection.relative(joined) == path
    assert collection.contains(joined)
    assert not joined.contains(collection)


@given(collections)
def test_a_normalised_text_means_itself(collection):
    assert Location.parse(str(collection)) == collection
    assert collection.parent.join(collection.name).as_collection() == collection


def test_the_area_of_a_lineage_lies_hidden_in_its_folder():
    area = staging_area(Location("/data/out"), "abc")
    assert str(area) == "/data/out/.cogmill-abc/"
    demand_area(area)
    demand_area(area.join("pieces/"))
    for wrong in ("/data/out/", "/data/.cogmill-abc"):
        with pytest.raises(Refused):
            demand_area(Location(wrong))


def test_a_staged_object_is_plain_data_and_nothing_else():
    with pytest.raises(ValidationError):
        StagedObject(final=Location("/a"), handle="h", size=-1, sha256="0" * 64)
    with pytest.raises(ValidationError):
        StagedObject(final=Location("/a"), handle="h", size=1, sha256="short")
