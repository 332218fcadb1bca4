"""Taking over, task by task, what an earlier generation of a lineage made, in a plan or a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cogmill.core_machine.contracts import Adoptable, JobView, PlannedTask, TaskType


def adopting(
    planned: Iterable[PlannedTask],
    adoptable: Iterable[Adoptable],
    task: TaskType[Any, Any, Any],
    job: JobView[Any],
    tools: Any,
) -> Iterator[PlannedTask]:
    """Mark the planned tasks whose result is there already.

    Parameters
    ----------
    adoptable : iterable of Adoptable
        Of the same plan, source and engine; where a key comes twice, the first counts.
    task : TaskType
        Is asked whether what a result names is still there.

    Yields
    ------
    PlannedTask
        Each of `planned`, in order, with `adopted_from` where it need not be done again.
    """
    made: dict[str, Adoptable] = {}
    for found in adoptable:
        made.setdefault(found.key, found)
    for one in planned:
        earlier = made.get(one.key)
        if earlier is not None and earlier.params == one.params:
            result = task.result.model_validate(earlier.result)
            if task.adopt(job, result, tools):
                yield one.model_copy(update={"adopted_from": earlier.task_id})
                continue
        yield one
