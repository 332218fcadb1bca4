"""Run the benchmark: see the package's docstring for what is measured, and how."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.faults import pace, report, systems
from benchmarks.faults.processes import ClientProcess, NotOffered, Unanswered
from benchmarks.faults.scenarios import FAULTS, Fault
from benchmarks.faults.servers import Missing, Server
from benchmarks.faults.trial import STOP, Broken, System, Trial

BUILD = systems.PROJECT / "build"
_MOST_BROKEN = 2
"""Trials of a fault that may fail for reasons of their own before no more are made."""


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all faults on one system."""
    place = folder / name
    place.mkdir()
    # PostgreSQL may run as another user, who must get through.
    place.chmod(0o755)
    try:
        system, make_server = systems.make(name, arguments.venv, arguments.logs)
        server = make_server(place)
    except Missing as error:
        return {"error": str(error)}
    client = ClientProcess(system.launch)
    try:
        found: dict[str, Any] = {"version": system.version, "server": server.version}
        found["results"] = {
            fault.name: _trials(system, server, client, fault, place, arguments)
            for fault in FAULTS
            if fault.name in arguments.faults
        }
        return found
    finally:
        client.close()
        server.close()


def _result(future: Future[dict[str, Any]]) -> dict[str, Any]:
    try:
        return future.result()
    except Exception as error:  # one system's trouble must not cost the others' results
        traceback.print_exception(error)
        return {"error": f"{type(error).__name__}: {error}"}


def _trials(
    system: System,
    server: Server,
    client: ClientProcess,
    fault: Fault,
    place: Path,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    trials: list[dict[str, Any]] = []
    for _ in range(arguments.trials):
        if STOP.is_set() or sum("error" in trial for trial in trials) >= _MOST_BROKEN:
            break
        begun = time.monotonic()
        try:
            with Trial(system, server, client, place, arguments.bound) as trial:
                trials.append(dataclasses.asdict(fault.run(trial)))
        except NotOffered as reason:
            return {"not_offered": str(reason)}
        except (Broken, Unanswered, RuntimeError) as error:
            trials.append({"error": str(error)})
        took = f"{time.monotonic() - begun:5.1f} s"
        print(f"{system.name:14} {fault.name:20} {took} {trials[-1]}", flush=True)
    return {"summary": report.summarise(trials), "trials": trials}


def _arguments() -> argparse.Namespace:
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=3, help="trials a system and fault")
    parser.add_argument("--bound", type=float, default=45.0, help="seconds until a unit is stuck")
    parser.add_argument("--jobs", type=int, default=3, help="systems measured at once")
    parser.add_argument("--systems", nargs="+", default=list(systems.KINDS), choices=systems.KINDS)
    parser.add_argument("--faults", nargs="+", default=names, choices=names)
    parser.add_argument("--venv", type=Path, default=BUILD / "bench-faults-venv")
    parser.add_argument("--output", type=Path, default=BUILD)
    arguments = parser.parse_args()
    arguments.logs = arguments.output / "bench-faults-logs"
    return arguments


def _interrupted(*_: object) -> None:
    STOP.set()
    raise KeyboardInterrupt


def main() -> int:
    """Measure, write, and say where."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    shutil.rmtree(arguments.logs, ignore_errors=True)
    arguments.logs.mkdir(parents=True)
    # Short and open: a socket's path has 107 bytes, and PostgreSQL may run as another user.
    folder = Path(tempfile.mkdtemp(prefix="bench-faults-"))
    folder.chmod(0o755)
    # Those that take longest first.
    order = sorted(arguments.systems, key=list(systems.KINDS).index, reverse=True)
    begun = time.monotonic()
    try:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            futures = {name: pool.submit(measure, name, arguments, folder) for name in order}
            try:
                found = {name: _result(futures[name]) for name in arguments.systems}
            except BaseException:
                STOP.set()
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "settings": {
            "trials": arguments.trials,
            "bound": arguments.bound,
            "jobs": arguments.jobs,
            "beat": pace.BEAT,
            "silence": pace.SILENCE,
            "look": pace.LOOK,
            "restart": pace.RESTART,
            "visibility": pace.VISIBILITY,
        },
        "machine": {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "seconds": time.monotonic() - begun,
        "faults": {fault.name: fault.title for fault in FAULTS if fault.name in arguments.faults},
        "systems": found,
    }
    paths = report.write(result, arguments.output)
    print(report.markdown(result))
    print(f"bench-faults: {result['seconds']:.0f} s; wrote {', '.join(map(str, paths))}")
    return 1 if any("error" in one for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
