"""A whole job without a machine whose tasks run in one child, as a worker's do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import JsonValue
from tests.raster.whole_job import WholeJob, tools

from cogmill.core_machine import frames
from cogmill.core_machine.children import Call, ChildProcess


class Peak(NamedTuple):
    """Of one task: its stage, and its predicted and measured peak in bytes."""

    stage: str
    predicted: int
    measured: int


@dataclass
class ChildJob(WholeJob):
    """One job whose tasks a child executes one by one.

    Attributes
    ----------
    child : ChildProcess
        Reused from task to task.
    peaks : list of Peak
        Of the tasks so far.
    """

    child: ChildProcess = field(kw_only=True)
    peaks: list[Peak] = field(default_factory=list)

    def _stage(self, stage: Any) -> Iterator[tuple[str, Any]]:
        plan = stage.plan(self.job, self, tools(self.memory))
        prepared, shared = f"{self.id} prepared", f"{self.id} {stage.name}"
        bodies: dict[str, JsonValue] = {prepared: self.job.prepared, shared: plan.shared}
        job = self.job.model_copy(update={"prepared": None})
        for task in plan.tasks:
            request = frames.Run(
                what="execute",
                job=job,
                stage=stage.name,
                params=task.params,
                memory=task.requires.memory,
                prepared=prepared,
                shared=shared,
            )
            answer, _ = self.child.run(request, bodies.__getitem__, Call())
            assert isinstance(answer, frames.Returned), answer
            assert answer.peak_memory is not None
            self.peaks.append(Peak(stage.name, task.requires.memory, answer.peak_memory))
            yield task.key, stage.task.result.model_validate(answer.value)
