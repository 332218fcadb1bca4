"""Makes a home full of unfinished business, and proves that another checkout ends it well.

``python -m tests.baseline.state make HOME WORK`` before a change; ``check HOME WORK`` after it,
perhaps with ``--cogmill ITS/.venv/bin/cogmill``; ``remove HOME WORK`` in the end. A home can be
checked once: it has nothing left to do afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.baseline.driving import (
    Mill,
    WentWrongError,
    add_command,
    command_of,
    own_home,
    remove_home,
    sums,
)
from tests.baseline.makers import Raster, strips
from tests.baseline.striking import freeze, send, tree

RECORD = "state.json"
PATIENCE_SECONDS = 120.0
RESOURCES = ("--memory", "1GB", "--workers", "2")
#: Output tiles of eight blocks, and compression that takes a while: there is time for a kill.
OPTIONS = ("--dst-crs", "EPSG:3857", "--blocksize", "64", "--tile-size", "512", "--co", "LEVEL=9")
SOURCE = Raster(
    "float64", 3, strips(13, compress="deflate", zlevel=1), nodata=-9999, size=(1931, 1787)
)

#: The name of its folder is the seed of its pixels.
SOURCE_NAME = "source/input.tif"


@dataclass(frozen=True)
class Plan:
    """A job of the home: where it goes, how it is read, and what lies in the way of its end.

    Attributes
    ----------
    destination : str
        Relative to the folder of the work; a mosaic's ends in a slash.
    strategy : str
        ``direct`` or ``two-stage``.
    obstacle : str
        A folder where the last commit writes a file, so that the job fails when nearly all of it
        has succeeded.
    """

    destination: str
    strategy: str
    obstacle: str = ""


PLANS = {
    "successful": Plan("successful/tiles/", "direct"),
    "failed mosaic": Plan("failed/tiles/", "direct", "failed/tiles/cogmill.json"),
    "failed COG": Plan("failed_cog/one.tif", "two-stage", "failed_cog/one.tif"),
    "live": Plan("live/tiles/", "two-stage"),
    "submitted": Plan("submitted/one.tif", "direct"),
}


@dataclass(frozen=True)
class Standing:
    """How far a job has come, as `cogmill show` tells it.

    Attributes
    ----------
    status : str
        Of the job.
    attempts : int
        Of all its tasks together, those that plan a stage among them.
    succeeded, running, adopted : dict of str to int
        Tasks of each stage that has any.
    tasks : int
        All of them, with one that plans for each stage.
    """

    status: str
    attempts: int
    tasks: int
    succeeded: dict[str, int] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    adopted: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, mill: Mill, job_id: str) -> Standing:
        shown = mill.demand("show", job_id)
        stages = shown["stages"]
        counts = {
            name: {stage["name"]: stage[name] for stage in stages if stage[name]}
            for name in ("succeeded", "running", "adopted")
        }
        tasks = len(stages) + sum(stage["planned"] or 0 for stage in stages)
        return cls(shown["status"], shown["attempts"], tasks, **counts)


@dataclass(frozen=True)
class Recorded:
    """What `make` knows of a job, and `check` expects.

    Attributes
    ----------
    job_id, standing : str, Standing
        When `make` ended.
    sums : dict of str to str
        SHA-256 of each file that a clean run made elsewhere.
    """

    job_id: str
    standing: Standing
    sums: dict[str, str]


@dataclass(frozen=True)
class Ground:
    """A command with the home of the jobs, the raster that they read and the folder they write to.

    Attributes
    ----------
    mill : Mill
        The command and the home.
    source, work : Path
        The raster and the folder.
    """

    mill: Mill
    source: Path
    work: Path

    def words(self, name: str) -> tuple[object, ...]:
        """Return the arguments of `run` and `submit`, the same each time."""
        plan = PLANS[name]
        place = f"{self.work}/{plan.destination}"
        return self.source, place, *OPTIONS, *RESOURCES, "--strategy", plan.strategy

    def destination(self, name: str) -> Path:
        return self.work / PLANS[name].destination

    def obstacle(self, name: str) -> Path:
        return self.work / PLANS[name].obstacle

    def work_until_idle(self) -> None:
        self.mill.demand("worker", "--until-idle", *RESOURCES)

    def prepare(self) -> None:
        """Make the folders that the destinations lie in."""
        for name in PLANS:
            self.destination(name).parent.mkdir(parents=True, exist_ok=True)


def failing() -> list[str]:
    return [name for name, plan in PLANS.items() if plan.obstacle]


def make(command: Path, home: Path, work: Path) -> None:
    """Make the home and its jobs, and write down what is to be expected of them."""
    for folder in (home, work):
        if folder.exists():
            raise WentWrongError(f"{folder} is there already; name a new folder")
        # Root's server runs as another user, who must be let in.
        folder.mkdir(mode=0o755, parents=True)
    ground = Ground(Mill(command, home, work), work / SOURCE_NAME, work)
    ground.source.parent.mkdir()
    SOURCE(ground.source.parent)
    ground.prepare()
    expected = clean_sums(command, ground)
    say("the clean run is done")
    ids = {"successful": ground.mill.demand("run", *ground.words("successful"))["job_id"]}
    ids |= fail(ground)
    say("the jobs that fail have failed")
    # From here on no worker may look after the dead one: it would give the running tasks back.
    ids["live"] = interrupt(ground, "live")
    say("the live job is killed")
    ids["submitted"] = ground.mill.demand("submit", *ground.words("submitted"))["job_id"]
    found = {
        name: Recorded(ids[name], Standing.of(ground.mill, ids[name]), expected[name])
        for name in PLANS
    }
    demand_as_meant({name: each.standing for name, each in found.items()})
    document = document_of(ground.mill.engine(), found)
    (work / RECORD).write_text(json.dumps(document, indent=1) + "\n")
    say(f"{home} holds {len(ids)} jobs; {work / RECORD} says what is expected of them")


def document_of(engine: str, found: Mapping[str, Recorded]) -> dict[str, Any]:
    """Return what is written down: of each job what `Recorded` has, and what it was asked for."""
    jobs = {
        name: {
            "destination": PLANS[name].destination,
            "strategy": PLANS[name].strategy,
            **asdict(each),
        }
        for name, each in found.items()
    }
    return {"engine": engine, "jobs": jobs}


def clean_sums(command: Path, ground: Ground) -> dict[str, dict[str, str]]:
    """Return what each job makes undisturbed, in another home and another folder."""
    folder = ground.work / "clean"
    folder.mkdir(mode=0o755)
    found = {}
    with own_home(command, folder) as mill:
        clean = Ground(mill, ground.source, folder)
        clean.prepare()
        for name in PLANS:
            mill.demand("submit", *clean.words(name))
        clean.work_until_idle()
        for name in PLANS:
            found[name] = sums(clean.destination(name))
            if not found[name]:
                raise WentWrongError(f"the clean run of the {name} job made nothing")
    shutil.rmtree(folder)
    return found


def fail(ground: Ground) -> dict[str, str]:
    """Let jobs fail in their last task, and return their ids."""
    ids = {}
    for name in failing():
        ids[name] = ground.mill.demand("submit", *ground.words(name))["job_id"]
        # After the submit: it would refuse a destination that something lies in.
        ground.obstacle(name).mkdir(parents=True)
    ground.work_until_idle()
    return ids


def interrupt(ground: Ground, name: str) -> str:
    """Kill a run with everything below it while tiles are made, and return the job's id.

    That is no race: the whole tree is stopped first, then looked at again, and killed only where
    some tiles have still succeeded and one runs.
    """
    running = ground.mill.start("run", *ground.words(name))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while running.poll() is None and time.monotonic() < deadline:
        job_id = newest(ground, name)
        if job_id is None or not in_the_middle(Standing.of(ground.mill, job_id)):
            continue
        frozen = freeze(running.pid)
        if in_the_middle(Standing.of(ground.mill, job_id)):
            send(frozen, signal.SIGKILL)
            running.wait()
            return job_id
        send(frozen, signal.SIGCONT)
    send(tree(running.pid), signal.SIGKILL)
    raise WentWrongError(f"the {name} job was never in the middle of its tiles")


def newest(ground: Ground, name: str) -> str | None:
    """Return the id of the newest job, where it is this one."""
    (entry,) = ground.mill.demand("jobs", "--limit", 1)["jobs"]
    return str(entry["job_id"]) if entry["destination"] == ground.words(name)[1] else None


def in_the_middle(standing: Standing) -> bool:
    return standing.succeeded.get("tiles", 0) >= 3 and standing.running.get("tiles", 0) >= 1


def demand_as_meant(found: dict[str, Standing]) -> None:
    """Demand that the jobs stand as a check needs them."""
    wanted = {"successful": "successful", "live": "running", "submitted": "accepted"}
    for name, standing in found.items():
        if standing.status != wanted.get(name, "failed"):
            raise WentWrongError(f"the {name} job is {standing.status}")
    if not in_the_middle(found["live"]):
        raise WentWrongError(f"the live job is not in the middle: {found['live']}")
    for name in failing():
        if not found[name].succeeded.get("tiles"):
            raise WentWrongError(f"the {name} job has nothing to adopt: {found[name]}")


class Proofs:
    """Says each proof in one line, and counts those that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, holds: bool, what: str, found: object) -> None:
        self.failed += not holds
        print(f"{'proved' if holds else 'FAILED'}: {what} ({found})", flush=True)


