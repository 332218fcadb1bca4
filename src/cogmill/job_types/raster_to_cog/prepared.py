"""What preflight prepares and stores with the job: the plan, and what it was made from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from cogmill.core_machine.contracts import JobView
from cogmill.raster.plan.plan_summary import PlanSummary
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.storage.location import Location


class Prepared(BaseModel):
    """What preflight stores with the job.

    Attributes
    ----------
    plan : RasterPlan
        Everything that tasks need to know of the raster.
    contributing : dict of Location to str
        The version of every file that the source's pixels and meaning come from.
    summary : PlanSummary
        What ``--json`` shows of the plan.
    explained : tuple of str
        The same for a person.
    older : dict of Location to str
        The version of what an older result left in the destination.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: RasterPlan
    contributing: dict[Location, str]
    summary: PlanSummary
    explained: tuple[str, ...]
    older: dict[Location, str] = {}


#: What was parsed last, by its digest: a child works through many tasks of one job, and a plan can
#: be large.
_last: tuple[str, Prepared] | None = None


def prepared_of(job: JobView[Any]) -> Prepared:
    """Return what preflight prepared for this job."""
    global _last
    if _last is None or not job.prepared_digest or _last[0] != job.prepared_digest:
        _last = job.prepared_digest, Prepared.model_validate(job.prepared)
    return _last[1]


def plan_of(job: JobView[Any]) -> RasterPlan:
    """Return the job's plan."""
    return prepared_of(job).plan
