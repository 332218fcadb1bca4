"""Runs the stages of raster-to-cog one after the other in this process, without a machine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from cogmill.core_machine.contracts import JobView, Preflight, Previous, StageResult
from cogmill.job_types.raster_to_cog.inputs import Inputs
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.outputs import Outputs
from cogmill.job_types.raster_to_cog.request import raster_inputs
from cogmill.job_types.tools import Tools
from cogmill.raster.memory import GIB
from cogmill.storage.local_store import LocalStore
from cogmill.storage.location import FILE
from cogmill.storage.store import Storage

JOB_TYPE = RasterToCog()
#: Small blocks, so that a small raster has many output tiles.
SMALL: dict[str, Any] = {"blocksize": 64, "tile_size": 512}


def write_raster(path: Path, pixels: np.ndarray[Any, Any], **profile: Any) -> Path:
    """Write a striped GeoTIFF of these pixels, shape ``(band, row, col)``."""
    count, height, width = pixels.shape
    given: dict[str, Any] = {
        "crs": "EPSG:32633",
        "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5000000),
        "dtype": pixels.dtype,
    }
    size = {"count": count, "height": height, "width": width}
    with rasterio.open(path, "w", driver="GTiff", **size, **(given | profile)) as file:
        file.write(pixels)
    return path


def tools(memory: int = GIB) -> Tools:
    return Tools(
        storage=Storage({FILE: LocalStore()}),
        memory=memory,
        child_memory=memory,
        workers=1,
        host="here",
        staging=None,
        gdal_cache=16 << 20,
        progress=lambda done: None,
    )


@dataclass
class WholeJob:
    """One generation of a job; `run` takes it to its end.

    Attributes
    ----------
    memory : int
        Bytes that one child may use: what the plan must fit.
    found : Preflight
        What preflight said.
    outputs : Outputs
        What publish said.
    """

    source: Path
    destination: str
    generation: int = 1
    previous: Previous | None = None
    overwrite: bool = False
    options: dict[str, Any] = field(default_factory=lambda: dict(SMALL))
    memory: int = GIB

    @property
    def id(self) -> str:
        return f"{self.generation:064x}"

    def preflight(self) -> Preflight:
        inputs = raster_inputs(
            str(self.source),
            self.destination,
            self.options,
            tools().storage,
            overwrite=self.overwrite,
        )
        self.found = JOB_TYPE.preflight(inputs, self.previous, tools(self.memory))
        self.job = JobView[Inputs](
            id=self.id,
            lineage="lineage",
            generation=self.generation,
            type=JOB_TYPE.id,
            version=JOB_TYPE.version,
            inputs=inputs,
            source_identity=self.found.source_identity,
            engine=JOB_TYPE.engine(),
            prepared=json.loads(json.dumps(self.found.prepared)),
            prepared_digest=f"{self.id} {self.destination} {uuid.uuid4()}",
            attempt="t1-a1",
        )
        return self.found

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as ``--json`` shows it."""
        prepared: Any = self.job.prepared
        return dict(prepared["summary"])

    def run(self, *, until: str = "publish") -> WholeJob:
        self.preflight()
        return self.run_planned(until=until)

    def run_planned(self, *, until: str = "publish") -> WholeJob:
        self.results: dict[str, list[StageResult]] = {}
        for stage in JOB_TYPE.stages:
            self.results[stage.name] = [
                StageResult(key=key, result=value.model_dump(mode="json"))
                for key, value in self._stage(stage)
            ]
            if stage.name == until:
                break
        if until == "publish":
            (last,) = self.results["publish"]
            self.outputs = Outputs.model_validate(last.result)
            self.clean(successful=True)
        return self

    def publish(self) -> Any:
        """Make the one task of publish, ready to be called."""
        (stage,) = (each for each in JOB_TYPE.stages if each.name == "publish")
        return lambda: next(value for _, value in self._stage(stage))

    def clean(self, *, successful: bool) -> None:
        JOB_TYPE.clean(self.job, successful, tools())

    def next(self, **changes: Any) -> WholeJob:
        """Return the next generation of the same lineage."""
        given = {
            "source": self.source,
            "destination": self.destination,
            "options": self.options,
            **changes,
        }
        previous = Previous(outputs=self.outputs.model_dump(mode="json"))
        return WholeJob(generation=self.generation + 1, previous=previous, **given)

    def of(self, stage: str) -> Iterator[StageResult]:
        return iter(self.results[stage])

    def _stage(self, stage: Any) -> Iterator[tuple[str, Any]]:
        plan = stage.plan(self.job, self, tools(self.memory))
        for task in plan.tasks:
            params = stage.task.params.model_validate(task.params)
            yield task.key, stage.task.execute(self.job, params, plan.shared, tools(self.memory))
