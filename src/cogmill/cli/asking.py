"""What was typed for `run` and `submit`, and what one and many sources share of carrying it out."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import Any

import click
from pydantic import JsonValue

from cogmill.cli.console import size_text
from cogmill.cli.options import plan_fields
from cogmill.core_machine.contracts import Job
from cogmill.errors import Refused
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.request import largest_task, raster_inputs
from cogmill.settings import PARENT_MEMORY, Settings
from cogmill.storage.store import Storage


@dataclass(frozen=True)
class Asked:
    """The arguments and options of one command, as typed but for the plan's, which are checked."""

    sources: tuple[str, ...]
    destination: str
    options: dict[str, Any]
    overwrite: bool
    force: bool
    priority: int

    @classmethod
    def of(cls, given: dict[str, Any]) -> Asked:
        """Return what click gave, the plan's options checked.

        Raises
        ------
        click.UsageError
            Only one name was given, which click takes for the last one.
        """
        if not given["sources"]:
            raise click.UsageError("Missing argument 'DST'.")
        options = plan_fields(given)
        return cls(options=options, **given)

    def inputs(self, source: str, destination: str, storage: Storage) -> Inputs:
        """Return the inputs of the job that makes one source into one destination."""
        return raster_inputs(source, destination, self.options, storage, overwrite=self.overwrite)


def demand_fit(settings: Settings, prepared: JsonValue, job: Job) -> None:
    """Refuse to wait for tasks that were planned for more memory than this process may use.

    Raises
    ------
    Refused
        With the memory that would do.
    """
    needed = largest_task(prepared)
    if needed > settings.memory - PARENT_MEMORY:
        raise Refused(
            f"job {job.id[:12]} was planned with tasks of {size_text(needed)}, more than "
            f"--memory {size_text(settings.memory)} leaves to one",
            f"give --memory {size_text(needed + PARENT_MEMORY + 2**20)} or more, or begin anew "
            f"after `cogmill dismiss {job.id[:12]}`",
        )


def same_command() -> str:
    """Return what was typed, to be typed again."""
    return shlex.join(["cogmill", *sys.argv[1:]])


def main_output(job: Job) -> str:
    """Return what a person opens first of what a job made."""
    match job.outputs:
        case {"main": str(main)}:
            return main
    return "its outputs"
