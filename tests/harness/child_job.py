"""A whole job without a machine whose tasks run in one child, as a worker's do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel
from tests.harness.whole_job import WholeJob, tools

from cogmill.core_machine.child import frames
from cogmill.core_machine.child.process import Answer, Call, ChildProcess
from cogmill.core_machine.contracts import PlannedTask


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
        for task in plan.tasks:
            answer = self.ask(stage.name, task, plan.shared)
            assert isinstance(answer, frames.Returned), answer
            assert answer.peak_memory is not None
            self.peaks.append(Peak(stage.name, task.requires.memory, answer.peak_memory))
            yield task.key, stage.task.result.model_validate(answer.value)

    def ask(
        self, stage: str, task: PlannedTask, shared: BaseModel | None, **changes: Any
    ) -> Answer:
        """Have the child execute one task, and return what it says; `changes` are of the job."""
        # The child keeps what it was sent by its name.
        names = f"{self.id} {self.destination} prepared", f"{self.id} {self.destination} {stage}"
        told = None if shared is None else shared.model_dump(mode="json")
        bodies = dict(zip(names, (self.job.prepared, told), strict=True))
        known = self.job.model_dump(mode="json", exclude={"prepared", "prepared_digest"})
        request = frames.Run(
            what="execute",
            job=frames.RunningJob.model_validate({**known, **changes}),
            stage=stage,
            params=task.params,
            memory=task.requires.memory,
            prepared=names[0],
            shared=names[1],
        )
        answer, _ = self.child.run(request, bodies.__getitem__, Call())
        return answer
