"""cogmill beside what a user would pick instead, in one run, interleaved.

    make bench        (or: .venv/bin/python benchmarks/run.py [--size 6000] [--runs 3])

A striped UTM raster is turned into one COG in EPSG:3857 by each of them. gdalwarp is tuned as an
expert would: all cores for warp and compression, plenty of memory. It runs twice, with its default
approximation (up to an eighth of a pixel off) and exactly, as cogmill always does. Wall-clock
seconds and the process tree's CPU seconds go to build/bench.json, a picture to build/bench.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cogmill.core_machine.state.embedded.paths import ROOT_HOME
from cogmill.core_machine.state.embedded.server_user import server_user

PROJECT = Path(__file__).resolve().parent.parent
BUILD = PROJECT / "build"
FOLDER = BUILD / "bench"
SOURCE, RESULT = FOLDER / "terrain.tif", FOLDER / "result.tif"
TARGET = "EPSG:3857"
GDALWARP = [
    "gdalwarp",
    "-q",
    "-overwrite",
    "-of",
    "COG",
    "-t_srs",
    "EPSG:3857",
    "-r",
    "bilinear",
    "-multi",
    "-wm",
    "1024",
    "-wo",
    "NUM_THREADS=ALL_CPUS",
    "-co",
    "NUM_THREADS=ALL_CPUS",
    "-co",
    "COMPRESS=DEFLATE",
    "-co",
    "LEVEL=6",
    "-co",
    "PREDICTOR=YES",
    "-co",
    "OVERVIEW_RESAMPLING=AVERAGE",
    "--config",
    "GDAL_CACHEMAX",
    "1024",
]


def cogmill_command() -> list[str]:
    return [
        *(sys.executable, "-m", "cogmill.cli.main", "run", str(SOURCE), str(RESULT)),
        *("--dst-crs", TARGET, "--resampling", "bilinear", "--quiet"),
    ]


def candidates() -> dict[str, list[str]]:
    found = {"cogmill (exact)": cogmill_command()}
    if shutil.which("gdalwarp"):
        paths = [str(SOURCE), str(RESULT)]
        found["gdalwarp -of COG"] = [*GDALWARP, *paths]
        found["gdalwarp -of COG -et 0"] = [*GDALWARP, "-et", "0", *paths]
    else:
        print("gdalwarp is not installed (Debian: gdal-bin): cogmill is measured alone")
    return found


def timed(command: list[str], home: Path) -> dict[str, float]:
    """Run one command from nothing to its result; the database starts and stops within."""
    RESULT.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    environment = {**os.environ, "COGMILL_HOME": str(home)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": wall, "cpu_seconds": cpu, "bytes": RESULT.stat().st_size}


def spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def measure(runs: int, say: Callable[[str], None]) -> dict[str, Any]:
    commands = candidates()
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    homes = FOLDER
    if server_user().closed(FOLDER):
        # As root, the database's user cannot get into this clone.
        homes = ROOT_HOME / "bench"
        shutil.rmtree(homes, ignore_errors=True)
    for number in range(runs + 1):
        for name, command in commands.items():
            figures = timed(command, homes / f"home-{number}")
            say(
                f"{'warm-up' if number == 0 else f'run {number}'}: {name}: "
                f"{figures['wall_seconds']:.1f} s wall, {figures['cpu_seconds']:.1f} s CPU"
            )
            if number:
                seen[name].append(figures)
    return {
        name: {key: spread([run[key] for run in found]) for key in found[0]}
        for name, found in seen.items()
    }


def draw(results: dict[str, Any], pixels: int) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(results)
    medians = [results[name]["wall_seconds"]["median"] for name in names]
    low = [m - results[n]["wall_seconds"]["min"] for m, n in zip(medians, names, strict=True)]
    high = [results[n]["wall_seconds"]["max"] - m for m, n in zip(medians, names, strict=True)]
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + len(names)), layout="constrained")
    axes.barh(names, medians, xerr=[low, high], color="#86b9c9", capsize=4)
    axes.invert_yaxis()
    axes.set_xlabel(f"seconds to one COG of {pixels / 1e6:.0f} million pixels (median, min to max)")
    figure.savefig(BUILD / "bench.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=6000, help="side of the source in pixels")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    maker = PROJECT / "scripts" / "demo_terrain.py"
    command = [sys.executable, str(maker), str(SOURCE), "--size", str(options.size)]
    subprocess.run(command, check=True)
    results = measure(options.runs, lambda line: print(line, flush=True))
    document = {
        "size": options.size, "runs": options.runs, "cores": os.cpu_count(),
        "machine": platform.machine(), "commands": candidates(), "results": results,
    }  # fmt: skip
    (BUILD / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
    draw(results, options.size**2)
    shutil.rmtree(FOLDER)
    print(f"written: {BUILD / 'bench.json'}, {BUILD / 'bench.png'}")


if __name__ == "__main__":
    main()
