"""What was measured, as JSON, as a Markdown table and as a picture."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

Summary = dict[str, Any]


def summarise(trials: list[dict[str, Any]]) -> Summary:
    """Add up the trials of one system and one fault."""
    counted = [trial for trial in trials if "error" not in trial]
    seconds = [trial["seconds"] for trial in counted if trial["seconds"] is not None]
    return {
        "trials": len(counted),
        "broken": len(trials) - len(counted),
        **{
            key: sum(trial[key] for trial in counted)
            for key in ("lost", "doubled", "stuck", "executions", "restarts")
        },
        "median_seconds": statistics.median(seconds) if seconds else None,
        "max_seconds": max(seconds, default=None),
    }


def cell(found: dict[str, Any]) -> str:
    """Write one cell: lost/doubled/stuck, median (maximum) seconds."""
    if "not_offered" in found:
        return "not offered"
    summary = found["summary"]
    if not summary["trials"]:
        return "broken"
    counts = "/".join(str(summary[key]) for key in ("lost", "doubled", "stuck"))
    if summary["lost"] or summary["doubled"] or summary["stuck"]:
        counts = f"**{counts}**"
    median, most = summary["median_seconds"], summary["max_seconds"]
    seconds = "-" if median is None else f"{median:.1f} ({most:.1f}) s"
    broken = f", {summary['broken']} broken" if summary["broken"] else ""
    return f"{counts}, {seconds}{broken}"


def markdown(report: dict[str, Any]) -> str:
    """Write the table, systems by faults, and what its cells mean."""
    faults: dict[str, str] = report["faults"]
    lines = [
        "| system | " + " | ".join(faults.values()) + " |",
        "| --- |" + " --- |" * len(faults),
    ]
    for name, system in report["systems"].items():
        results = system.get("results", {})
        cells = [cell(results[key]) if key in results else "-" for key in faults]
        lines.append(f"| {system.get('version', name)} | " + " | ".join(cells) + " |")
    settings = report["settings"]
    lines += [
        "",
        f"Cells: lost/doubled/stuck over {settings['trials']} trials, then the median (maximum)",
        f"seconds to recover; bound {settings['bound']:g} s. Heartbeat {settings['beat']:g} s,",
        f"taken for dead after {settings['silence']:g} s, look {settings['look']:g} s; workers and",
        f"servers start again after {settings['restart']:g} s; Celery's visibility time-out is",
        f"{settings['visibility']} s.",
        "",
        "*lost*: no outcome, and no record from which one could come. *doubled*: outcomes that the",
        "system accepted beyond the first. *stuck*: not over within the bound. Executions may",
        "repeat in every system; they are counted in the JSON file.",
        "",
    ]
    for name, system in report["systems"].items():
        for key, found in system.get("results", {}).items():
            notes = [found["not_offered"]] if "not_offered" in found else _notes(found)
            lines += [f"- {name}, {faults[key]}: {note}" for note in notes]
        if "error" in system:
            lines.append(f"- {name}: {system['error']}")
    return "\n".join(lines) + "\n"


def _notes(found: dict[str, Any]) -> list[str]:
    said = [note for trial in found["trials"] for note in trial.get("notes", ())]
    return ["; ".join(said)] * bool(said) + [
        trial["error"] for trial in found["trials"] if "error" in trial
    ]


def plot(report: dict[str, Any], path: Path) -> bool:
    """Draw seconds by fault, one colour a system; false when there is no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    faults: dict[str, str] = report["faults"]
    figure, axes = pyplot.subplots(figsize=(12, 5.5))
    systems = list(report["systems"].items())
    bound = report["settings"]["bound"]
    for row, (name, system) in enumerate(systems):
        colour = f"C{row}"
        label: str | None = system.get("version", name)
        for column, key in enumerate(faults):
            found = system.get("results", {}).get(key)
            if found is None:
                continue
            x = column + (row - (len(systems) - 1) / 2) * 0.15
            if "not_offered" in found:
                axes.annotate("n/o", (x, 0.12), color=colour, ha="center", fontsize=7)
                continue
            summary = found["summary"]
            if summary["median_seconds"] is not None:
                height = max(summary["median_seconds"], 0.1)
                axes.bar(x, height, 0.14, color=colour, label=label)
                axes.vlines(x, height, max(summary["max_seconds"], height), color="black")
                label = None
            said = [
                f"{summary[kind]} {kind}" for kind in ("lost", "doubled", "stuck") if summary[kind]
            ]
            if said:
                axes.annotate(
                    "\n".join(said), (x, bound), color=colour, rotation=90, ha="center", va="top",
                    fontsize=8,
                )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.1, bound * 1.1)
    axes.set_ylabel("seconds to recover: median, line to the maximum")
    axes.set_xticks(range(len(faults)), list(faults.values()), rotation=15)
    axes.set_title("Eight faults; in words what was lost, doubled or stuck")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return True


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write all three and return their paths."""
    paths = [folder / "bench-faults.json", folder / "bench-faults.md"]
    paths[0].write_text(json.dumps(report, indent=2) + "\n")
    paths[1].write_text(markdown(report))
    picture = folder / "bench-faults.png"
    if plot(report, picture):
        paths.append(picture)
    return paths
