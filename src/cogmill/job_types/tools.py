"""Tools: everything that a job type's code is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cogmill.storage.store import Storage


@dataclass(frozen=True)
class Tools:
    """What `preflight`, planners, `execute` and `clean` may use.

    Attributes
    ----------
    storage : Storage
        The one way to bytes.
    memory : int
        Bytes that this task was promised; 0 in preflight.
    child_memory : int
        Bytes that one child may use when all slots are busy: what a plan must fit.
    workers : int
        Children that one worker runs at once.
    host : str
        The name under which local paths are reachable.
    staging : str or None
        Where intermediates go, when not beside the destination.
    gdal_cache : int
        Bytes of GDAL's block cache.
    progress : callable
        Told the units (pixels) done so far.
    """

    storage: Storage
    memory: int
    child_memory: int
    workers: int
    host: str
    staging: str | None
    gdal_cache: int
    progress: Callable[[int], None]
