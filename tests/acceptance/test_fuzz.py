"""Damaged files: looked at in pooled children, and those that pass are run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import rasterio
from tests.acceptance.fuzzing import SEED, Look, Pool, bases, mutant
from tests.harness.command import Mill
from tests.harness.figure import Figure

from cogmill.settings import Settings

#: Files that are looked at, and how many of those that pass are run.
MANY, FEW = (10_000, 200), (300, 4)
#: An answer takes milliseconds; a child that starts on a busy machine, seconds.
SECONDS = 30.0
MEMORY = 512 << 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_damaged_file_hangs_or_kills_anything_and_none_is_published_in_part(
    mill: Mill, full: bool, tmp_path: Path, figure: Figure
) -> None:
    count, run = MANY if full else FEW
    (tmp_path / "in").mkdir()
    originals = bases(tmp_path)
    pool = Pool(Settings(memory=MEMORY, workers=1), SECONDS)
    looks: dict[int, Look] = {}
    passed: list[Path] = []
    try:
        for number in range(count):
            path = tmp_path / "in" / f"m{number:05d}.tif"
            path.write_bytes(mutant(originals, number))
            looks[number] = pool.look(path, "EPSG:3857" if number % 2 else None)
            if looks[number].outcome == "passed" and len(passed) < run:
                passed.append(path)
            else:
                path.unlink()
    finally:
        pool.close()
    outcomes = Counter(look.outcome for look in looks.values())
    peak = max(look.peak for look in looks.values())
    told = ", ".join(f"{name} {number}" for name, number in sorted(outcomes.items()))
    figure.command, figure.seed = "cogmill inspect, of damaged files", SEED
    figure.measured(f"{told}; {pool.started} children; peak {peak >> 20} MiB", "0 failed or hung")
    bad = {n: look.said for n, look in looks.items() if look.outcome in ("failed", "hung", "died")}
    assert not bad, "\n".join(f"{number}: {said}" for number, said in list(bad.items())[:5])
    assert outcomes["refused"] > count / 10
    assert all("; " in look.said for look in looks.values() if look.outcome == "refused")
    _run(mill, passed, tmp_path, figure)


def _run(mill: Mill, sources: list[Path], folder: Path, figure: Figure) -> None:
    """Run what passed, all in one command, and demand whole files or none."""
    ran = mill(
        "run", *sources, f"{folder}/out/", "--memory", "1GB", "--workers", 1,
        "--tile-size", 512, "--blocksize", 64,
    )  # fmt: skip
    assert ran.exit_code in (0, 1), ran.said
    ended = Counter(job["status"] for job in ran.document["jobs"])
    figure.measured(f"{figure.figure}; run: {dict(ended)}", figure.limit)
    assert sum(ended.values()) == len(sources)
    assert set(ended) <= {"successful", "failed", "refused"}
    made = {Path(job["output"]) for job in ran.document["jobs"] if job["status"] == "successful"}
    left = {path for path in (folder / "out").rglob("*") if path.is_file()}
    assert left == made
    for path in made:
        with rasterio.open(path) as dataset:
            dataset.read()
