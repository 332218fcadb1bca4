"""`cogmill retry`: the next generation of a failed job takes over every tile that was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import killing
from tests.harness.command import Mill
from tests.harness.figure import Figure
from tests.harness.killing import (
    REPROJECTED,
    TWO_CHILDREN,
    Ended,
    Home,
    Observer,
    contents,
    in_stage,
    undisturbed,
)
from tests.harness.nursery import Nursery

KINDS = {
    "mosaic, direct": ("out/", "out/cogmill.json", "direct"),
    "mosaic, two-stage": ("out/", "out/cogmill.json", "two-stage"),
    "one COG, two-stage": ("out.tif", "out.tif", "two-stage"),
}


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made() as made, made.server.lease():
        yield made


@pytest.fixture(scope="module")
def mill(home: Home, nursery: Nursery) -> Mill:
    return home.mill(nursery)


def words(folder: Path, kind: str) -> tuple[object, ...]:
    destination, _, strategy = KINDS[kind]
    place = f"{folder}/{destination}"
    options = (*REPROJECTED, *TWO_CHILDREN, "--strategy", strategy)
    return "run", killing.source(), place, *options, "--json"


def fail_at_the_end(home: Home, folder: Path, kind: str) -> Ended:
    """Run a job whose last commit finds a folder in its way, and take that away again."""
    obstacle = folder / KINDS[kind][1]
    running = home.start(*words(folder, kind))
    running.strike(home, in_stage("publish"), lambda _: obstacle.mkdir(parents=True))
    failed = running.end()
    obstacle.rmdir()
    assert failed.code == 1, failed
    return failed


def counts(observer: Observer, job: str) -> tuple[int, int]:
    """Return how many work tasks of the stages before publish were adopted, and attempted."""
    query = (
        "SELECT count(adopted_from), coalesce(sum(attempt), 0) FROM cogmill.task "
        "JOIN cogmill.stage USING (job_id, position) "
        "WHERE job_id = %s AND kind = 'work' AND name <> 'publish'"
    )
    ((adopted, attempts),) = observer.rows(query, job)
    return int(adopted), int(attempts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_retry_adopts_what_succeeded_and_the_bytes_are_the_same(
    home: Home, mill: Mill, tmp_path: Path, figure: Figure, kind: str
) -> None:
    failed = fail_at_the_end(home, tmp_path, kind)
    job = failed.document["job_id"]
    # The person is told what to type next, and types it.
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("next (when its cause is mended")
    assert last.endswith(f": cogmill retry {job[:12]}")
    assert failed.document["failure"]["cause"] == "permanent"
    retried = mill("retry", job[:12])
    assert retried.exit_code == 0, retried.said
    assert (retried.document["created"], retried.document["generation"]) == (True, 2)
    worked = mill("worker", "--until-idle", *TWO_CHILDREN)
    assert worked.exit_code == 0, worked.said
    with home.observer() as observer:
        before, again = counts(observer, job), counts(observer, retried.document["job_id"])
        owed = observer.number("SELECT count(*) FROM cogmill.cleanup WHERE done_at IS NULL")
    figure.measured(f"{again[0]} tasks adopted, {again[1]} attempted again", "0 again")
    assert again == (before[1], 0)
    destination = KINDS[kind][0]
    assert contents(f"{tmp_path}/{destination}") == undisturbed(kind.split(", ")[0])
    assert owed == 0
    assert [path.name for path in tmp_path.iterdir()] == [destination.rstrip("/")]
    shown = mill("show", retried.document["job_id"])
    assert f"({again[0]} adopted)" in shown.said or "two-stage" in kind


def test_every_job_of_a_cause_is_retried_by_one_command(
    home: Home, mill: Mill, tmp_path: Path
) -> None:
    failed = fail_at_the_end(home, tmp_path, "mosaic, direct")
    none = mill("retry", "--cause", "hung")
    assert (none.exit_code, none.document) == (0, {"jobs": [], "refused": []})
    retried = mill("retry", "--cause", "permanent")
    assert retried.exit_code == 0, retried.said
    (made,) = retried.document["jobs"]
    with home.observer() as observer:
        rows = observer.rows("SELECT heir FROM cogmill.cleanup WHERE job_id = %s",
                             failed.document["job_id"])  # fmt: skip
    assert rows == [(made["job_id"],)]
    dismissed = mill("dismiss", made["job_id"])
    assert dismissed.exit_code == 0, dismissed.said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("retry",), "name one JOB, or a --cause"),
        (("retry", "none"), "no job begins with 'none'"),
        (("retry", "--cause", "bad luck"), "is not one of"),
    ],
)
def test_a_retry_of_nothing_is_refused_in_one_line(
    mill: Mill, arguments: tuple[str, ...], message: str
) -> None:
    refused = mill(*arguments)
    assert refused.exit_code == 2
    assert message in refused.said
    assert len(refused.said.strip().splitlines()) == 1