def check(command: Path, home: Path, work: Path) -> int:
    """End what `make` left, prove that it ended well, and return how many proofs failed."""
    ground = Ground(Mill(command, home, work), work / SOURCE_NAME, work)
    document = json.loads((work / RECORD).read_text())
    jobs = {
        name: Recorded(each["job_id"], Standing(**each["standing"]), each["sums"])
        for name, each in document["jobs"].items()
    }
    proofs = Proofs()
    engine = ground.mill.engine()
    if engine != document["engine"]:
        say(f"the engine differs, so jobs are begun anew: {document['engine']} was, {engine} is")
    for name, job in jobs.items():
        standing = Standing.of(ground.mill, job.job_id)
        proofs(standing == job.standing, f"the {name} job stands as it was left", standing.status)
    if proofs.failed:
        say(f"{home} is not as it was left, so nothing was done; was it checked before?")
        return proofs.failed
    # First of all, for whoever works may remove what a failed job staged a day ago.
    retried = {name: retry(ground, name, jobs[name]) for name in failing()}
    check_live(ground, jobs["live"], proofs)
    ground.work_until_idle()
    for name, job_id in retried.items():
        check_retried(Standing.of(ground.mill, job_id), name, jobs[name].standing, proofs)
    submitted = Standing.of(ground.mill, jobs["submitted"].job_id)
    proofs(submitted.status == "successful", "the submitted job was done", submitted.status)
    again = ground.mill("run", *ground.words("successful"))
    nothing = again.code == 0 and again.said.startswith("nothing to do")
    proofs(nothing, "the successful job had nothing to do", again.said.strip())
    for name, job in jobs.items():
        found = sums(ground.destination(name))
        same = found == job.sums
        proofs(same, f"the {name} job made the bytes of a clean run", f"{len(found)} files")
    return proofs.failed


