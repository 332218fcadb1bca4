"""RasterToCog, as the registry knows it: contracts only, no GDAL."""

from __future__ import annotations

from typing import ClassVar

from pydantic import JsonValue

from cogmill.core_machine.contracts import JobType, JobView, Preflight, Previous, StageType
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.results import Outputs
from cogmill.job_types.raster_to_cog.stages import (
    AssembleStage,
    OverviewsStage,
    PiecesStage,
    PublishStage,
    TilesStage,
)
from cogmill.job_types.tools import Tools
from cogmill.raster.options.plan_options import HINTS


class RasterToCog(JobType[Inputs, Tools]):
    """The built-in job type."""

    id: ClassVar[str] = "raster-to-cog"
    version: ClassVar[int] = 1
    inputs = Inputs
    outputs = Outputs
    hints: ClassVar[frozenset[str]] = HINTS | {"overwrite"}
    stages: tuple[StageType[Tools], ...] = (
        PiecesStage(),
        TilesStage(),
        AssembleStage(),
        OverviewsStage(),
        PublishStage(),
    )

    def engine(self) -> str:
        """Name the versions of everything that makes the bytes."""
        from cogmill.job_types.raster_to_cog import raster_preflight

        return raster_preflight.engine_text()

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Tools) -> Preflight:
        """Inspect the source, check the destination, and plan."""
        from cogmill.job_types.raster_to_cog import raster_preflight

        return raster_preflight.preflight_raster(inputs, previous, tools)

    def intact(self, outputs: JsonValue, tools: Tools) -> bool:
        """Whether every output is there as it was recorded."""
        from cogmill.job_types.raster_to_cog import publish

        return publish.outputs_intact(Outputs.model_validate(outputs), tools)

    def clean(self, job: JobView, successful: bool, tools: Tools) -> None:
        """Remove the staging areas; after a failure, withdraw what was published."""
        from cogmill.job_types.raster_to_cog import publish

        publish.clean_up(job, successful, tools)
