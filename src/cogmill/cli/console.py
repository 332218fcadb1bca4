"""What is said: text for people on standard error, one JSON object on standard output.

A reader that goes away (`cogmill run ... 2>&1 | head`) never stops a job.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from cogmill.errors import CogmillError

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 200
"""Columns of a table that nobody sees on a terminal."""


class Output:
    """Where a command's words go.

    Parameters
    ----------
    as_json : bool
        True: the result is one JSON object on standard output.
    quiet : bool
        True: nothing but errors is said to people, and that what was interrupted can be resumed.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    @property
    def draws(self) -> bool:
        """Whether a person watches on a terminal."""
        return not self.quiet and sys.stderr.isatty()

    def console(self) -> Console:
        """Make the console that progress is drawn on."""
        from rich.console import Console  # here, because most commands draw nothing

        return Console(
            stderr=True,
            markup=False,
            emoji=False,
            highlight=False,
            width=None if sys.stderr.isatty() else _PIPED_WIDTH,
        )

    def say(self, text: str) -> None:
        """Tell a person something, unless `quiet`."""
        if not self.quiet:
            write_line(sys.stderr, text)

    def error(self, text: str) -> None:
        """Tell a person what went wrong, in one line, `quiet` or not."""
        write_line(sys.stderr, "cogmill: " + " ".join(text.split()))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Show a table to a person, unless `quiet`."""
        if self.quiet:
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            # As text, so that brackets in a file's name are no markup.
            table.add_row(*(Text(cell) for cell in row))
        console = self.console()
        with console.capture() as captured:
            console.print(table)
        write_line(sys.stderr, captured.get().rstrip("\n"))

    def result(self, document: dict[str, Any]) -> None:
        """Print the one JSON object, when it was asked for."""
        if self.as_json:
            # ASCII: it survives any locale, and a line is an object.
            reason = write_line(sys.stdout, json.dumps(document, default=str))
            if reason is not None:
                raise CogmillError(
                    f"the result cannot be written to standard output ({reason})",
                    "send it to a disk with room; what was done is recorded, see `cogmill jobs`",
                )


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a failure must be told as JSON too, before any option has been understood."""
    return "--json" in (arguments or sys.argv[1:])


def error_document(error: CogmillError) -> dict[str, Any]:
    """Return what is printed when there is no job to show."""
    failure = {"code": error.code, "message": error.message, "remedy": error.remedy}
    return {"status": "refused" if error.exit_code == 2 else "error", "failure": failure}


def write_line(stream: TextIO, text: str) -> str | None:
    """Write one line and flush it; a reader that has gone away is not told any more.

    Returns
    -------
    str or None
        Why the line could not be written, such as for a full disk. It never stops a job.
    """
    try:
        stream.write(_encodable(text, stream) + "\n")
        stream.flush()
    except BrokenPipeError:
        abandon(stream)
    except OSError as error:
        abandon(stream)
        return os.strerror(error.errno or 0)
    return None


def abandon(stream: TextIO) -> None:
    """Send what is still written to a stream whose reader has gone away nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_closed() -> None:
    """Let the standard streams that the caller has closed (``>&-``) lead nowhere.

    Otherwise the next file or socket gets their number, and what is said goes into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, so this one, for those below it are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r+"))


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


def size_text(size: float) -> str:
    """Return bytes for a person, in powers of 1024."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TB"


def time_text(seconds: float | None) -> str:
    """Return a duration as minutes and seconds."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