def retry(ground: Ground, name: str, job: Recorded) -> str:
    """Mend the cause of a failed job, retry it, and return the id of its next generation."""
    with contextlib.suppress(FileNotFoundError):
        ground.obstacle(name).rmdir()
    return str(ground.mill.demand("retry", job.job_id)["job_id"])


def check_live(ground: Ground, job: Recorded, proofs: Proofs) -> None:
    """Prove that the same command ends the killed job, and does again what ran alone."""
    ended = ground.mill("run", *ground.words("live"))
    standing = Standing.of(ground.mill, job.job_id)
    proofs(
        ended.code == 0 and standing.status == "successful",
        "the same command ended the killed job",
        standing.status if ended.code == 0 else ended.said.strip(),
    )
    repeated = standing.attempts - standing.tasks
    interrupted = sum(job.standing.running.values())
    proofs(
        repeated == interrupted,
        f"no task that had succeeded was done again, of {sum(job.standing.succeeded.values())}",
        f"{repeated} of {standing.tasks} tasks had a second attempt, {interrupted} were running",
    )


def check_retried(standing: Standing, name: str, before: Standing, proofs: Proofs) -> None:
    """Prove that a retried job is successful, and took over what had succeeded."""
    proofs(standing.status == "successful", f"the {name} job was retried", standing.status)
    adopted = sum(standing.adopted.values())
    proofs(
        adopted > 0 and standing.adopted == before.succeeded,
        f"the {name} job adopted all that had succeeded",
        f"adopted: {standing.adopted}",
    )
    done = standing.attempts
    proofs(
        done == standing.tasks - adopted,
        f"the {name} job did nothing of it again",
        f"{done} attempts at {standing.tasks} tasks",
    )


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.baseline.state")
    parser.add_argument("what", choices=("make", "check", "remove"))
    parser.add_argument("home", type=Path, help="the COGMILL_HOME of the jobs")
    parser.add_argument("work", type=Path, help="the folder of their source and their outputs")
    add_command(parser)
    given = parser.parse_args(arguments)
    home, work = given.home.absolute(), given.work.absolute()
    command = command_of(given.cogmill)
    if given.what == "make":
        make(command, home, work)
    elif given.what == "check":
        failed = check(command, home, work)
        print("every proof holds" if not failed else f"{failed} proofs failed")
        return 1 if failed else 0
    else:
        remove_home(home)
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WentWrongError as error:
        sys.exit(str(error))
