"""Small files that decode to gigabytes, honest ones and liars: inside ``--memory``, or refused."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile
from tests.harness.figure import Figure
from tests.harness.killing import Ended, Home
from tests.harness.measuring import MIB, Meter

BUDGET = "512MB"
#: For a loaded machine.
SECONDS = 1500
PLACE = [
    (33550, "d", 3, (10.0, 10.0, 0.0), False),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 5650000.0, 0.0), False),
    (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), False),
]
DEFLATE = 8


def zeros(size: int) -> bytes:
    """Return so many zeros deflated, a thousandth of them, without ever holding them."""
    packer = zlib.compressobj(9)
    portion = bytes(1 << 20)
    parts = [packer.compress(portion) for _ in range(size >> 20)]
    return b"".join([*parts, packer.compress(bytes(size % (1 << 20))), packer.flush()])


def bomb(path: Path, side: int, block: int, *, tiled: bool, decodes_to: int | None = None) -> Path:
    """Write a square of zeros whose blocks are all one stream; it may decode to more than due."""
    data = zeros(decodes_to or (block if tiled else side) * block)
    count = math.ceil(side / block) ** (2 if tiled else 1)

    def streams() -> Iterator[bytes]:
        for _ in range(count):
            yield data

    blocks = {"tile": (block, block)} if tiled else {"rowsperstrip": block}
    tifffile.imwrite(
        path, streams(), shape=(side, side), dtype="uint8", compression=DEFLATE, metadata=None,
        photometric="minisblack", bigtiff=True, extratags=PLACE, **blocks,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made() as made:
        yield made


def measured(home: Home, *arguments: object) -> tuple[Ended, int]:
    """Run a command under the budget to its end; return also the sum of VmHWM in bytes."""
    command = home.start(*arguments, "--memory", BUDGET, "--workers", "1", "--json")
    meter = Meter(command)
    with meter.watching():
        ended = command.end(SECONDS)
    return ended, meter.sum


def note(figure: Figure, source: Path, side: int, ended: Ended, peak: int, what: str) -> None:
    figure.command = f"cogmill run bomb.tif out/ --memory {BUDGET} --workers 1"
    figure.measured(
        f"{source.stat().st_size / 1e6:.2f} MB of {side * side / 1e9:.2f} GB: "
        f"{what}, exit {ended.code}, {peak / MIB:.0f} MiB",
        "512 MiB",
    )


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("tiled", [False, True], ids=["one strip", "tiles of 4096"])
def test_a_bomb_of_gigabytes_completes_inside_512_MB(
    home: Home, full: bool, tiled: bool, tmp_path: Path, figure: Figure
) -> None:
    side = 60000 if full else 18000
    source = bomb(tmp_path / "bomb.tif", side, 4096 if tiled else side, tiled=tiled)
    ended, peak = measured(home, "run", source, f"{tmp_path}/out/", "--tile-size", "8192")
    note(figure, source, side, ended, peak, "completes")
    assert ended.code == 0, ended.stderr
    assert ended.document["plan"]["tiles"]["streamed"] is not tiled
    assert len(list((tmp_path / "out").glob("*.tif"))) == math.ceil(side / 8192) ** 2
    assert peak <= 512 * MIB


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_one_tile_of_gigabytes_is_refused_with_the_memory_that_would_do(
    home: Home, full: bool, tmp_path: Path, figure: Figure
) -> None:
    side = 60000 if full else 32000
    source = bomb(tmp_path / "bomb.tif", side, side, tiled=True)
    ended, peak = measured(home, "run", source, f"{tmp_path}/out/")
    note(figure, source, side, ended, peak, ended.stderr.strip())
    assert ended.code == 2
    assert "one block of the source needs" in ended.stderr
    assert "--memory" in ended.stderr
    assert "would do" in ended.stderr
    assert peak <= 512 * MIB
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("tiled", [False, True], ids=["strip", "tile"])
def test_a_bomb_that_decodes_to_more_than_its_tags_claim_fails_cleanly(
    home: Home, full: bool, tiled: bool, tmp_path: Path, figure: Figure
) -> None:
    side, claims = 512, 1 << 32 if full else 1 << 30
    source = bomb(tmp_path / "bomb.tif", side, side, tiled=tiled, decodes_to=claims)
    ended, peak = measured(home, "run", source, f"{tmp_path}/out/")
    note(figure, source, side, ended, peak, f"{claims / 1e9:.1f} GB in the stream")
    assert ended.code == 1
    assert "block 0 of" in ended.stderr
    assert "cannot be decoded" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert peak <= 512 * MIB
    assert not list(tmp_path.glob("out/*"))
