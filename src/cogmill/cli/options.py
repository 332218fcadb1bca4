"""The options that several commands share, and what they turn into."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cogmill import telemetry
from cogmill.cli.console import Output, size_text
from cogmill.errors import Refused
from cogmill.raster.options.creation_options import CREATION_OPTIONS, OVERVIEW_RESAMPLING
from cogmill.raster.options.grid_options import BY_POINTS
from cogmill.raster.options.plan_options import PROFILE_NAMES, RESAMPLING, PlanOptions
from cogmill.settings import MINIMUM_MEMORY, Settings, machine_memory, parse_size

Command = TypeVar("Command", bound=Callable[..., Any])
PLAN_FIELDS = tuple(
    name for name in PlanOptions.model_fields if name not in ("memory", "workers", "exact")
)


def size(text: str) -> int:
    """Turn an amount of memory, such as 3.5GB, into bytes."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def resolution(text: str) -> tuple[float, float]:
    """Turn one number, or two as X,Y, into width and height of a pixel."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    match numbers:
        case [side]:
            return side, side
        case [width, height]:
            return width, height
    raise click.BadParameter(f"{text!r} is no pixel size; write it as 10 or as 10,20")


def key_value(text: str) -> tuple[str, str]:
    """Split KEY=VALUE at the first equals sign."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE; write it as LEVEL=9")
    return key, value


def _defaults(name: str) -> Any:
    return PlanOptions.model_fields[name].default


_PLAN_OPTIONS = (
    click.option("--dst-crs", metavar="CRS", help="Target coordinate system, such as EPSG:3857."),
    click.option(
        "--resolution", type=resolution, metavar="R", help="Size of a target pixel; two as X,Y."
    ),
    click.option(
        "--bounds", type=float, nargs=4, default=None, metavar="LEFT BOTTOM RIGHT TOP",
        help="Target area, in the target coordinate system.",
    ),
    click.option(
        "--align", is_flag=True,
        help="Corners are multiples of --resolution, as by gdalwarp -tap.",
    ),
    click.option(
        "--like", metavar="REF.tif", help="Take the coordinate system and grid of this raster."
    ),
    click.option(
        "--tiling-scheme", metavar="NAME",
        help="Lay blocks on the tiles of a tile matrix set, such as WebMercatorQuad.",
    ),
    click.option(
        "--zoom-level", type=int, metavar="N",
        help="Of the tiling scheme; by default the nearest to the source's resolution.",
    ),
    click.option(
        "--resampling", metavar="KERNEL",
        help=f"One of {', '.join(RESAMPLING)}. By default bilinear, nearest for classes.",
    ),
    click.option(
        "--overview-resampling", metavar="KERNEL",
        help=f"One of {', '.join(OVERVIEW_RESAMPLING)}; by default decided from the data.",
    ),
    click.option(
        "--profile", metavar="NAME", default=_defaults("profile"), show_default=True,
        help=f"Compression: one of {', '.join(PROFILE_NAMES)}. jpeg and webp (but for "
        "QUALITY=100) are lossy, and so is lerc with MAX_Z_ERROR: nodata becomes a mask there.",
    ),
    click.option(
        "--co", "creation_options", type=key_value, metavar="KEY=VALUE", multiple=True,
        help=f"A creation option, as GDAL names them: {', '.join(CREATION_OPTIONS)}.",
    ),
    click.option(
        "--blocksize", type=int, default=_defaults("blocksize"), show_default=True,
        help="Side of a block, in pixels.",
    ),
    click.option(
        "--tile-size", type=int, default=_defaults("tile_size"), show_default=True,
        help="Side of an output tile, in pixels: a multiple of eight blocks.",
    ),
    click.option("--nodata", type=float, help="The value that means nothing; nan is possible."),
    click.option(
        "--page", type=int, metavar="N",
        help="Which image of SRC, where its file holds several; as gdalinfo counts them, from 1.",
    ),
    click.option("--src-crs", metavar="CRS", help="The source's coordinate system, overriding it."),
    click.option(
        "--gcps", type=click.Choice(BY_POINTS),
        help="Place SRC by its ground control points: a polynomial of that order, or a thin-plate "
        "spline.",
    ),
    click.option(
        "--rpc-height", type=float, metavar="METRES",
        help="Place SRC by its rational polynomials (RPC), all of it at this height above the "
        "ellipsoid.",
    ),
    click.option(
        "--rpc-dem", metavar="DEM.tif",
        help="Place SRC by its rational polynomials (RPC) on the ground of this DEM, in EPSG:4326 "
        "and metres above the ellipsoid.",
    ),
    click.option(
        "--coordinate-operation", metavar="OP",
        help="PROJ pipeline or URN to use instead of the most accurate one.",
    ),
    click.option(
        "--strict-crs",
        is_flag=True,
        help="Fail where a better datum grid is missing, or a datum or its shift is not known.",
    ),
    click.option(
        "--allow-ballpark",
        is_flag=True,
        help="Ignore the difference between two datums where no operation is known.",
    ),
    click.option(
        "--ovr",
        type=click.Choice(["auto", "none"]),
        default="auto",
        show_default=True,
        help="Whether overviews of SRC are read where the target is that much coarser.",
    ),
    click.option("--exact", is_flag=True, help="Ask PROJ for every pixel."),
    click.option("--work-tile", type=int, metavar="PX", help="Largest side of a work tile."),
    click.option(
        "--strategy", type=click.Choice(["auto", "direct", "two-stage"]), default="auto",
        show_default=True, help="How the source is read.",
    ),
)  # fmt: skip

