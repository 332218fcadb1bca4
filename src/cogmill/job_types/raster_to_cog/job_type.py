"""RasterToCog, as the registry knows it: contracts only, no GDAL."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from cogmill.core_machine.contracts import (
    EarlierResults,
    JobType,
    JobView,
    Preflight,
    Previous,
    StagePlan,
    StageType,
    TaskType,
)
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.outputs import Outputs
from cogmill.job_types.tools import Tools
from cogmill.raster.options.plan_options import HINTS


class _Stage(StageType[Tools]):
    """A stage by its name; what it plans and does is loaded when it is called for, in a child."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def _loaded(self) -> StageType[Tools]:
        from cogmill.job_types.raster_to_cog.stages import STAGES

        return STAGES[self.name]

    @property
    def task(self) -> TaskType[Any, Any, Tools]:
        """What its tasks are."""
        return self._loaded.task

    @property
    def shared(self) -> type[BaseModel] | None:
        """What its planner shares."""
        return self._loaded.shared

    def plan(self, job: JobView[Inputs], earlier: EarlierResults, tools: Tools) -> StagePlan:
        """Plan its tasks."""
        return self._loaded.plan(job, earlier, tools)


class RasterToCog(JobType[Inputs, Tools]):
    """The built-in job type."""

    id: ClassVar[str] = "raster-to-cog"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Outputs
    hints: ClassVar[frozenset[str]] = HINTS | {"overwrite"}
    stages: tuple[StageType[Tools], ...] = tuple(
        map(_Stage, ("pieces", "tiles", "assemble", "overviews", "publish"))
    )

    def engine(self) -> str:
        """Name the versions of everything that makes the bytes."""
        from cogmill.job_types.raster_to_cog import raster_preflight

        return raster_preflight.engine_text()

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Tools) -> Preflight:
        """Inspect the source, check the destination, and plan."""
        from cogmill.job_types.raster_to_cog import raster_preflight

        return raster_preflight.preflight_raster(inputs, previous, tools)

    def intact(self, outputs: Outputs, tools: Tools) -> bool:
        """Whether every output is there as it was recorded."""
        from cogmill.job_types.raster_to_cog import publish

        return publish.outputs_intact(outputs, tools)

    def clean(self, job: JobView[Inputs], successful: bool, tools: Tools) -> None:
        """Remove the staging areas; after a failure, withdraw what was published."""
        from cogmill.job_types.raster_to_cog import publish

        publish.clean_up(job, successful, tools)
