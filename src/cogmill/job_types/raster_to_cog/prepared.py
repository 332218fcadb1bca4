"""What preflight prepares and stores with the job: the plan, and what it was made from."""

from __future__ import annotations

import json
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, JsonValue

from cogmill.core_machine.contracts import JobView
from cogmill.raster.plan.raster_plan import RasterPlan


class Prepared(BaseModel):
    """What preflight stores with the job.

    Attributes
    ----------
    plan : RasterPlan
        Everything that tasks need to know of the raster.
    contributing : dict of str to str
        Location to version of every file that the source's pixels and meaning come from.
    summary : dict
        What ``--json`` shows of the plan.
    explained : tuple of str
        The same for a person.
    older : dict of str to str
        Location to version of what an older result left in the destination.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: RasterPlan
    contributing: dict[str, str]
    summary: dict[str, JsonValue]
    explained: tuple[str, ...]
    older: dict[str, str] = {}


def prepared_of(job: JobView) -> Prepared:
    """Return what preflight prepared for this job."""
    return _parsed(job.id, json.dumps(job.prepared))


def plan_of(job: JobView) -> RasterPlan:
    """Return the job's plan."""
    return prepared_of(job).plan


@lru_cache(maxsize=1)
def _parsed(job_id: str, prepared: str) -> Prepared:
    # One job at a time: a child works through many tasks of one job, and a plan can be large.
    return Prepared.model_validate_json(prepared)
