"""What `cogmill validate` says of a file, beside what GDAL's script and rio-cogeo say of it.

`VERDICTS` is the table: the rules that are found broken, and the verdict of both others. They read
headers (GDAL's script the frames of blocks too) and decode nothing; where else they differ, the row
says why.
"""

from __future__ import annotations

import json
import struct
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import rasterio
import rasterio.shutil
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate
from tests.harness.cogs import SIZE, _cog, cog, flip, gtiff, patched, pixels

from cogmill.raster.gdal import environment
from cogmill.raster.validate.validate import validate_cog
from cogmill.raster.validate.verdict import Verdict
from cogmill.storage.local_store import LocalStore
from cogmill.storage.location import Location

NEXT_IFD, OFFSETS, BYTE_COUNTS = "next", 324, 325


def front(path: Path) -> Path:
    """Write what GDAL wrote before it had a COG driver: COPY_SRC_OVERVIEWS."""
    source = gtiff(path.with_name("source.tif"), overviews=(2, 4))
    rasterio.shutil.copy(source, path, driver="GTiff", TILED=True, COPY_SRC_OVERVIEWS=True)
    source.unlink()
    return path


@dataclass(frozen=True)
class Places:
    """Where things lie in a classic little-endian TIFF, by directory."""

    ifds: list[int]
    next_ifd: list[int]
    entry: list[dict[int, int]]
    value: list[dict[int, int]]
    offsets: list[tuple[int, ...]]
    counts: list[tuple[int, ...]]

    @classmethod
    def of(cls, path: Path) -> Places:
        with tifffile.TiffFile(path) as tiff:
            pages: list[Any] = list(tiff.pages)
            return cls(
                ifds=[one.offset for one in pages],
                next_ifd=[one.offset + 2 + 12 * len(one.tags) for one in pages],
                entry=[{tag.code: tag.offset for tag in one.tags} for one in pages],
                value=[{tag.code: tag.valueoffset for tag in one.tags} for one in pages],
                offsets=[tuple(one.dataoffsets) for one in pages],
                counts=[tuple(one.databytecounts) for one in pages],
            )


def broken(damage: Callable[[Path, Places], None], path: Path, **options: Any) -> Path:
    cog(path, **options)
    damage(path, Places.of(path))
    return path


def leader(path: Path, at: Places) -> None:
    flip(path, at.offsets[0][5] - 4)


def trailer(path: Path, at: Places) -> None:
    flip(path, at.offsets[1][2] + at.counts[1][2])


