"""Records every output byte of many kinds of input as SHA-256, or compares with such a record.

``python -m tests.baseline.outputs --write FILE`` before a change, ``--compare FILE`` after it. Each
kind is copied and reprojected, read directly and in two stages, into one COG and into a mosaic:
eight jobs, or with ``--half`` four in which each two of these meet. What is refused or fails is
recorded by its message. Another checkout is measured by ``--cogmill ITS/.venv/bin/cogmill``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tests.baseline import submitting
from tests.baseline.driving import (
    RESOURCES,
    Mill,
    WentWrongError,
    add_command,
    command_of,
    own_home,
    sums,
)
from tests.baseline.kinds import KINDS, Kind

MODES = ("copy", "warp")
STRATEGIES = ("direct", "two-stage")
DESTINATIONS = ("cog", "mosaic")
NAMES = {"cog": "one.tif", "mosaic": "tiles/"}
#: Blocks as small as can be: 3 x 3 output tiles are then a raster of 1,100 pixels.
SMALL = {"blocksize": 64, "tile_size": 512}
#: In messages it stands for the folder of this run, which is another one each time.
PLACE = "FOLDER"
LISTED = 40


@dataclass(frozen=True)
class Job:
    """One job, as it is submitted.

    Attributes
    ----------
    name : str
        ``kind/mode/strategy/destination``.
    source, destination : Path, str
        A destination of a mosaic ends in a slash.
    options : dict
        What `cogmill.submit` takes.
    """

    name: str
    source: Path
    destination: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """What differs between two records, each name with what it was and what it is."""

    changed: dict[str, tuple[str, str]]
    missing: tuple[str, ...]
    new: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.new)


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> Difference:
    """Compare what two records say of the same names."""
    return Difference(
        changed={
            name: (before[name], now[name])
            for name in sorted(before.keys() & now.keys())
            if before[name] != now[name]
        },
        missing=tuple(sorted(before.keys() - now.keys())),
        new=tuple(sorted(now.keys() - before.keys())),
    )


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Compare two records.

    Returns
    -------
    list of str
        What a person reads.
    bool
        Whether every output of the jobs that were run now is the same.
    """
    lines = []
    if before["engine"] != now["engine"]:
        lines += [
            "the engines differ, so bytes may differ for that reason alone:",
            f"  before: {before['engine']}",
            f"  now:    {now['engine']}",
        ]
    inputs = difference(before["inputs"], now["inputs"])
    if inputs:
        lines.append("the inputs differ, so their outputs may differ for that reason alone:")
        lines += _listed(inputs)
    done = set(now["jobs"])
    if left_out := [name for name in before["jobs"] if name not in done]:
        lines.append(f"{len(left_out)} of {len(before['jobs'])} jobs were not run this time")
    expected = {name: text for name, text in before["outputs"].items() if job_of(name) in done}
    outputs = difference(expected, now["outputs"])
    lines += _listed(outputs)
    same = len(expected) - len(outputs.changed) - len(outputs.missing)
    lines.append(
        f"{same} of {len(expected)} outputs are the same; {len(outputs.changed)} differ, "
        f"{len(outputs.missing)} are missing, {len(outputs.new)} are new"
    )
    return lines, not outputs


def job_of(output: str) -> str:
    """Return the name of the job that made an output."""
    return "/".join(output.split("/")[:4])


def _listed(found: Difference) -> Iterator[str]:
    for name, (was, now) in found.changed.items():
        yield f"  differs: {name}: {was[:LISTED]} was, {now[:LISTED]} is"
    yield from (f"  missing: {name}" for name in found.missing)
    yield from (f"  new: {name}" for name in found.new)


def combinations(number: int, *, half: bool) -> list[tuple[str, str, str]]:
    """Return mode, strategy and destination of each job of a kind.

    Of the eight, these four or the other four have every pair; kinds take them in turn.
    """
    found = []
    for places in product(range(2), repeat=3):
        if not half or sum(places) % 2 == number % 2:
            mode, strategy, destination = places
            found.append((MODES[mode], STRATEGIES[strategy], DESTINATIONS[destination]))
    return found


def jobs(sources: Mapping[str, Path], outputs: Path, *, half: bool) -> Iterator[Job]:
    """Yield every job of every kind."""
    for number, (name, source) in enumerate(sources.items()):
        for mode, strategy, destination in combinations(number, half=half):
            job = f"{name}/{mode}/{strategy}/{destination}"
            place = outputs / job
            place.mkdir(parents=True)
            options = options_of(KINDS[name], mode, source.parent)
            yield Job(
                job, source, f"{place}/{NAMES[destination]}", {**options, "strategy": strategy}
            )


def options_of(kind: Kind, mode: str, folder: Path) -> dict[str, Any]:
    """Return what is asked for of a kind, where its input lies in `folder`."""
    grid = dict(kind.warp) if mode == "warp" else {}
    if grid and kind.kernel:
        grid["resampling"] = kind.kernel
    wanted = {**RESOURCES, **SMALL, "profile": kind.profile, **kind.options, **grid}
    return {
        option: value.replace(PLACE, str(folder)) if isinstance(value, str) else value
        for option, value in wanted.items()
    }


