"""A raster planned for a large worker is finished by two small ones, and its bytes are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.killing import Ended, Home
from tests.harness.nursery import Nursery
from tests.harness.picture import hashes

PLANNED_FOR = ("--memory", "3.5GB", "--workers", "1")
SMALL = ("--memory", "512MB", "--workers", "1")
#: Of one worker of 512 MB: what its process and its child may use together.
LIMIT = 512 << 20
OPTIONS = ("--dst-crs", "EPSG:3857", "--co", "LEVEL=1", "--strategy")


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made() as made, made.server.lease():
        yield made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a raster of one output tile, too much for a small worker, of little on disk."""
    path = tmp_path_factory.mktemp("source") / "source.tif"
    height, width = 1911, 2003
    form = {"driver": "GTiff", "dtype": "float64", "count": 3, "blockysize": 16}
    place = {"crs": "EPSG:32633", "transform": Affine(30, 0, 7e5, 0, -30, 5.6e6)}
    random = np.random.default_rng(5)
    with rasterio.open(
        path, "w", **form, **place, width=width, height=height, compress="zstd", nodata=-1
    ) as dataset:
        for band in range(1, 4):
            # Noise in few bits: it packs well, and no interpolation of it is right by chance.
            pixels = random.integers(0, 4, (height, width)).astype("float64")
            pixels[:, 700:731] = -1
            dataset.write(pixels, band)
    return path


@pytest.fixture(scope="module")
def mill(home: Home, nursery: Nursery) -> Mill:
    return home.mill(nursery)


def submitted(mill: Mill, source: Path, place: str, strategy: str) -> str:
    ran = mill("submit", source, place, *OPTIONS, strategy, *PLANNED_FOR)
    assert ran.exit_code == 0, ran.said
    return str(ran.document["job_id"])


def worked(home: Home, count: int, *memory: str) -> list[Ended]:
    running = [home.start("worker", "--until-idle", *memory) for _ in range(count)]
    return [each.end() for each in running]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        kinds = ["one COG, direct", "mosaic, two-stage"]
        metafunc.parametrize("kind", kinds if metafunc.config.getoption("--full") else kinds[:1])


def test_a_raster_planned_for_a_large_worker_is_finished_by_two_small_ones_with_the_same_bytes(
    home: Home,
    mill: Mill,
    source: Path,
    tmp_path: Path,
    figure: Figure,
    kind: str,
) -> None:
    form, strategy = kind.split(", ")
    name = "out.tif" if form == "one COG" else "out/"
    for folder in ("large", "small"):
        (tmp_path / folder).mkdir()
    submitted(mill, source, f"{tmp_path}/large/{name}", strategy)
    large = mill("worker", "--until-idle", *PLANNED_FOR)
    assert large.exit_code == 0, large.said
    job = submitted(mill, source, f"{tmp_path}/small/{name}", strategy)
    small = worked(home, 2, *SMALL)
    assert [ended.code for ended in small] == [0, 0], small
    with home.observer() as observer:
        kinds = observer.rows(
            "SELECT name, kind, count(*) FROM cogmill.task JOIN cogmill.stage "
            "USING (job_id, position) WHERE job_id = %s GROUP BY name, kind",
            job,
        )
        ((peak,),) = observer.rows(
            "SELECT max(peak_memory) FROM cogmill.task_result JOIN cogmill.task "
            "ON task.id = task_result.task_id WHERE job_id = %s",
            job,
        )
    counts = {(stage, what): int(count) for stage, what, count in kinds}
    assert counts["tiles", "split"] >= 1
    assert counts["tiles", "work"] > 1
    assert counts["assemble", "work"] >= 1
    same = hashes(tmp_path / "large") == hashes(tmp_path / "small")
    figure.measured(
        f"planned for 3.5 GB, done by two workers of 512 MB in {counts['tiles', 'work']} fragments "
        f"of {counts['tiles', 'split']} tile; peak of a child {peak / 2**20:.0f} MiB; bytes "
        f"{'the same' if same else 'differ'}",
        "the same, below 512 MiB",
    )
    assert same
    assert peak < LIMIT
