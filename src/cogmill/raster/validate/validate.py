"""Is a file a COG, all of it: the rules of others' validators, and every block decoded.

The layout is judged from the tags by `layout_rules`, blocks by `block_checks`; GDAL is asked
whether it opens the file and takes the same directories for overviews.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import rasterio
from rasterio.errors import RasterioError

from cogmill.raster.cog.tags import ungeoreferenced_is_no_news
from cogmill.raster.tiff.block_table import DAMAGE, opened_tiff
from cogmill.raster.tiff.header import ByteSource, RecordingFile
from cogmill.raster.tiff.magic import MAGIC
from cogmill.raster.validate.block_checks import BlockChecks
from cogmill.raster.validate.layout_rules import (
    DAMAGED,
    REWRITE,
    Directory,
    chain_findings,
    layout_findings,
    read_directories,
    read_ghost,
)
from cogmill.raster.validate.verdict import Finding, Severity, Verdict

_FILE: Final = "file"
_NO_HEADER: Final = (*DAMAGE, MemoryError, RecursionError)


def validate_cog(
    data: ByteSource, gdal_path: str | None, memory: int, progress: Callable[[int], None]
) -> Verdict:
    """Return what is wrong with a file as a COG; every block of every image is decoded.

    Parameters
    ----------
    data : ByteSource
        The file.
    gdal_path : str or None
        The same file for GDAL; None where it cannot reach it, and is not asked.
    memory : int
        Bytes that decoding one block may take.
    progress : callable
        Told the number of blocks done so far.

    Returns
    -------
    Verdict
        Whatever the file holds; a damaged one is no error here.

    Raises
    ------
    StorageUnavailable
        When the store does not answer.
    """
    if (wrong := _no_tiff(data)) is not None:
        return Verdict(size_bytes=data.size, findings=(wrong,))
    with ExitStack() as files:
        try:
            tiff = files.enter_context(opened_tiff(RecordingFile(data)))
            directories = read_directories(tiff)
        except _NO_HEADER as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            wrong = _of_file("error", "header", f"its header cannot be read: {said}", DAMAGED)
            return Verdict(size_bytes=data.size, findings=(wrong,))
        bigtiff = bool(tiff.is_bigtiff)
        ghost = read_ghost(data, bigtiff=bigtiff, first_ifd=directories[0].ifd_offset)
        blocks = BlockChecks(data, ghost, memory, progress)
        blocks.check(tiff, directories)
        findings = [
            *chain_findings(data, tiff, directories[-1]),
            *layout_findings(directories, ghost),
            *blocks.findings,
        ]
    if gdal_path is not None:
        findings += _by_gdal(gdal_path, directories)
    return Verdict(
        size_bytes=data.size,
        bigtiff=bigtiff,
        levels=tuple(one.level() for one in directories),
        blocks_decoded=blocks.decoded,
        findings=tuple(sorted(findings, key=lambda finding: finding.severity)),
    )


def _no_tiff(data: ByteSource) -> Finding | None:
    start = data.read_ranges([(0, min(4, data.size))])[0] if data.size else b""
    if start in MAGIC:
        return None
    what = "it is no TIFF" if data.size else "it is empty"
    return _of_file("error", "header", what, "name a GeoTIFF; an upload may not have finished")


def _of_file(severity: Severity, rule: str, message: str, remedy: str) -> Finding:
    return Finding(rule=rule, severity=severity, where=_FILE, message=message, remedy=remedy)


def _by_gdal(path: str, directories: Sequence[Directory]) -> Iterator[Finding]:
    """Yield what GDAL sees otherwise."""
    inside = sum(1 for one in directories if one.reduced and not one.mask)
    try:
        with ungeoreferenced_is_no_news(), rasterio.open(path, driver="GTiff") as dataset:
            beside = [name for name in dataset.files if name.lower().endswith(".ovr")]
            taken = len(dataset.overviews(1))
    except RasterioError as error:
        said = " ".join(str(error).split())[:200]
        yield _of_file("error", "gdal", f"GDAL cannot open it: {said}", DAMAGED)
        return
    if beside:
        yield _of_file(
            "error",
            "overviews",
            "its overviews lie in a file of their own, an .ovr",
            f"remove that file, and {REWRITE}",
        )
    elif inside and taken != inside:
        yield _of_file(
            "error",
            "gdal",
            f"GDAL takes {taken} of its {inside} reduced images for overviews",
            REWRITE,
        )
