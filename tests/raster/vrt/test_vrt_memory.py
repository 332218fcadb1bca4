"""What GDAL holds while it reads a VRT stays within what the plan counts, measured."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from tests.harness import vrt_makers as virtual
from tests.harness.places import ROOT

#: Members enough that GDAL closes some to open others, each of one strip.
COLS, ROWS, BANDS, MEMBERS = 2000, 1600, 3, 6
SCRIPT = """
import ctypes, json, re, sys
from pathlib import Path
from tests.harness.whole_job import tools
from cogmill.job_types.raster_to_cog.members import inspected_vrt
from cogmill.raster import gdal
from cogmill.raster.geometry.grid import Window
from cogmill.raster.vrt.vrt_reading import opened_vrt, vrt_decoding
from cogmill.storage.location import Location

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

given = tools()
with gdal.environment(given.gdal_cache):
    found = inspected_vrt(Location.parse(sys.argv[1]), None, given)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    window = Window(col_off=0, row_off=0, width=found.width, height=found.height)
    with opened_vrt(found, found.file) as reader:
        held = reader.read(window)
    measured = status("VmHWM") - before - held.pixels.nbytes
    print(json.dumps([measured, vrt_decoding(found.image, found.file)]))
"""
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "deflate": ("uint8", "", {"compress": "deflate"}),
    "LERC": ("float32", "", {"compress": "lerc"}),
    "let through": ("uint16", "<NODATA>7</NODATA>", {"compress": "lzw"}),
    "apart": ("uint16", "", {"compress": "zstd", "interleave": "band"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gdal_holds_no_more_than_the_plan_counts(case: str, tmp_path: Path) -> None:
    dtype, inner, options = CASES[case]
    path = _mosaic(tmp_path, dtype, inner, options)
    measured, predicted = _measured(path)
    print(f"{case}: {measured / 2**20:.1f} MiB measured, {predicted / 2**20:.1f} MiB predicted")
    strip = COLS * ROWS * np.dtype(dtype).itemsize
    assert strip < measured <= predicted


def _mosaic(folder: Path, dtype: str, inner: str, options: dict[str, Any]) -> Path:
    random = np.random.default_rng(0)
    size = {"width": COLS, "height": ROWS, "count": BANDS, "blockysize": ROWS, "dtype": dtype}
    for number in range(MEMBERS):
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(
                folder / f"{number}.tif", "w", driver="GTiff", **size, **options
            ) as dataset,
        ):
            dataset.write(random.integers(0, 200, (BANDS, ROWS, COLS)).astype(dtype))
    kind = "ComplexSource" if inner else "SimpleSource"
    gdal_type = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}[dtype]
    bands = []
    for band in range(1, BANDS + 1):
        sources = "".join(
            f'<{kind}><SourceFilename relativeToVRT="1">{n}.tif</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{COLS}" ySize="{ROWS}"/>'
            f'<DstRect xOff="{n % 2 * COLS}" yOff="{n // 2 * ROWS}" xSize="{COLS}" '
            f'ySize="{ROWS}"/>{inner}</{kind}>'
            for n in range(MEMBERS)
        )
        bands.append(virtual.band(sources, gdal_type))
    return virtual.document(folder / "input.vrt", bands, (2 * COLS, MEMBERS // 2 * ROWS))


def _measured(path: Path) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    measured, predicted = json.loads(done.stdout)
    return measured, predicted
