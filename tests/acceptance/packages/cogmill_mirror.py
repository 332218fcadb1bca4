"""A job type in a package of its own that tells what it was given: it shows a child to a test."""

from __future__ import annotations

import ctypes
import os
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from cogmill.core_machine.contracts import (
    EarlierResults,
    JobType,
    JobView,
    PlannedTask,
    Preflight,
    Previous,
    Requirements,
    StagePlan,
    StageType,
    TaskType,
)
from cogmill.raster import gdal


class Wish(BaseModel):
    """With `overreach` the job is one of raster-to-cog, of whose source too little is held."""

    overreach: bool = False


class Inputs(BaseModel):
    """`number` tells one job from the other."""

    number: int


class Reflection(BaseModel):
    """What a child was given, and what GDAL in it goes by."""

    child_memory: int
    workers: int
    gdal_cache: int
    gdal_cache_in_force: int
    variables: list[str]
    virtual_files: list[str]


class Look(TaskType[Wish, Reflection, Any]):
    """Looks at its tools, at GDAL and at the environment."""

    params = Wish
    result = Reflection

    def execute(self, job: JobView[Inputs], params: Wish, shared: None, tools: Any) -> Reflection:
        with gdal.environment(tools.gdal_cache):
            if params.overreach:
                _overreach(job)
            in_force = _library().GDALGetCacheMax64()
        return Reflection(
            child_memory=tools.child_memory,
            workers=tools.workers,
            gdal_cache=tools.gdal_cache,
            gdal_cache_in_force=in_force,
            variables=sorted(name for name in os.environ if name.startswith("COGMILL")),
            virtual_files=_virtual_files(),
        )


def _overreach(job: JobView[Inputs]) -> None:
    """Have GDAL ask for source pixels that are not held."""
    # Here and not at the top: a parent, which loads no GDAL, imports this module too.
    from cogmill.job_types.raster_to_cog.prepared import plan_of
    from cogmill.raster.geometry.held_pixels import HeldPixels
    from cogmill.raster.plan.planning import tile_reads
    from cogmill.raster.plan.reads import block_row_windows
    from cogmill.raster.warp.exact_warp import warp

    plan = plan_of(job)
    ((work, source),) = tile_reads(plan, plan.tiles[0])
    assert plan.warp is not None
    assert source is not None
    too_little = source.model_copy(update={"height": source.height // 2})
    pixels = np.zeros((plan.warp.planes, too_little.height, too_little.width), plan.warp.dtype)
    for band in block_row_windows(work, plan.image.block):
        warp(plan.warp, HeldPixels(too_little, pixels, None), band)


def _virtual_files() -> list[str]:
    """Return the names of what lies in GDAL's /vsimem/."""
    library = _library()
    library.VSIReadDirRecursive.restype = ctypes.POINTER(ctypes.c_char_p)
    found = library.VSIReadDirRecursive(b"/vsimem/")
    names: list[str] = []
    while found and found[len(names)] is not None:
        names.append(found[len(names)].decode())
    library.CSLDestroy(found)
    return names


def _library() -> Any:
    """Return the GDAL that this process has loaded."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/libgdal" in line}
    (path,) = paths
    library = ctypes.CDLL(path)
    library.GDALGetCacheMax64.restype = ctypes.c_int64
    return library


class Looking(StageType[Any]):
    """One look."""

    name = "looking"
    task = Look()

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Any) -> StagePlan:
        needs = Requirements(memory=1 << 20)
        return StagePlan(tasks=(PlannedTask(key="look", params={}, requires=needs),))


class Mirror(JobType[Inputs, Any]):
    """Shows what a child was given."""

    id: ClassVar[str] = "mirror"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Reflection
    stages: tuple[StageType[Any], ...] = (Looking(),)

    def engine(self) -> str:
        return "glass 1"

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Any) -> Preflight:
        return Preflight(
            source_identity="light",
            prepared={"child_memory": tools.child_memory},
            reach="any",
            owns=f"mirror/{inputs.number}",
            plan_memory=1 << 20,
        )

    def intact(self, outputs: Any, tools: Any) -> bool:
        return True

    def clean(self, job: JobView[Inputs], successful: bool, tools: Any) -> None:
        return