def content(path: Path, at: Places) -> None:
    flip(path, at.offsets[0][7] + at.counts[0][7] // 2)


def swapped(path: Path, at: Places) -> None:
    """Let two blocks of one row change places in the tables: their pixels change places too."""
    for table, values in ((OFFSETS, at.offsets[0]), (BYTE_COUNTS, at.counts[0])):
        kind = "<II" if table == OFFSETS or _wide(path, at, table) else "<HH"
        size = struct.calcsize(kind) // 2
        data = struct.pack(kind, values[9], values[8])
        patched(path, at.value[0][table] + 8 * size, data)


def _wide(path: Path, at: Places, table: int) -> bool:
    (kind,) = struct.unpack_from("<H", path.read_bytes(), at.entry[0][table] + 2)
    return bool(kind == 4)


def mask_moved(path: Path, at: Places) -> None:
    """Point a block of the mask to another one, which lies elsewhere and decodes as well."""
    offsets, counts = at.offsets[1], at.counts[1]
    alike = next(i for i in range(2, len(counts)) if counts[i] == counts[1])
    patched(path, at.value[1][OFFSETS] + 4, struct.pack("<I", offsets[alike]))


def cut(path: Path, at: Places) -> None:
    with path.open("r+b") as file:
        file.truncate(at.offsets[0][20] + 10)


def cut_in_header(path: Path, at: Places) -> None:
    with path.open("r+b") as file:
        file.truncate(at.ifds[0] + 40)


def moved(path: Path, at: Places, index: int = 0) -> None:
    """Copy a directory to the end of the file and let the one before point to it."""
    size = at.next_ifd[index] + 4 - at.ifds[index]
    with path.open("r+b") as file:
        file.seek(at.ifds[index])
        directory = file.read(size)
        end = file.seek(0, 2)
        file.write(b"\0" * (end % 2) + directory)
        file.seek(at.next_ifd[index - 1] if index else 4)
        file.write(struct.pack("<I", end + end % 2))


def skipped(path: Path, at: Places) -> None:
    """Take the first overview out of the chain."""
    patched(path, at.next_ifd[0], struct.pack("<I", at.ifds[2]))


def reordered(path: Path, at: Places) -> None:
    """Let the two overviews change places in the chain."""
    patched(path, at.next_ifd[0], struct.pack("<I", at.ifds[2]))
    patched(path, at.next_ifd[2], struct.pack("<I", at.ifds[1]))
    patched(path, at.next_ifd[1], struct.pack("<I", at.ifds[3] if len(at.ifds) > 3 else 0))


def endless(path: Path, at: Places) -> None:
    patched(path, at.next_ifd[-1], struct.pack("<I", at.ifds[0]))


def counted_wrong(path: Path, at: Places) -> None:
    patched(path, at.entry[0][OFFSETS] + 4, struct.pack("<I", 7))


def counted_beyond_memory(path: Path, at: Places) -> None:
    patched(path, at.entry[0][OFFSETS] + 4, struct.pack("<I", 0xFFFFFFF0))


def bomb(path: Path, at: Places) -> None:
    """Claim one block of 2 ** 40 pixels: the file is small and its image is not."""
    for tag in (256, 257, 322, 323):
        patched(path, at.entry[0][tag] + 2, struct.pack("<HII", 4, 1, 1 << 20))
    for tag in (OFFSETS, BYTE_COUNTS):
        first = (at.offsets if tag == OFFSETS else at.counts)[0][0]
        patched(path, at.entry[0][tag] + 2, struct.pack("<HII", 4, 1, first))


def edited(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(cog(path), "r+", IGNORE_COG_LAYOUT_BREAK=True) as out:
            out.write(pixels(64, 64, 3)[:, ::-1], window=rasterio.windows.Window(0, 0, 64, 64))
    return path


def text(path: Path) -> Path:
    path.write_text("no TIFF at all\n")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def small(path: Path, **options: Any) -> Path:
    return gtiff(path, (300, 200), **options)


def directory_last(path: Path) -> Path:
    tifffile.imwrite(path, pixels(300, 200, 1)[0], compression="zlib")
    moved(path, Places.of(path))
    return path


@dataclass(frozen=True)
class Row:
    """What is said of a file. Without `rules` it is valid; strictly, none may be a warning."""

    make: Callable[[Path], Path]
    rules: set[str]
    gdal: bool
    rio: bool
    strictly: bool | None = None

    @classmethod
    def valid(cls, make: Callable[[Path], Path], *, rio: bool = True) -> Row:
        return cls(make, set(), gdal=True, rio=rio)

    @classmethod
    def warned(cls, make: Callable[[Path], Path], *rules: str, rio: bool = False) -> Row:
        return cls(make, set(rules), gdal=True, rio=rio, strictly=False)

    @classmethod
    def wrong(
        cls, make: Callable[[Path], Path], *rules: str, gdal: bool = False, rio: bool = False
    ) -> Row:
        return cls(make, set(rules), gdal=gdal, rio=rio)


VERDICTS = {
    "COG, deflate": Row.valid(cog),
    "COG, LZW with predictor": Row.valid(partial(cog, COMPRESS="LZW", PREDICTOR=2)),
    "COG, zstd floats": Row.valid(
        partial(cog, COMPRESS="ZSTD", PREDICTOR=3, dtype="float32", bands=1)
    ),
    "COG, uncompressed uint16": Row.valid(partial(cog, COMPRESS="NONE", dtype="uint16")),
    "COG, JPEG": Row.valid(partial(cog, COMPRESS="JPEG")),
    "COG, JPEG with a mask": Row.valid(partial(cog, COMPRESS="JPEG", mask=True)),
    "COG, WebP": Row.valid(partial(cog, COMPRESS="WEBP")),
    "COG, LERC": Row.valid(partial(cog, COMPRESS="LERC", dtype="float32", bands=1)),
    "COG, LERC and zstd": Row.valid(partial(cog, COMPRESS="LERC_ZSTD", dtype="int16", bands=1)),
    "COG, mask": Row.valid(partial(cog, mask=True)),
    "COG, BigTIFF with a mask": Row.valid(partial(cog, BIGTIFF="YES", mask=True)),
    "COG, web tiles": Row.valid(partial(cog, TILING_SCHEME="GoogleMapsCompatible")),
    "COG, small, one level": Row.valid(partial(cog, size=(300, 200))),
    "GeoTIFF, COPY_SRC_OVERVIEWS": Row.valid(front),
    # rio-cogeo takes an image as wide as one block for strips.
    "COG, one tile wide": Row.valid(partial(cog, size=(512, 900), BLOCKSIZE=512), rio=False),
    "COG without overviews": Row.warned(partial(cog, OVERVIEWS="NONE"), "overviews"),
    "COG, an overview taken out": Row.warned(
        partial(broken, skipped), "overview-sizes", rio=True
    ),
    "COG, a mask's directory moved behind the data": Row.warned(
        partial(broken, partial(moved, index=1), mask=True), "ifd-order", rio=True
    ),
    "GeoTIFF, small": Row.valid(small),
    "GeoTIFF, small, deflate": Row.valid(partial(small, compress="deflate")),
    "GeoTIFF, small, its directory last": Row.wrong(directory_last, "ifd-place", "data-order"),
    "GeoTIFF, striped": Row.wrong(gtiff, "tiled", "overviews", gdal=True),
    "GeoTIFF, striped, wide": Row.wrong(partial(gtiff, size=(1100, 90)), "tiled", "overviews"),
    "GeoTIFF, tiled": Row.warned(
        partial(gtiff, tiled=True, blockxsize=128, blockysize=128), "overviews"
    ),
    "GeoTIFF, tiled, one block wider than 1024": Row.wrong(
        partial(gtiff, size=(2048, 64), tiled=True, blockxsize=2048, blockysize=64),
        "tiled", "overviews",
    ),
    "GeoTIFF, overviews built afterwards": Row.wrong(
        partial(gtiff, tiled=True, blockxsize=128, blockysize=128, overviews=(2, 4)), "data-order"
    ),
    "GeoTIFF, overviews beside it": Row.wrong(
        partial(gtiff, tiled=True, blockxsize=128, blockysize=128, overviews=(2, 4), outside=True),
        "overviews",
    ),
    "COG, edited in place": Row.wrong(edited, "edited", "block-order"),
    "COG, a leader flipped": Row.wrong(partial(broken, leader), "leader", rio=True),
    "COG, a trailer flipped": Row.wrong(partial(broken, trailer), "trailer", rio=True),
    "COG, a block's content flipped": Row.wrong(
        partial(broken, content), "undecodable", gdal=True, rio=True
    ),
    "COG, two blocks changed places": Row.wrong(partial(broken, swapped), "block-order", rio=True),
    "COG, a block of the mask elsewhere": Row.wrong(
        partial(broken, mask_moved, mask=True), "mask-place", "block-order", rio=True
    ),
    "COG, cut off in the data": Row.wrong(partial(broken, cut), "past-end", rio=True),
    "COG, cut off in the header": Row.wrong(partial(broken, cut_in_header), "header"),
    "COG, its directory moved to the end": Row.wrong(
        partial(broken, moved), "ifd-place", "ifd-order"
    ),
    "COG, an overview's directory moved to the end": Row.wrong(
        partial(broken, partial(moved, index=1)), "ifd-order"
    ),
    "COG, overviews in the wrong order": Row.wrong(
        partial(broken, reordered), "ifd-order", "data-order", "overview-sizes"
    ),
    # Readers notice the circle and stop; what was in the chain before is lost to them.
    "COG, an endless chain of directories": Row.wrong(
        partial(broken, endless), "chain", gdal=True, rio=True
    ),
    # GDAL takes the blocks that a table lacks for never written.
    "COG, a table of offsets too short": Row.wrong(
        partial(broken, counted_wrong), "tables", gdal=True, rio=True
    ),
    "COG, a table of offsets beyond any memory": Row.wrong(
        partial(broken, counted_beyond_memory), "tables", gdal=True, rio=True
    ),
    "COG, one block of 2 ** 40 pixels": Row.wrong(
        partial(broken, bomb), "memory", "tiled", "overview-sizes"
    ),
    "text": Row.wrong(text, "header"),
    "nothing": Row.wrong(empty, "header"),
}  # fmt: skip


def ours(path: Path, memory: int = 1 << 28) -> Verdict:
    with environment(1 << 24), LocalStore().open(Location.parse(str(path))) as data:
        return validate_cog(data, str(path), memory, lambda done: None)


def by_rio_cogeo(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(cog_validate(path, strict=True, quiet=True)[0])
    except (rasterio.errors.RasterioError, TypeError, ValueError):
        return False


GDALS_SCRIPT = """
import json, sys
from osgeo import gdal
from osgeo_utils.samples.validate_cloud_optimized_geotiff import validate
gdal.DontUseExceptions()
gdal.PushErrorHandler("CPLQuietErrorHandler")
said = {}
for path in sys.stdin.read().splitlines():
    try:
        said[path] = not validate(path, full_check=True)[1]
    except Exception:
        said[path] = False
print(json.dumps(said))
"""


def by_gdal(paths: list[Path]) -> dict[Path, bool]:
    """Ask GDAL's own script, in the Python that it is installed for."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", GDALS_SCRIPT],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C"},
    )
    return {Path(path): valid for path, valid in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_and_the_broken_rules_are_those_of_the_table(name: str, tmp_path: Path) -> None:
    row = VERDICTS[name]
    path = row.make(tmp_path / "made.tif")
    verdict = ours(path)
    assert {finding.rule for finding in verdict.findings} == row.rules, verdict.findings
    assert verdict.valid(strict=False) == (not row.rules or row.strictly is False)
    assert verdict.valid(strict=True) == (not row.rules)
    assert all(finding.message and finding.remedy for finding in verdict.findings)
    assert by_rio_cogeo(path) == row.rio


@pytest.mark.external("python3")
def test_gdals_script_says_what_the_table_says_of_it(tmp_path: Path) -> None:
    files = {
        name: row.make(tmp_path / f"{number:02d}.tif")
        for number, (name, row) in enumerate(VERDICTS.items())
    }
    said = by_gdal(list(files.values()))
    assert {name: said[path] for name, path in files.items()} == {
        name: row.gdal for name, row in VERDICTS.items()
    }


#: GDAL's script lets strips pass up to a width of 1024, and neither of the others decodes.
NARROW_STRIPS = {"RGB2.byte.tif", "RGBA.byte.tif", "RGBA.uint16.tif"}
CUT_OFF = {"corrupt.tif"}


@pytest.mark.external("python3")
def test_the_corpus_gets_the_verdicts_of_both_others(corpus: Path) -> None:
    paths = sorted(corpus.glob("*.tif"))
    said, alike = by_gdal(paths), 0
    for path in paths:
        verdict = ours(path)
        if path.name in CUT_OFF:
            assert {finding.rule for finding in verdict.findings} == {"past-end"}
            continue
        assert verdict.valid(strict=True) == by_rio_cogeo(path), path.name
        if path.name in NARROW_STRIPS:
            assert "tiled" in {finding.rule for finding in verdict.findings}
            continue
        assert verdict.valid(strict=False) == said[path], path.name
        alike += 1
    assert alike >= 30


def test_every_single_damaged_leader_and_trailer_is_found(tmp_path: Path) -> None:
    whole = cog(tmp_path / "whole.tif", mask=True).read_bytes()
    at, other = Places.of(tmp_path / "whole.tif"), tmp_path / "damaged.tif"
    for offsets, counts in zip(at.offsets, at.counts, strict=True):
        for index in range(0, len(offsets), 5):
            frames = {
                "leader": range(offsets[index] - 4, offsets[index]),
                "trailer": range(
                    offsets[index] + counts[index], offsets[index] + counts[index] + 4
                ),
            }
            for rule, places in frames.items():
                damaged = bytearray(whole)
                damaged[places[index % 4]] ^= 1 << index % 8
                other.write_bytes(damaged)
                found = ours(other).findings
                assert [finding.rule for finding in found] == [rule]


def test_many_blocks_alike_are_one_finding_that_counts_them(tmp_path: Path) -> None:
    path = cog(tmp_path / "cog.tif")
    at = Places.of(path)
    for offset in at.offsets[0]:
        flip(path, offset - 4)
    (found,) = ours(path).findings
    assert f"; {len(at.offsets[0]) - 1} more blocks alike" in found.message


def test_a_block_that_needs_more_memory_than_given_is_not_decoded(tmp_path: Path) -> None:
    verdict = ours(cog(tmp_path / "cog.tif"), memory=100_000)
    assert {finding.rule for finding in verdict.findings} == {"memory"}
    assert verdict.blocks_decoded == 0


@given(st.data())
@settings(max_examples=40)
def test_no_damage_raises_and_no_cut_goes_unseen(data: st.DataObject) -> None:
    whole = _cog(SIZE, 3, (("mask", True),))
    damaged = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, 2500), min_size=1, max_size=5)):
        damaged[at] = data.draw(st.integers(0, 255))
    size = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.tif"
        path.write_bytes(damaged[:size])
        verdict = ours(path)
    if size < len(whole) - 4:
        assert not verdict.valid(strict=False)
