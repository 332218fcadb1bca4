"""The job types that are known: the built-in ones, and those that register by entry point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from cogmill.core_machine.contracts import JobType
from cogmill.errors import Refused, UnknownJobType
from cogmill.job_types.raster_to_cog.job_type import RasterToCog

ENTRY_POINTS = "cogmill.job_types"
BUILT_IN: tuple[type[JobType[Any, Any]], ...] = (RasterToCog,)


class Registry:
    """An immutable table of job types by id.

    Raises
    ------
    Refused
        Two types have one id.
    """

    def __init__(self, types: Iterable[JobType[Any, Any]]) -> None:
        table: dict[str, JobType[Any, Any]] = {}
        for job_type in types:
            if job_type.id in table:
                raise Refused(
                    f"two job types are called {job_type.id!r}", "uninstall one of their packages"
                )
            table[job_type.id] = job_type
        self._types = MappingProxyType(table)

    @classmethod
    def load(cls) -> Registry:
        """Make the registry of the built-in types and of those that packages register."""
        found = [point.load() for point in entry_points(group=ENTRY_POINTS)]
        return cls(make() for make in (*BUILT_IN, *found))

    def __iter__(self) -> Iterator[JobType[Any, Any]]:
        """Iterate the job types."""
        return iter(self._types.values())

    def get(self, type_id: str) -> JobType[Any, Any]:
        """Return a job type.

        Raises
        ------
        UnknownJobType
            There is none of that id.
        """
        try:
            return self._types[type_id]
        except KeyError:
            known = ", ".join(sorted(self._types))
            raise UnknownJobType(
                f"no job type is called {type_id!r}", f"known ones: {known}"
            ) from None

    def ids(self) -> Iterable[str]:
        """Return what a worker offers: each type as ``id:version``."""
        return [f"{job_type.id}:{job_type.version}" for job_type in self]
