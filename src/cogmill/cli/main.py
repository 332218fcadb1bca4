"""The entry point: one group of commands, and the one place that turns errors into exit codes.

0 successful; 1 the job failed; 2 refused or wrong usage; 130 interrupted, resumable.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from cogmill.cli.console import (
    Output,
    abandon,
    error_document,
    open_closed,
    wants_json,
    write_line,
)
from cogmill.cli.signals import INTERRUPTED, interruptible
from cogmill.errors import CogmillError, Refused
from cogmill.version import VERSION

log = logging.getLogger(__name__)

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


#: Module and help line of each command, in the order of the list that people see.
COMMANDS: Final = {
    "run": ("run", "Turn SRC into COGs in DST, and wait."),
    "inspect": ("inspect", "Show how SRC is stored, and the plan with its reasons."),
    "submit": ("run", "Record the job that turns SRC into COGs in DST; a worker does it."),
    "jobs": ("jobs", "List the newest jobs."),
    "show": ("jobs", "Show a job: its stages, its result or its failure."),
    "dismiss": ("jobs", "Cancel a job and remove what it wrote."),
    "retry": (
        "jobs",
        "Make the next generation of an ended JOB; what succeeded is taken over, not done again.",
    ),
    "worker": ("worker", "Work on whatever is submitted."),
    "reconcile": ("worker", "Find and repair what crashes left behind."),
    "migrate": (
        "doctor",
        "Bring the database to the schema of this version; every command does so by itself.",
    ),
    "doctor": ("doctor", "Show what is in force, and whether each part answers."),
    "validate": (
        "validate",
        "Check that COG is a Cloud Optimized GeoTIFF, and decode every block of it.",
    ),
}


class _Commands(click.Group):
    """Loads the command that is called, and no other: what it needs takes most of a short one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"cogmill.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group("cogmill", cls=_Commands, context_settings=_CONTEXT)
@click.version_option(VERSION, prog_name="cogmill", message="%(prog)s %(version)s")
@click.pass_context
def cogmill(context: click.Context) -> None:
    """Turn huge rasters into reprojected Cloud Optimized GeoTIFFs, and never lose a job."""
    # The command is loaded by now: until then Ctrl-C ends the process (see `entry`).
    context.with_resource(interruptible())


@click.command("mill", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def mill(arguments: tuple[str, ...]) -> None:
    """Turn a raster into COGs, reprojected (`cogmill run`)."""
    main(["run", *arguments])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    open_closed()
    code = call(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            abandon(stream)
    sys.exit(code)


def call(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    out = Output(as_json=wants_json(arguments))
    try:
        code = cogmill.main(args=list(arguments), prog_name="cogmill", standalone_mode=False)
        return int(code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        write_line(sys.stderr, error.format_message())
        return 2
    except click.ClickException as error:
        return _told(out, _refusal(error))
    except CogmillError as error:
        log.debug("the whole story", exc_info=True)
        return _told(out, error)
    except (click.Abort, KeyboardInterrupt):
        out.error("interrupted; the same command resumes what was submitted")
        out.result({"status": "interrupted", "failure": None})
        return INTERRUPTED
    except BrokenPipeError:
        abandon(sys.stdout)
        return 1
    except Exception as error:
        log.debug("the whole story", exc_info=True)
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _told(
            out,
            CogmillError(
                f"cogmill met a defect of its own ({what})",
                "add --log-level DEBUG to see where, and report it",
            ),
        )


def _refusal(error: click.ClickException) -> Refused:
    """Return click's complaint as one of ours: one line, and where to look."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "cogmill"
    message = " ".join(error.format_message().split()).rstrip(".")
    return Refused(message, f"see `{command} --help`")


def _told(out: Output, error: CogmillError) -> int:
    out.error(str(error))
    out.result(error_document(error))
    return error.exit_code


if __name__ == "__main__":
    main()