def make_input(name: str, folder: Path) -> Path:
    """Write the input of a kind into a folder of its own."""
    place = folder / name
    place.mkdir()
    return KINDS[name].make(place)


def submit(mill: Mill, wanted: Sequence[Job]) -> dict[str, tuple[str | None, str]]:
    """Submit jobs, and return the id of each, or why it is refused, by name."""
    halves = (wanted[::2], wanted[1::2])

    def ask(half: Sequence[Job]) -> list[tuple[str | None, str]]:
        asked = [(str(job.source), job.destination, job.options) for job in half]
        answers = mill.script(Path(submitting.__file__), json.dumps(asked))
        return [(job_id, message) for job_id, message in json.loads(answers)]

    with ThreadPoolExecutor(len(halves)) as threads:
        answered = threads.map(ask, halves)
        return {
            job.name: answer
            for half, answers in zip(halves, answered, strict=True)
            for job, answer in zip(half, answers, strict=True)
        }


def results(
    mill: Mill, wanted: Sequence[Job], answers: Mapping[str, tuple[str | None, str]]
) -> dict[str, str]:
    """Return the sum of every file of every job, or what became of the job instead."""
    listed = mill.demand("jobs", "--limit", 10000)["jobs"]
    ended = {entry["job_id"]: entry for entry in listed}
    found: dict[str, str] = {}
    for job in wanted:
        job_id, message = answers[job.name]
        if job_id is None:
            found[job.name] = message
            continue
        entry = ended[job_id]
        failure = entry["failure"] or {}
        if entry["status"] != "successful":
            found[job.name] = f"{entry['status']}: {failure.get('message', 'no failure recorded')}"
        found |= {f"{job.name}/{file}": text for file, text in sums(Path(job.destination)).items()}
    return found


def telling_their_place(folder: Path) -> list[str]:
    """Return the outputs that hold the absolute path of this run's folder."""
    path = str(folder).encode()
    return sorted(
        str(file.relative_to(folder / "outputs"))
        for file in (folder / "outputs").rglob("*")
        if file.is_file() and path in file.read_bytes()
    )


def record(command: Path, folder: Path, *, half: bool) -> dict[str, Any]:
    """Make all inputs, run all jobs in an empty folder, and return the record."""
    clock = _Clock()
    (folder / "inputs").mkdir()
    with ProcessPoolExecutor(2) as processes:
        made = processes.map(make_input, KINDS, [folder / "inputs"] * len(KINDS))
        sources = dict(zip(KINDS, made, strict=True))
    clock.say(f"{len(sources)} inputs are made")
    wanted = list(jobs(sources, folder / "outputs", half=half))
    with own_home(command, folder) as mill:
        engine = mill.engine()
        answers = submit(mill, wanted)
        accepted = sum(job_id is not None for job_id, _ in answers.values())
        clock.say(f"{accepted} of {len(wanted)} jobs are submitted, the others refused")
        words = [f"--{name}={value}" for name, value in RESOURCES.items()]
        mill.demand("worker", "--until-idle", *words)
        clock.say("the worker is idle")
        found = results(mill, wanted, answers)
    outputs = {name: text.replace(str(folder), PLACE) for name, text in found.items()}
    clock.say(f"{len(outputs)} outputs are recorded")
    return {
        "engine": engine,
        "jobs": [job.name for job in wanted],
        "inputs": sums(folder / "inputs"),
        "absolute_paths": telling_their_place(folder),
        "outputs": dict(sorted(outputs.items())),
    }


class _Clock:
    """Says on standard error what is done, and when."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f} s: {what}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.baseline.outputs")
    add_command(parser)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the record to FILE")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare with such a record")
    parser.add_argument(
        "--half", action="store_true", help="four jobs of each kind, in half the time"
    )
    given = parser.parse_args(arguments)
    command = command_of(given.cogmill)
    # Looked at first: minutes are too long to wait for a name that is misspelt.
    if given.write is not None and not given.write.parent.is_dir():
        parser.error(f"{given.write} lies in no folder")
    before = None if given.compare is None else json.loads(given.compare.read_text())
    with tempfile.TemporaryDirectory(prefix="cogmill-baseline-") as folder:
        Path(folder).chmod(0o755)  # the database of root belongs to another user, who must get in
        now = record(command, Path(folder).resolve(), half=given.half)
    text = json.dumps(now, indent=1, ensure_ascii=False) + "\n"
    if given.write is not None:
        given.write.write_text(text)
    elif before is None:
        print(text, end="")
    for name in now["absolute_paths"]:
        print(f"{name} holds an absolute path", file=sys.stderr)
    if before is None:
        return 0
    lines, same = compared(before, now)
    print("\n".join(lines))
    return 0 if same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WentWrongError as error:
        sys.exit(str(error))