_WORKER_OPTIONS = (
    click.option(
        "--memory", type=size, metavar="3.5GB",
        help="What this process and its children may use; by default 80 % of what there is.",
    ),
    click.option(
        "--workers", type=click.IntRange(1, 256), metavar="N",
        help="Children that work at once; by default one a core.",
    ),
)  # fmt: skip

_SUBMIT_OPTIONS = (
    click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first."),
    click.option("--overwrite", is_flag=True, help="Foreign files in DST may be replaced."),
    click.option("--force", is_flag=True, help="Do all of it again, whatever was done before."),
)

_LOG_LEVEL = click.option(
    "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="How much is logged on standard error; COGMILL_LOG_LEVEL.",
)  # fmt: skip
_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
)
_QUIET = click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
_OUTPUT_OPTIONS = (_JSON, _QUIET, _LOG_LEVEL)


def _with(options: Sequence[Callable[[Any], Any]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        decorated: Any = command
        for option in reversed(options):
            decorated = option(decorated)
        result: Command = decorated
        return result

    return decorate


plan_options = _with(_PLAN_OPTIONS)
worker_options = _with(_WORKER_OPTIONS)
memory_option = _with(_WORKER_OPTIONS[:1])
submit_options = _with(_SUBMIT_OPTIONS)


def output_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add ``--json`` and ``--quiet``, handed on as one `Output`, and ``--log-level``."""

    @functools.wraps(command)
    def wrapped(*, as_json: bool, quiet: bool, **rest: Any) -> int:
        return command(out=Output(as_json=as_json, quiet=quiet), **rest)

    return _with(_OUTPUT_OPTIONS)(wrapped)


def plan_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given for a plan, by the fields of `PlanOptions`; removes it from `given`.

    Raises
    ------
    Refused
        An option is wrong.
    """
    values = {name: given.pop(name) for name in (*PLAN_FIELDS, "exact")}
    values["creation_options"] = dict(values["creation_options"])
    options = PlanOptions.parse({name: v for name, v in values.items() if v is not None})
    return options.model_dump(exclude={"memory", "workers"})


def load_settings(
    *, memory: int | None = None, workers: int | None = None, log_level: str | None = None
) -> Settings:
    """Return what is in force with the command line over it, and set up the logs.

    Raises
    ------
    Refused
        A value is wrong, or impossible.
    """
    if memory is not None and memory < MINIMUM_MEMORY:
        raise Refused(
            f"--memory {size_text(memory)} is too little to work with",
            f"give at least {size_text(MINIMUM_MEMORY)}",
        )
    settings = Settings.load(memory=memory, workers=workers, log_level=log_level)
    telemetry.set_up(settings.log_level, settings.log_format)
    return settings


def demand_memory(settings: Settings) -> None:
    """Refuse to work here with more memory than the machine has.

    Raises
    ------
    Refused
        The budget is larger.
    """
    there_is = machine_memory()
    if settings.memory > there_is:
        raise Refused(
            f"--memory {size_text(settings.memory)} is more than this machine has",
            f"give at most {size_text(there_is)}",
        )


def demand_parent(path: Path) -> None:
    """Refuse a file whose folder is not there.

    Raises
    ------
    Refused
        The folder does not exist.
    """
    if not path.parent.is_dir():
        raise Refused(f"the folder {path.parent} does not exist", "make it, or name another file")
