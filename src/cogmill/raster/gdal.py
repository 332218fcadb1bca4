"""GDAL's process-wide state: the only ``rasterio.Env``, and what the engine is made of."""

from __future__ import annotations

import logging
import platform
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.resources import as_file, files
from pathlib import PurePosixPath

import imagecodecs
import numpy as np
import pyproj
import pyproj.database
import rasterio
import tifffile
from pyproj.network import set_network_enabled  # type: ignore[attr-defined]  # it is public

from cogmill.errors import StorageUnavailable

#: Files of a VRT that GDAL keeps open, each perhaps with a decoded block or strip: one for each VRT
#: within a VRT, and one.
OPEN_MEMBERS = 4
#: The loggers to which rasterio hands GDAL's errors, and what it says of one that GDAL survives.
_LOGGERS = ("rasterio._env", "rasterio._err")
_SIGNALLED = "GDAL signalled an error: err_no=%r, msg=%r"
_CODEC_LIBRARIES = ("libdeflate", "zstd", "libjpeg_turbo", "libtiff", "libwebp")


@contextmanager
def environment(cache_bytes: int) -> Iterator[None]:
    """Hold GDAL's settings for the work inside: quiet, on one thread, with a bounded cache.

    Parameters
    ----------
    cache_bytes : int
        GDAL's block cache in bytes. (The option of ``rasterio.Env`` is bytes; the environment
        variable of the same name is megabytes.)

    Notes
    -----
    Sidecars are found by asking for their names: a folder of a million objects is never listed.
    They are read (PAM stays on: a CRS may live in an ``.aux.xml`` alone); nothing writes one, since
    sources are opened for reading and no statistics are computed. No grid is fetched over the
    network: what PROJ finds must not depend on the weather.
    """
    set_network_enabled(active=False)
    with rasterio.Env(
        GDAL_CACHEMAX=cache_bytes,
        GDAL_NUM_THREADS="1",
        GDAL_PAM_ENABLED="YES",
        GDAL_MEM_ENABLE_OPEN="YES",
        GDAL_MAX_DATASET_POOL_SIZE=OPEN_MEMBERS,
        GDAL_DISABLE_READDIR_ON_OPEN="TRUE",
        PROJ_NETWORK="OFF",
    ):
        yield


@contextmanager
def within_projections() -> Iterator[None]:
    """Have PROJ take each place back to where it came from, and give none that is not the same.

    It takes twice the time, so it is for those projections alone that need it.
    """
    with rasterio.Env(CHECK_WITH_INVERT_PROJ="TRUE"):
        yield


@contextmanager
def demand_readable(gdal_path: str) -> Iterator[None]:
    """Raise at the end what GDAL signals of one file, and then goes on without it.

    A DEM that cannot be opened, where the warp reprojects, is none to GDAL, and its pixels come
    from elsewhere; one that cannot be read leaves a hole. Only rasterio's log tells of either.

    Parameters
    ----------
    gdal_path : str
        The file.

    Raises
    ------
    StorageUnavailable
        It could not be opened or read.
    """
    name, heard = PurePosixPath(gdal_path).name, list[str]()

    def passes(record: logging.LogRecord) -> bool:
        if record.msg == _SIGNALLED and isinstance(record.args, tuple) and not heard:
            heard.extend(text for text in map(str, record.args) if name in text)
        return record.levelno >= levels[record.name]

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = {logger.name: logger.getEffectiveLevel() for logger in loggers}
    with ExitStack() as after:
        for logger in loggers:
            after.callback(logger.setLevel, logger.level)
            after.callback(logger.removeFilter, passes)
            logger.addFilter(passes)
            logger.setLevel(min(levels[logger.name], logging.INFO))
        try:
            yield
        finally:
            if heard:
                raise StorageUnavailable(
                    f"{gdal_path} cannot be read ({heard[0]})",
                    "check its permissions and its disk; cogmill inspect reads all that is needed",
                )


def versions() -> dict[str, str]:
    """Return the versions that decide the bytes of a result; equal ones promise equal bytes.

    Returns
    -------
    dict of str
        GDAL, both PROJ and their data, NumPy, codecs and the architecture, by name.
    """
    found = {
        "gdal": str(rasterio.__gdal_version__),
        "gdal_proj": str(rasterio.__proj_version__),
        "gdal_proj_data": _gdal_proj_data(),
        "pyproj": pyproj.__version__,
        "pyproj_proj": pyproj.proj_version_str,
        "pyproj_proj_data": str(pyproj.database.get_database_metadata("EPSG.VERSION")),
        "rasterio": rasterio.__version__,
        "numpy": np.__version__,
        "imagecodecs": imagecodecs.__version__,
        "tifffile": tifffile.__version__,
        "machine": platform.machine(),
    }
    libraries = [part.strip() for part in str(imagecodecs.version()).split(",")]
    for library in _CODEC_LIBRARIES:
        found[library] = next(
            (part.removeprefix(f"{library}-") for part in libraries if part.startswith(library)), ""
        )
    return dict(sorted(found.items()))


def _gdal_proj_data() -> str:
    """Return the EPSG version of the PROJ data inside rasterio's wheel, empty where it has none."""
    database = files("rasterio") / "proj_data" / "proj.db"
    if not database.is_file():
        return ""
    with as_file(database) as path:
        address = path.as_uri() + "?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as opened:
            row = opened.execute("SELECT value FROM metadata WHERE key = 'EPSG.VERSION'").fetchone()
    return str(row[0]) if row else ""
