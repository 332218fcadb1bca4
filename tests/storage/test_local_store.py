"""What the store on disk promises beyond the contract: crashes, modes, links, full disks."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cogmill.errors import Refused, StorageUnavailable, TransientError
from cogmill.storage.local_store import LocalStore
from cogmill.storage.location import Location
from cogmill.storage.staging import staging_area


@pytest.fixture
def store() -> LocalStore:
    return LocalStore()


@pytest.fixture
def root(tmp_path: Path) -> Location:
    return Location.parse(f"{tmp_path}/")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(location: Location) -> int:
    return stat.S_IMODE(os.stat(location.path).st_mode)


def test_a_process_that_is_killed_while_staging_leaves_only_what_its_area_removes(
    store, root, tmp_path
):
    program = """
        import sys, itertools
        from cogmill.storage.local_store import LocalStore
        from cogmill.storage.location import Location
        def chunks():
            for count in itertools.count():
                yield bytes(1 << 16)
                if count == 3:
                    print("half way", flush=True)
                    sys.stdin.read()
        final, area = map(Location.parse, sys.argv[1:])
        LocalStore().stage(final, chunks(), area)
    """
    final = root.join("out/tile.tif")
    area = staging_area(final.parent, "abc")
    command = [sys.executable, "-c", textwrap.dedent(program), str(final), str(area)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert store.info(final) is None
    assert list(store.list(root)) == []
    assert [each.size for each in store.leftovers(area)] == [4 << 16]
    store.delete_prefix(area)
    assert os.listdir(tmp_path) == []


def test_the_version_is_size_time_and_inode(store, root, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"12345")
    found = os.stat(path)
    info = store.info(root.join("a.tif"))
    assert info.version == f"5-{found.st_mtime_ns}-{found.st_ino}"


def test_files_and_folders_get_what_the_umask_leaves(store, root, umask):
    final = root.join("new/deep/out.tif")
    area = staging_area(root.join("new/"), "abc")
    staged = store.stage(final, [b"x"], area)
    assert mode(area) == 0o750
    store.commit(staged)
    assert (mode(final.parent), mode(final)) == (0o750, 0o640)


def test_the_mode_of_a_folder_that_cogmill_did_not_make_stays(store, root, tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o700)
    area = staging_area(root.join("out/"), "abc")
    store.commit(store.stage(root.join("out/a.tif"), [b"x"], area))
    store.delete_prefix(area)
    store.delete(root.join("out/a.tif"))
    assert mode(root.join("out/")) == 0o700


def test_an_empty_folder_that_cogmill_did_not_make_is_kept(store, root, tmp_path):
    (tmp_path / "theirs").mkdir()
    final = root.join("theirs/ours/deep/out.tif")
    area = staging_area(root.join("theirs/ours/"), "abc")
    staged = store.stage(final, [b"x"], area)
    store.commit(staged)
    store.delete(final)
    store.delete_prefix(area)
    assert [path.name for path in tmp_path.rglob("*")] == ["theirs"]


def test_a_folder_that_cogmill_made_is_kept_while_someone_uses_it(store, root, tmp_path):
    area = staging_area(root.join("out/"), "abc")
    store.stage(root.join("out/a.tif"), [b"x"], area)
    (tmp_path / "out" / "note.txt").write_text("mine")
    store.delete_prefix(area)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["note.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_may_pass_and_is_named(store, root, tmp_path, monkeypatch, number):
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("cogmill.storage.local_store.os.fsync", full)
    final = root.join("out/a.tif")
    area = staging_area(root, "abc")
    with pytest.raises(TransientError) as caught:
        store.stage(final, [b"x"], area)
    assert str(final) in caught.value.remedy
    assert list(store.leftovers(area)) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_the_kernels_own_full_disk_is_told_so(tmp_path, monkeypatch):
    real_open = os.open

    def onto_full(path: str, flags: int, *rest: int) -> int:
        staging = str(path).endswith(".staged")
        return real_open("/dev/full", os.O_WRONLY) if staging else real_open(path, flags, *rest)

    root = Location.parse(f"{tmp_path}/")
    monkeypatch.setattr("cogmill.storage.local_store.os.open", onto_full)
    with pytest.raises(StorageUnavailable, match="no room left"):
        LocalStore().stage(root.join("a.tif"), [b"x" * 10_000], staging_area(root, "abc"))


def test_bytes_and_names_are_forced_to_the_disk_before_the_answer(store, root, monkeypatch):
    synced: list[str] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not say what a descriptor names")
    monkeypatch.setattr(os, "fsync", watched)
    final = root.join("out/a.tif")
    area = staging_area(root.join("out/"), "abc")
    staged = store.stage(final, [b"x"], area)
    assert synced[-2:] == [staged.handle, area.path.rstrip("/")]
    assert root.path.rstrip("/") in synced
    synced.clear()
    store.commit(staged)
    assert final.parent.path.rstrip("/") in synced


def test_a_staging_area_on_another_file_system_is_refused_before_bytes_flow(store, root):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == os.stat(root.path).st_dev:
        pytest.skip("this host has no second file system to write to")
    area = staging_area(Location.parse(f"/dev/shm/cogmill-test-{os.getpid()}/"), "abc")

    flowed: list[str] = []

    def watched() -> Iterator[bytes]:
        flowed.append("a chunk was asked for")
        yield b"x"

    try:
        with pytest.raises(Refused, match="two file systems"):
            store.stage(root.join("a.tif"), watched(), area)
    finally:
        store.delete_prefix(area)
    assert flowed == []
    assert not Path(area.parent.path).exists()


def test_a_file_that_shrinks_while_it_is_read_is_a_short_read(store, root, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"x" * 100)
    with store.open(root.join("a.tif")) as reader:
        os.truncate(path, 50)
        with pytest.raises(StorageUnavailable, match="50 of the 100 bytes at 0"):
            reader.read_ranges([(0, 100)])


def test_links_are_followed_for_reading_and_comparing_but_a_commit_replaces_them(
    store, root, tmp_path
):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.tif").write_bytes(b"source")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "out.tif").symlink_to("real/a.tif")
    assert store.info(root.join("link/a.tif")).size == 6
    assert store.canonical(root.join("link/")).contains(root.join("real/a.tif"))
    assert store.canonical(root.join("out.tif")) == root.join("real/a.tif")
    store.commit(store.stage(root.join("out.tif"), [b"result"], staging_area(root, "abc")))
    assert (tmp_path / "real" / "a.tif").read_bytes() == b"source"
    assert (tmp_path / "out.tif").read_bytes() == b"result"


def test_a_listing_shows_links_without_descending_and_an_area_goes_without_their_targets(
    store, root, tmp_path
):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.tif").write_bytes(b"source")
    area = staging_area(root.join("out/"), "abc")
    store.stage(root.join("out/a.tif"), [b"x"], area)
    Path(area.path, "link").symlink_to(tmp_path / "precious")
    Path(tmp_path, "out", "dangling").symlink_to("nowhere")
    Path(tmp_path, "out", "folder").symlink_to(tmp_path / "precious")
    names = [each.location.name for each in store.list(root.join("out/"))]
    assert names == ["dangling", "folder"]
    store.delete_prefix(area)
    assert (tmp_path / "precious" / "a.tif").read_bytes() == b"source"
    assert not Path(area.path).exists()


def test_a_pipe_is_refused_instead_of_waited_for(store, root, tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(Refused, match="no regular file"):
        store.open(root.join("pipe.tif"))


def test_a_sidecar_whose_name_would_be_too_long_is_not_there(store, root):
    assert store.info(root.join("x" * 251 + ".tif.msk")) is None


def test_a_socket_is_refused_and_not_tried_again(store, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # A socket's path is short.
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.tif")
        with pytest.raises(Refused, match="No such device"):
            store.open(root.join("socket.tif"))


def test_a_file_larger_than_the_user_may_write_is_refused_and_not_tried_again(store, root):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(Refused, match="File too large"):
            store.stage(root.join("out/a.tif"), [bytes(2000)], staging_area(root.join("out/"), "a"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["x" * 300 + ".tif", "new/" + "x" * 300 + ".tif", "folder"])
def test_a_file_that_could_never_be_made_is_refused_before_the_work(store, root, tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refused) as caught:
        store.check_writable(root.join(name))
    assert caught.value.remedy
    assert os.listdir(tmp_path) == ["folder"]


def test_a_place_that_this_user_may_not_write_is_refused_in_one_line(root, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    program = """
        import os, sys
        from cogmill.errors import Refused
        from cogmill.storage.local_store import LocalStore
        from cogmill.storage.location import Location
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere
        try:
            LocalStore().check_writable(Location(sys.argv[1]))
        except Refused as refusal:
            print(refusal)
    """
    place = root.join("locked/out/a.tif")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(place)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(place))
    assert "Permission denied" in done.stdout
    assert done.stdout.count("\n") == 1
    assert list(locked.iterdir()) == []
