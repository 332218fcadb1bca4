"""A child judges a file that lies anywhere: as a COG, and against what a manifest lists."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from cogmill.job_types.tools import Tools
from cogmill.raster import gdal
from cogmill.raster.validate.validate import validate_cog
from cogmill.raster.validate.verdict import Finding, Verdict
from cogmill.storage.location import Location
from cogmill.storage.store import ObjectMissing, RangeReader

_CHUNK = 8 << 20
_SAY_SECONDS = 1.0
_FETCH = "copy or fetch the folder again, or run its job again with --force"


def examine(place: str, listed: tuple[int, str] | None, tools: Tools) -> Verdict:
    """Return what is wrong with a file as a COG, and as what a manifest lists it.

    Parameters
    ----------
    place : str
        Absolute location. A listed file that does not end in ``.tif`` need not be a COG.
    listed : tuple of (int, str), optional
        Size in bytes and SHA-256 that it must have.

    Raises
    ------
    Refused, ObjectMissing
        There is no file to read, and none was listed.
    StorageUnavailable
        The store does not answer.
    """
    location = Location.parse(place)
    try:
        data = tools.storage.open(location)
    except ObjectMissing:
        if listed is None:
            raise
        wrong = _as_listed("it is listed, and not there")
        return Verdict(size_bytes=0, findings=(wrong,))
    with data, gdal.environment(tools.gdal_cache):
        say = _now_and_then(tools.progress)
        path = tools.storage.gdal_address(location).path
        verdict = Verdict(size_bytes=data.size)
        if listed is None or location.is_one_cog:
            verdict = validate_cog(data, path, tools.memory, say)
        wrong_bytes = [] if listed is None else _compared(data, listed, say)
    return verdict.model_copy(update={"findings": (*wrong_bytes, *verdict.findings)})


def _compared(
    data: RangeReader, listed: tuple[int, str], say: Callable[[int], None]
) -> list[Finding]:
    size, sha256 = listed
    if data.size != size:
        return [_as_listed(f"it has {data.size} bytes, and is listed with {size}")]
    found = hashlib.sha256()
    for start in range(0, size, _CHUNK):
        (part,) = data.read_ranges([(start, min(_CHUNK, size - start))])
        found.update(part)
        say(start)
    if found.hexdigest() != sha256:
        return [_as_listed(f"its SHA-256 is {found.hexdigest()}, and is listed as {sha256}")]
    return []


def _as_listed(message: str) -> Finding:
    return Finding(rule="as-listed", severity="error", where="file", message=message, remedy=_FETCH)


def _now_and_then(progress: Callable[[int], None]) -> Callable[[int], None]:
    """Tell a sign of life once a second: a file may have millions of blocks."""
    told = time.monotonic()

    def say(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > _SAY_SECONDS:
            told = time.monotonic()
            progress(done)

    return say
