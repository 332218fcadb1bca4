"""What every store promises. A backend passes all of it, or it is no store of cogmill.

A new backend adds one subclass of `Backend` to `BACKENDS`.
"""

from __future__ import annotations

import hashlib
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cogmill.errors import CogmillError, PermanentError, Refused, StorageUnavailable
from cogmill.storage.local_store import LocalStore
from cogmill.storage.location import Location
from cogmill.storage.memory_store import MemoryStore
from cogmill.storage.staging import StagedObject, staging_area
from cogmill.storage.store import ObjectMissing, StagedBytesLost, Storage, Store

AWKWARD_NAMES = ["plain.tif", "a b.tif", "50%25.tif", "x#y?z&.tif", "höhe-地形.tif", "deep/t.tif"]
CHUNKS = [b"first ", b"", b"second ", b"third"]
WHOLE = b"".join(CHUNKS)


class Backend:
    """One store under test and an empty place in it."""

    #: False where staged bytes can only lie in memory.
    constant_memory = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = self.place()
        self.store = self.reopened()

    def place(self) -> Location:
        raise NotImplementedError

    def reopened(self) -> Store:
        """Return the store as another process, which shares no object with this one, has it."""
        raise NotImplementedError

    def everything(self) -> set[str]:
        """Return every trace below the root, hidden ones too, asked past the store's listing."""
        raise NotImplementedError

    def damage(self, staged: StagedObject) -> None:
        """Change one staged byte behind the store's back; skip where the server forbids it."""
        raise NotImplementedError


