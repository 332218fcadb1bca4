"""raster-to-cog: one raster becomes one COG, or a mosaic of COG tiles.

This module is what parents import: contracts only, no GDAL. The work is in `raster_tasks`,
`raster_assembly` and `raster_publish`, loaded in a child when it is called for.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import JsonValue

from cogmill.core_machine.contracts import JobType, JobView, Preflight, Previous, StageType
from cogmill.job_types.raster_results import (
    Outputs,
)
from cogmill.job_types.raster_stages import (
    AssembleStage,
    OverviewsStage,
    PiecesStage,
    PublishStage,
    TilesStage,
)
from cogmill.job_types.tools import Tools
from cogmill.raster.options import HINTS, PlanOptions


class Inputs(PlanOptions):
    """What a user asks for: from where, to where, and the options of the plan.

    Attributes
    ----------
    source : str
        Absolute location of the raster.
    destination : str
        Absolute location: ``*.tif`` is one COG, a collection (ending in ``/``) a mosaic.
    overwrite : bool
        Hint: foreign files in the destination may be replaced.
    """

    source: str
    destination: str
    overwrite: bool = False


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
        from cogmill.job_types import raster_preflight

        return raster_preflight.engine()

    def preflight(self, inputs: Inputs, previous: Previous | None, tools: Tools) -> Preflight:
        """Inspect the source, check the destination, and plan."""
        from cogmill.job_types import raster_preflight

        return raster_preflight.preflight(inputs, previous, tools)

    def intact(self, outputs: JsonValue, tools: Tools) -> bool:
        """Whether every output is there as it was recorded."""
        from cogmill.job_types import raster_publish

        return raster_publish.intact(Outputs.model_validate(outputs), tools)

    def clean(self, job: JobView, successful: bool, tools: Tools) -> None:
        """Remove the staging areas; after a failure, withdraw what was published."""
        from cogmill.job_types import raster_publish

        raster_publish.clean(job, successful, tools)
