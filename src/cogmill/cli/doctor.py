"""``cogmill doctor`` and ``cogmill migrate``: is everything there, and does it answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from cogmill import runtime
from cogmill.cli.console import Output, size_text
from cogmill.cli.options import load_settings, output_options
from cogmill.errors import CogmillError
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.settings import Settings
from cogmill.storage.location import Location
from cogmill.version import VERSION

PATIENCE_SECONDS = 3.0
"""Who asks whether a database answers does not want to wait for one that does not."""


@click.command("doctor")
@output_options
def doctor(*, out: Output, log_level: str | None) -> int:
    """Show what is in force, and whether each part answers."""
    settings = load_settings(log_level=log_level)
    in_force = settings_document(settings)
    out.say(f"cogmill {VERSION}")
    out.table(("setting", "value"), [(name, _shown(name, in_force[name])) for name in in_force])
    checks = {
        "home": _answer(lambda: _home(settings)),
        "child": _answer(lambda: _child(settings)),
        "database": _answer(lambda: _database(settings)),
    }
    out.table(
        ("part", "answers", "what it says"),
        [(name, "yes" if ok else "NO", says) for name, (ok, says) in checks.items()],
    )
    out.result(
        {
            "version": VERSION,
            "settings": in_force,
            "parts": {name: {"ok": ok, "says": says} for name, (ok, says) in checks.items()},
        }
    )
    return 0 if all(ok for ok, _ in checks.values()) else 1


@click.command("migrate")
@output_options
def migrate(*, out: Output, log_level: str | None) -> int:
    """Bring the database to the schema of this version; every command does so by itself."""
    with runtime.machine(load_settings(log_level=log_level)) as machine:
        applied = machine.migrated
    for name in applied:
        out.say(f"applied {name}")
    if not applied:
        out.say("the schema is up to date")
    out.result({"applied": list(applied)})
    return 0


def settings_document(settings: Settings) -> dict[str, Any]:
    """Return the settings in force; a secret is shown as stars."""
    # Not as JSON: that form is for the child, which needs the secrets.
    values = settings.model_dump(mode="python", exclude={"pace"})
    values["pace"] = settings.effective_pace.model_dump()
    return {
        name: value if isinstance(value, int | dict) or value is None else str(value)
        for name, value in values.items()
    }


def _shown(name: str, value: Any) -> str:
    if name in ("memory", "gdal_cache"):
        return size_text(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {seconds:g} s" for key, seconds in value.items())
    return "-" if value is None else str(value)


def _answer(ask: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, ask()
    except CogmillError as error:
        return False, str(error)


def _home(settings: Settings) -> str:
    with runtime.tools(settings, lambda done: None, memory=0) as tools:
        home = Location.parse(str(settings.home)).as_collection()
        tools.storage.check_writable(home)
    return f"{settings.home} can be written to"


def _child(settings: Settings) -> str:
    child = runtime.spawn(settings)
    try:
        engine = json.loads(child.engines[RasterToCog.id])
    finally:
        child.close()
    return ", ".join(f"{name} {version}" for name, version in sorted(engine.items()) if version)


def _database(settings: Settings) -> str:
    with runtime.machine(settings, patience_seconds=PATIENCE_SECONDS) as machine:
        machine.state.jobs.recent(1)
    if machine.embedded is None:
        return "external"
    inside = machine.embedded.is_relative_to(settings.home.resolve())
    return f"embedded, in {machine.embedded}" + ("" if inside else ", which is not in COGMILL_HOME")