class LocalBackend(Backend):
    def place(self) -> Location:
        return Location.parse(f"{self.folder}/")

    def reopened(self) -> Store:
        return LocalStore()

    def everything(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def damage(self, staged: StagedObject) -> None:
        path = Path(staged.handle)
        path.write_bytes(b"X" + path.read_bytes()[1:])


class MemoryBackend(Backend):
    constant_memory = False

    def place(self) -> Location:
        self._store = MemoryStore()
        return Location.parse("memory://bucket/")

    def reopened(self) -> Store:
        return self._store

    def everything(self) -> set[str]:
        staged = {f"staged {handle}" for handle in self._store._staged}
        return staged | {self.root.relative(each) for each in self._store._objects}

    def damage(self, staged: StagedObject) -> None:
        held = self._store._staged[staged.handle]
        self._store._staged[staged.handle] = held._replace(data=b"X" + held.data[1:])


BACKENDS: list[type[Backend]] = [LocalBackend, MemoryBackend]


@pytest.fixture(params=BACKENDS, ids=lambda kind: kind.__name__)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    kind: Callable[[Path], Backend] = request.param
    return kind(tmp_path)


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.store


@pytest.fixture
def final(backend: Backend) -> Location:
    return backend.root.join("out/tile.tif")


@pytest.fixture
def area(backend: Backend) -> Location:
    return staging_area(backend.root.join("out/"), "lineage1")


def content(store: Store, location: Location) -> bytes:
    return Storage({location.scheme: store}).read(location)


def listed(store: Store, prefix: Location) -> list[str]:
    return [prefix.relative(each.location) for each in store.list(prefix)]


def put(store: Store, location: Location, data: bytes, area: Location) -> None:
    store.commit(store.stage(location, [data], area))


def travelled(staged: StagedObject) -> StagedObject:
    """Return what arrives in another process."""
    return StagedObject.model_validate_json(staged.model_dump_json())


class TestStaging:
    def test_staged_bytes_are_invisible_under_the_final_name_and_in_listings(
        self, store, backend, final, area
    ):
        store.stage(final, CHUNKS, area)
        assert store.info(final) is None
        assert listed(store, backend.root) == []
        assert listed(store, area) == []
        with pytest.raises(ObjectMissing):
            store.open(final)

    def test_a_staged_object_says_its_size_and_checksum(self, store, final, area):
        staged = store.stage(final, iter(CHUNKS), area)
        assert (staged.final, staged.size) == (final, len(WHOLE))
        assert staged.sha256 == hashlib.sha256(WHOLE).hexdigest()

    def test_a_commit_makes_the_object_with_all_its_bytes(self, store, backend, final, area):
        committed = store.commit(store.stage(final, iter(CHUNKS), area))
        assert content(store, final) == WHOLE
        assert committed == store.info(final)
        assert committed.size == len(WHOLE)
        assert listed(store, backend.root) == ["out/tile.tif"]

    def test_an_object_without_bytes_is_an_object(self, store, final, area):
        store.commit(store.stage(final, [], area))
        assert content(store, final) == b""

    def test_another_process_commits_what_this_one_staged(self, backend, final, area):
        staged = travelled(backend.store.stage(final, CHUNKS, area))
        backend.reopened().commit(staged)
        assert content(backend.store, final) == WHOLE

    def test_a_commit_whose_process_died_before_it_answered_is_safe_to_repeat(
        self, backend, final, area
    ):
        staged = backend.store.stage(final, CHUNKS, area)
        first = backend.store.commit(staged)
        again = backend.reopened().commit(travelled(staged))
        assert again == first
        assert content(backend.store, final) == WHOLE

    def test_an_object_that_has_those_bytes_already_is_left_alone(self, store, final, area):
        first = store.commit(store.stage(final, CHUNKS, area))
        second = store.commit(store.stage(final, [WHOLE], area))
        assert second.version == first.version
        assert list(store.leftovers(area)) == []

    def test_a_commit_replaces_another_object_under_the_name(self, store, final, area):
        first = store.commit(store.stage(final, [b"old"], area))
        second = store.commit(store.stage(final, [b"new"], area))
        assert content(store, final) == b"new"
        assert second.version != first.version

    def test_a_commit_of_what_was_replaced_since_does_not_bring_it_back(self, store, final, area):
        old = store.stage(final, [b"old"], area)
        store.commit(old)
        put(store, final, b"new", area)
        with pytest.raises(StagedBytesLost):
            store.commit(old)
        assert content(store, final) == b"new"

    def test_damaged_staged_bytes_never_get_the_final_name(self, store, backend, final, area):
        put(store, final, b"old", area)
        staged = store.stage(final, CHUNKS, area)
        backend.damage(staged)
        with pytest.raises(StagedBytesLost):
            store.commit(staged)
        assert content(store, final) == b"old"

    def test_an_abort_forgets_the_bytes_and_may_be_repeated(self, store, backend, final, area):
        staged = store.stage(final, CHUNKS, area)
        store.abort(staged)
        store.abort(travelled(staged))
        assert list(store.leftovers(area)) == []
        with pytest.raises(StagedBytesLost):
            store.commit(staged)
        assert store.info(final) is None

    def test_an_abort_after_the_commit_does_nothing_to_the_object(self, store, final, area):
        staged = store.stage(final, CHUNKS, area)
        committed = store.commit(staged)
        store.abort(staged)
        assert store.info(final) == committed
        assert content(store, final) == WHOLE

    def test_two_attempts_that_stage_one_object_do_not_disturb_each_other(
        self, backend, final, area
    ):
        one, two = backend.store, backend.reopened()
        first: list[StagedObject] = []

        def slowly() -> Iterator[bytes]:
            yield b"first "
            first.append(two.stage(final, [b"the other's"], area))
            yield b"attempt"

        second = one.stage(final, slowly(), area)
        assert first[0].handle != second.handle
        one.abort(second)
        two.commit(first[0])
        assert content(one, final) == b"the other's"

    def test_commits_of_one_staged_object_at_a_time_all_succeed(self, backend, final, area):
        data = b"x" * 300_000
        failures: list[Exception] = []

        def commit(staged: StagedObject, together: threading.Barrier) -> None:
            together.wait()
            try:
                backend.reopened().commit(staged)
            except Exception as error:
                failures.append(error)

        for number in range(10):
            staged = backend.store.stage(final.parent.join(f"{number}.tif"), [data], area)
            together = threading.Barrier(4)
            threads = [threading.Thread(target=commit, args=(staged, together)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failures == []
            assert content(backend.store, staged.final) == data

    def test_chunks_that_fail_leave_nothing_staged(self, store, final, area):
        def broken() -> Iterator[bytes]:
            yield b"half"
            raise StorageUnavailable("the source went away")

        with pytest.raises(StorageUnavailable, match="the source went away"):
            store.stage(final, broken(), area)
        assert list(store.leftovers(area)) == []
        assert store.info(final) is None

    @pytest.mark.parametrize(
        "backend", [kind for kind in BACKENDS if kind.constant_memory], indirect=True
    )
    def test_memory_does_not_grow_with_the_number_of_bytes(self, store, backend, final, area):
        tracemalloc.start()
        try:
            staged = store.stage(final, (bytes(1 << 20) for _ in range(48)), area)
            store.commit(staged)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 12 << 20

    def test_bytes_are_staged_in_an_area_only(self, store, backend, final):
        with pytest.raises(Refused, match="staging area"):
            store.stage(final, CHUNKS, backend.root.join("out/"))
        assert backend.everything() == set()

    def test_an_object_is_staged_never_a_folder(self, store, backend, area):
        with pytest.raises(Refused, match="folder"):
            store.stage(backend.root.join("out/"), CHUNKS, area)


class TestLeftovers:
    def test_staged_bytes_are_found_by_their_area(self, store, backend, final, area):
        staged = store.stage(final, CHUNKS, area)
        other = staging_area(backend.root.join("out/"), "lineage2")
        store.stage(final, CHUNKS, other)
        found = list(backend.reopened().leftovers(area))
        assert [(each.handle, each.size) for each in found] == [(staged.handle, len(WHOLE))]

    def test_removing_an_area_removes_all_in_it_and_nothing_else(self, store, backend, final, area):
        other = staging_area(backend.root.join("out/"), "lineage2")
        put(store, final, WHOLE, area)
        put(store, area.join("pieces/0001.tif"), b"piece", area)
        store.stage(final, CHUNKS, area)
        kept = store.stage(backend.root.join("out/b.tif"), CHUNKS, other)
        backend.reopened().delete_prefix(area)
        assert list(store.leftovers(area)) == []
        assert listed(store, area) == []
        assert not any("lineage1" in each for each in backend.everything())
        store.commit(kept)
        assert listed(store, backend.root) == ["out/b.tif", "out/tile.tif"]

    def test_an_area_is_removed_with_every_trace_when_nothing_was_published(
        self, store, backend, final, area
    ):
        before = backend.everything()
        store.stage(final, CHUNKS, area)
        put(store, area.join("pieces/0001.tif"), b"piece", area)
        store.delete_prefix(area)
        assert backend.everything() == before

    def test_a_folder_within_an_area_is_removed_alone(self, store, backend, final, area):
        put(store, area.join("pieces/0001.tif"), b"piece", area)
        put(store, area.join("tiles/0001.tif"), b"tile", area)
        store.delete_prefix(area.join("pieces/"))
        assert listed(store, area) == ["tiles/0001.tif"]
        store.delete_prefix(area)
        assert backend.everything() == set()

    def test_an_area_that_does_not_exist_is_removed_and_listed_without_complaint(self, store, area):
        store.delete_prefix(area)
        store.delete_prefix(area)
        assert list(store.leftovers(area)) == []

    def test_a_folder_that_is_no_area_is_never_removed_wholesale(self, store, backend, final, area):
        put(store, final, WHOLE, area)
        for prefix in (backend.root, backend.root.join("out/"), final):
            with pytest.raises(Refused, match="staging area"):
                store.delete_prefix(prefix)
        assert content(store, final) == WHOLE

    def test_objects_of_an_area_show_only_when_the_area_is_listed(
        self, store, backend, final, area
    ):
        put(store, area.join("pieces/0001.tif"), b"piece", area)
        put(store, final, WHOLE, area)
        assert listed(store, backend.root) == ["out/tile.tif"]
        assert listed(store, area) == ["pieces/0001.tif"]
        assert listed(store, area.join("pieces/")) == ["0001.tif"]


class TestReading:
    @pytest.mark.parametrize("name", AWKWARD_NAMES)
    def test_any_name_is_written_listed_read_and_removed(self, store, backend, area, name):
        location = backend.root.join(name)
        put(store, location, WHOLE, area)
        assert listed(store, backend.root) == [name]
        assert content(store, location) == WHOLE
        store.delete(location)
        assert store.info(location) is None

    def test_ranges_come_back_in_the_order_asked(self, store, final, area):
        put(store, final, WHOLE, area)
        with store.open(final) as reader:
            assert (reader.name, reader.size) == (str(final), len(WHOLE))
            got = reader.read_ranges([(6, 6), (0, 5), (6, 6), (len(WHOLE), 0)])
        assert got == [b"second", b"first", b"second", b""]

    @pytest.mark.parametrize("wanted", [(0, 10**12), (10, 100), (10**12, 1)])
    def test_a_short_read_is_an_error_never_fewer_bytes(self, store, final, area, wanted):
        put(store, final, WHOLE, area)
        with store.open(final) as reader, pytest.raises(StorageUnavailable, match="bytes at"):
            reader.read_ranges([wanted])

    def test_a_reader_keeps_to_the_version_that_it_opened(self, store, final, area):
        put(store, final, b"old bytes", area)
        with store.open(final) as reader:
            put(store, final, b"new bytes", area)
            assert reader.read_ranges([(0, 9)]) == [b"old bytes"]
            assert reader.info.version != store.info(final).version

    def test_the_version_stays_while_the_bytes_stay(self, store, backend, final, area):
        put(store, final, WHOLE, area)
        found = store.info(final)
        assert found == backend.reopened().info(final)
        with store.open(final) as reader:
            assert reader.info == found

    def test_a_missing_object_is_told_from_a_store_that_does_not_answer(self, store, final):
        with pytest.raises(ObjectMissing) as caught:
            store.open(final)
        assert str(final) in caught.value.message
        assert caught.value.permanent
        assert caught.value.remedy

    def test_a_folder_is_no_object(self, store, backend, final, area):
        put(store, final, WHOLE, area)
        folder = final.parent
        bare = backend.root.join("out")
        assert store.info(folder) is None
        assert store.info(bare) is None
        for each in (folder, bare):
            assert store.is_folder(each)
            with pytest.raises(Refused, match="is a folder"):
                store.open(each)
        assert not store.is_folder(final)

    def test_a_listing_is_sorted_and_has_sizes_and_versions(self, store, backend, area):
        names = ["b/2.tif", "b.tif", "a/1.tif", "b-1.tif"]
        for name in names:
            put(store, backend.root.join(name), name.encode(), area)
        found = list(store.list(backend.root))
        assert [backend.root.relative(each.location) for each in found] == sorted(names)
        assert found == [store.info(each.location) for each in found]

    def test_a_listing_ends_at_the_folder_not_at_a_name_that_begins_alike(
        self, store, backend, area
    ):
        for name in ("out/1.tif", "out2/2.tif", "out.tif"):
            put(store, backend.root.join(name), b"x", area)
        assert listed(store, backend.root.join("out/")) == ["1.tif"]

    def test_a_missing_folder_lists_as_empty(self, store, backend):
        assert list(store.list(backend.root.join("nowhere/"))) == []

    def test_removing_a_missing_object_is_fine(self, store, final):
        store.delete(final)
        store.delete(final)


class TestPlaces:
    @pytest.mark.parametrize("name", ["new/out.tif", "new/tiles/", "out.tif"])
    def test_a_writable_place_is_proved_without_a_trace(self, store, backend, name):
        before = backend.everything()
        store.check_writable(backend.root.join(name))
        assert backend.everything() == before

    def test_nothing_can_be_written_below_a_file(self, store, backend, final, area):
        put(store, final, WHOLE, area)
        before = backend.everything()
        with pytest.raises(Refused) as caught:
            store.check_writable(final.parent.join("tile.tif/deep/out.tif"))
        assert caught.value.remedy
        assert backend.everything() == before

    def test_a_destination_is_one_cog_or_the_folder_of_a_mosaic(self, store, backend, area):
        put(store, backend.root.join("full/x.tif"), b"x", area)
        put(store, backend.root.join("folder.tif/x.tif"), b"x", area)
        put(store, backend.root.join("file"), b"x", area)
        storage = Storage({backend.root.scheme: store})

        def resolved(name: str) -> str:
            return backend.root.relative(storage.resolve_destination(backend.root.join(name)))

        assert resolved("new.tif") == "new.tif"
        assert resolved("NEW.TIFF") == "NEW.TIFF"
        assert resolved("full/x.tif") == "full/x.tif"
        assert resolved("full") == "full/"
        assert resolved("tiles") == "tiles/"
        assert resolved("tiles.tif/") == "tiles.tif/"
        assert resolved("folder.tif/") == "folder.tif/"
        for wrong in ("folder.tif", "file", "file/", "full/x.tif/"):
            with pytest.raises(Refused) as caught:
                resolved(wrong)
            assert caught.value.remedy

    def test_gdal_reaches_the_object_by_its_address_or_is_handed_the_bytes(
        self, store, final, area
    ):
        put(store, final, WHOLE, area)
        path = store.gdal_address(final).path
        assert path is None or Path(path).read_bytes() == WHOLE or path.startswith("/vsi")

    def test_errors_are_those_of_cogmill_never_of_the_file_system(self, store, backend, area):
        put(store, backend.root.join("file"), b"x", area)
        below = backend.root.join("file/below.tif")
        assert store.info(below) is None
        with pytest.raises(ObjectMissing):
            store.open(below)
        store.delete(below)
        with pytest.raises(CogmillError):
            store.delete(backend.root)


def test_a_scheme_without_a_store_is_refused_with_a_remedy(tmp_path):
    storage = Storage({"file": LocalStore()})
    with pytest.raises(Refused, match="no store is set up for memory"):
        storage.info(Location.parse("memory://bucket/x.tif"))
    with pytest.raises(Refused, match="store of the destination"):
        storage.stage(
            Location.parse(f"{tmp_path}/x.tif"), [b""], Location.parse("memory://b/.cogmill-a/")
        )


def test_a_handle_that_names_no_staged_file_is_never_touched(tmp_path):
    victim = tmp_path / "precious.tif"
    victim.write_bytes(WHOLE)
    staged = StagedObject(
        final=Location.parse(f"{tmp_path}/out.tif"),
        handle=str(victim),
        size=len(WHOLE),
        sha256=hashlib.sha256(WHOLE).hexdigest(),
    )
    store = LocalStore()
    for step in (store.abort, store.commit):
        with pytest.raises(PermanentError, match="no staged file"):
            step(staged)
    assert os.listdir(tmp_path) == ["precious.tif"]
