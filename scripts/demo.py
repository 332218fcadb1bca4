"""The main job on real pixels: inspect, plan, run into a mosaic and into one COG, prove both.

    make demo        (or: .venv/bin/python scripts/demo.py [--size 10000])

Everything lies in build/demo; the commands shown are what a user would type.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from cogmill.core_machine.state.embedded.paths import ROOT_HOME
from cogmill.core_machine.state.embedded.server_user import server_user

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "build" / "demo"
SOURCE = FOLDER / "terrain.tif"
MOSAIC = FOLDER / "mosaic"
COG = FOLDER / "terrain_3857.tif"
QUICKLOOK = FOLDER / "quicklook.png"
QUICKLOOK_SIDE = 1200
GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE="


class DemoFailed(Exception):
    """One line: what is not as it must be."""


def demand(fact: bool, otherwise: str) -> None:
    if not fact:
        raise DemoFailed(otherwise)


def title(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def cogmill(*arguments: str) -> dict[str, Any]:
    """Run the command line as a user would, and return the JSON object that it prints."""
    print(f"$ cogmill {shlex.join(arguments)}", flush=True)
    settings = {name: text for name, text in os.environ.items() if not name.startswith("COGMILL_")}
    done = subprocess.run(
        [sys.executable, "-m", "cogmill.cli.main", *arguments, "--json"],
        cwd=FOLDER,
        env={**settings, "COGMILL_HOME": str(home())},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == 130:
        raise KeyboardInterrupt
    demand(done.returncode == 0, f"cogmill {arguments[0]} ended with exit code {done.returncode}")
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def home() -> Path:
    """Return a folder for the database: as root one that PostgreSQL's user can get to."""
    if not server_user().closed(FOLDER):
        return FOLDER / "home"
    return ROOT_HOME / "demo" / hashlib.sha256(os.fsencode(FOLDER)).hexdigest()[:16]


def make_source(size: int, seed: int) -> None:
    stamp = FOLDER / "terrain.json"
    wanted = json.dumps({"size": size, "seed": seed})
    if SOURCE.exists() and stamp.exists() and stamp.read_text() == wanted:
        print(f"{shown(SOURCE)} is there already")
        return
    stamp.unlink(missing_ok=True)
    maker = Path(__file__).with_name("demo_terrain.py")
    began = time.monotonic()
    command = [sys.executable, str(maker), str(SOURCE), "--size", str(size), "--seed", str(seed)]
    subprocess.run(command, check=True)
    stamp.write_text(wanted)
    megabytes = SOURCE.stat().st_size / 1e6
    print(f"made {shown(SOURCE)}, {megabytes:.0f} MB, in {time.monotonic() - began:.0f} s")


def check_cog(path: Path) -> int:
    """Check the layout of one COG and read every block of every level; return its size in bytes."""
    with path.open("rb") as file:
        demand(GHOST in file.read(64), f"{path.name} does not announce its layout")
    with rasterio.open(path) as raster:
        layout = raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
        demand(layout == "COG", f"GDAL does not see a COG in {path.name}")
        demand(raster.crs.to_epsg() == 3857, f"{path.name} is not in EPSG:3857")
        demand(set(raster.block_shapes) == {(512, 512)}, f"{path.name} is not in blocks of 512")
        demand(raster.nodata == 0, f"{path.name} lost its nodata value")
        raster.checksum(1)
        overviews = raster.overviews(1)
    side = max(raster.width, raster.height)
    demand(side <= 512 or bool(overviews), f"{path.name} has no overviews")
    demand(overviews == [2 ** (n + 1) for n in range(len(overviews))], "overviews do not halve")
    for level in range(len(overviews)):
        with rasterio.open(path, overview_level=level) as raster:
            raster.checksum(1)
    return path.stat().st_size


def check_manifest() -> int:
    """Compare every file of the mosaic with what its manifest says; return how many there are."""
    manifest = json.loads((MOSAIC / "cogmill.json").read_text())
    for entry in manifest["files"]:
        body = (MOSAIC / entry["name"]).read_bytes()
        same = hashlib.sha256(body).hexdigest() == entry["sha256"]
        demand(same, f"{entry['name']} is not what cogmill.json says")
    return len(manifest["files"])


def check_same_pixels(vrt: Path) -> int:
    """Compare mosaic and COG, a band of rows at a time; return how many pixels they have."""
    with rasterio.open(vrt) as mosaic, rasterio.open(COG) as one:
        demand(mosaic.shape == one.shape, "mosaic and COG differ in size")
        demand(mosaic.transform == one.transform, "mosaic and COG differ in place")
        for row in range(0, one.height, 512):
            window = Window(0, row, one.width, min(512, one.height - row))
            same = np.array_equal(mosaic.read(window=window), one.read(window=window))
            demand(same, f"mosaic and COG differ in rows {row} to {row + 511}")
        return int(one.width * one.height)


def draw_quicklook() -> str:
    """Draw the COG from its overviews, transparent where there is no data."""
    with rasterio.open(COG) as raster:
        scale = QUICKLOOK_SIDE / max(raster.width, raster.height)
        height, width = round(raster.height * scale), round(raster.width * scale)
        colours = raster.read(out_shape=(raster.count, height, width))
        valid = raster.dataset_mask(out_shape=(height, width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        options = {"width": width, "height": height, "count": 4, "dtype": "uint8"}
        with rasterio.open(QUICKLOOK, "w", driver="PNG", **options) as drawing:
            drawing.write(np.concatenate([colours, valid[np.newaxis]]))
    return f"{width} x {height}"


def interrupted(folder: Path) -> bool:
    """Whether a job that writes into a folder left its staging area there."""
    return any(folder.glob(".cogmill-*"))


def demo(size: int, seed: int) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    # The source is kept; the results are made anew, or there would be nothing to see. But an
    # interrupted demo goes on, and what its job has made so far is the job's.
    if not interrupted(MOSAIC):
        shutil.rmtree(MOSAIC, ignore_errors=True)
    if not interrupted(FOLDER):
        COG.unlink(missing_ok=True)
    QUICKLOOK.unlink(missing_ok=True)

    title("A landscape in UTM, stored in strips")
    make_source(size, seed)
    title("What it is, and how it will be worked on")
    cogmill("inspect", SOURCE.name, "--dst-crs", "EPSG:3857")
    title("Into a folder of COGs")
    cogmill("run", SOURCE.name, f"{MOSAIC.name}/", "--dst-crs", "EPSG:3857")
    title("Into one COG")
    cogmill("run", SOURCE.name, COG.name, "--dst-crs", "EPSG:3857")

    title("Proof")
    vrt = next(MOSAIC.glob("*.vrt"))
    files = check_manifest()
    print(f"every one of the {files} files that cogmill.json lists has its SHA-256")
    sizes = [check_cog(path) for path in sorted(MOSAIC.glob("*.tif"))]
    print(f"{len(sizes)} tiles, {sum(sizes) / 1e6:.0f} MB: COG layout, every level reads")
    print(f"one COG, {check_cog(COG) / 1e6:.0f} MB: COG layout, every level reads")
    print(f"mosaic and COG have the same {check_same_pixels(vrt):,} pixels")
    drawn = draw_quicklook()

    title("Look at it")
    print(f"folder      {shown(MOSAIC)}/")
    print(f"VRT         {shown(vrt)}")
    print(f"COG         {shown(COG)}")
    print(f"quick-look  {shown(QUICKLOOK)} ({drawn}, from the overviews)")


def shown(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10_000, help="side of the raster, in pixels")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    began = time.monotonic()
    try:
        demo(asked.size, asked.seed)
    except DemoFailed as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; `make demo` starts it again", file=sys.stderr)
        return 130
    print(f"\nThe demo took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
