"""JobProcessor submits jobs; TaskProcessor claims, runs and settles what they are made of.

Both only call the transitions of the state. A job type appears here as what its contract says and
nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import BaseModel, JsonValue

from cogmill.core_machine.child import frames
from cogmill.core_machine.child.process import (
    Call,
    ChildDied,
    ChildProcess,
    SpareChild,
    SpareChildren,
)
from cogmill.core_machine.contracts import (
    Adoptable,
    Cancelled,
    Cause,
    CleanUp,
    Failed,
    Failure,
    Job,
    JobStatus,
    JobType,
    JobTypes,
    PlannedTask,
    Preflight,
    Released,
    Retry,
    StageResult,
    Succeeded,
    Task,
    TaskKind,
    TaskOutcome,
)
from cogmill.core_machine.model.identity import job_id
from cogmill.core_machine.state import StateManager
from cogmill.core_machine.state.generations import NewJob, NewStage
from cogmill.core_machine.state.tasks import Attempt, Settled
from cogmill.core_machine.transitions import wakeups
from cogmill.core_machine.transitions.claims import Claim, ClaimingRow, ClaimT, Processed
from cogmill.core_machine.transitions.preflight import preflight
from cogmill.core_machine.transitions.settlement import Settlement, death_failure, defect
from cogmill.core_machine.transitions.wakeups import WakeupPublisher
from cogmill.errors import (
    CogmillError,
    DatabaseUnavailable,
    DestinationBusy,
    DestinationTaken,
    Refused,
    TransientError,
)

log = logging.getLogger(__name__)

SUBMIT_LOOKS = 10
CLEANED_SECONDS = 60.0
"""Seconds that a submit waits for a clean-up of its destination; for a dead worker's it is less."""
LOOK_SECONDS = 0.5
MOST_PRIORITY = 2**15 - 1
"""The database keeps a priority in two bytes."""
CLEAN_RETRY_SECONDS = 30.0
"""Seconds until a clean-up that failed is due again; doubled each time, up to 64 times so long."""


@dataclass(frozen=True)
class Submitted:
    """The job that answers a submit, and whether this submit made it."""

    job: Job
    created: bool


@dataclass(frozen=True)
class _Request:
    """A submit: what is asked for, and what of earlier generations does not count."""

    job_type: JobType[Any, Any]
    inputs: BaseModel
    priority: int
    anew: bool
    adopt_before: int | None


class JobProcessor:
    """Turns a request into a recorded job, or finds the job that already answers it.

    Parameters
    ----------
    children : SpareChildren
        Where the child comes from that runs preflight; asked only when one is needed.
    """

    def __init__(
        self,
        state: StateManager,
        types: JobTypes,
        publisher: WakeupPublisher,
        children: SpareChildren,
    ) -> None:
        self._state = state
        self._types = types
        self._publisher = publisher
        self._children = children

    def submit(
        self, type_id: str, inputs: BaseModel, *, priority: int = 0, force: bool = False
    ) -> Submitted:
        """Record a job before answering, or answer with the one of the same lineage.

        Raises
        ------
        Refused
            Preflight refused the input, another live job owns the destination, or a priority that
            the database has no room for.
        """
        request = self._request(type_id, inputs, priority, force)
        with self._children.lent() as preflights:
            return self._submit(request, preflights)

    def submit_all(
        self, type_id: str, many: Iterable[BaseModel], *, priority: int = 0, force: bool = False
    ) -> Iterator[Submitted | CogmillError]:
        """Submit one job for each of the inputs, all looked at by one child.

        Yields
        ------
        Submitted or CogmillError
            For each inputs the answer, or why there is none; it does not stop the others.

        Raises
        ------
        DatabaseUnavailable
            The database does not answer.
        """
        with self._children.lent() as preflights:
            for inputs in many:
                try:
                    request = self._request(type_id, inputs, priority, force)
                    answer: Submitted | CogmillError = self._submit(request, preflights)
                except DatabaseUnavailable:
                    raise
                except CogmillError as error:
                    answer = error
                yield answer

    def _request(self, type_id: str, inputs: BaseModel, priority: int, force: bool) -> _Request:
        if abs(priority) > MOST_PRIORITY:
            raise Refused(
                f"priority {priority} is out of range",
                f"use one from -{MOST_PRIORITY} to {MOST_PRIORITY}",
            )
        job_type = self._types.get(type_id)
        return _Request(job_type, inputs, priority, anew=force, adopt_before=0 if force else None)

    def retry(self, prefix: str, *, from_stage: str | None = None) -> Submitted:
        """Make the next generation of an ended job's lineage; what succeeded is taken over.

        Parameters
        ----------
        prefix : str
            The beginning of the job's id.
        from_stage : str, optional
            The first stage that is done again whatever is there of it; a successful job can be
            retried only so.

        Raises
        ------
        JobNotFound, UnknownJobType
            There is no such job, or its type is not installed here.
        Refused
            There is nothing to retry, the stage is unknown, or preflight refused the input.
        """
        job = self._state.jobs.get(prefix)
        job_type = self._types.get(job.type)
        names = [stage.name for stage in job_type.stages]
        if from_stage is not None and from_stage not in names:
            raise Refused(
                f"job type {job.type} has no stage {from_stage!r}", f"it has {', '.join(names)}"
            )
        newest = self._state.generations.newest(job.lineage) or job
        if newest.status is JobStatus.SUCCESSFUL and from_stage is None:
            raise Refused(
                f"job {newest.id[:12]} of the same lineage is successful already",
                "name the stage to begin with (--from-stage), or run it with --force",
            )
        inputs = job_type.inputs.model_validate(newest.inputs)
        before = None if from_stage is None else names.index(from_stage)
        request = _Request(job_type, inputs, newest.priority, anew=True, adopt_before=before)
        with self._children.lent() as preflights:
            return self._submit(request, preflights)

    def _submit(self, request: _Request, preflights: SpareChild) -> Submitted:
        job_type = request.job_type
        lineage = job_type.lineage(request.inputs)
        for _ in range(SUBMIT_LOOKS):
            newest = self._state.generations.newest(lineage)
            if newest is not None and not newest.status.terminal:
                if newest.engine in self._state.workers.engines():
                    return Submitted(job=newest, created=False)
                if newest.engine == preflights.get().engines[job_type.id]:
                    return Submitted(job=newest, created=False)
                self._supersede(newest)
                continue
            child = preflights.get()
            asked = frames.PreflightRequest(
                job_type=job_type.id,
                inputs=request.inputs.model_dump(mode="json"),
                previous=None if newest is None else self._state.generations.previous(lineage),
            )
            try:
                found, intact = preflight(child, asked)
            except DestinationTaken as taken:
                raise self._named(taken, lineage) from None
            engine = child.engines[job_type.id]
            if newest and intact and not request.anew and _same(newest, found, engine):
                return Submitted(job=newest, created=False)
            try:
                job = self._record(request, found, engine, newest)
            except DestinationBusy as busy:
                self._await_clean(found.owns, busy)
                continue
            if job is not None:
                wakeups.flush(self._state, self._publisher)
                return Submitted(job=job, created=True)
        raise TransientError("other submits of the same job keep overtaking this one", "try again")

    def _named(self, taken: DestinationTaken, lineage: str) -> DestinationTaken:
        """Add to a refusal which job made what lies there, where it was one of other inputs."""
        maker = self._state.generations.maker(taken.owns)
        if maker is None or maker.lineage == lineage:
            return taken
        name = maker.id[:12]
        why = f"job {name} was the last to write there, for other inputs (`cogmill show {name}`)"
        return DestinationTaken(f"{taken.message}: {why}", taken.remedy, taken.owns)

    def _await_clean(self, owns: str | None, busy: DestinationBusy) -> None:
        """Wait until nobody removes anything from a destination; then what lies there is judged.

        Raises
        ------
        DestinationBusy
            It takes too long.
        """
        patience = time.monotonic() + CLEANED_SECONDS
        while self._state.cleanups.under_way(owns):
            if time.monotonic() > patience:
                raise busy
            time.sleep(LOOK_SECONDS)

    def _supersede(self, job: Job) -> None:
        """End a job that nobody here can work on any more: its engine is gone."""
        log.warning("job %s is superseded: no live worker offers its engine", job.id[:12])
        self._state.jobs.dismiss(job.id)

    def _record(
        self, request: _Request, found: Preflight, engine: str, newest: Job | None
    ) -> Job | None:
        job_type = request.job_type
        lineage = job_type.lineage(request.inputs)
        generation = 1 if newest is None else newest.generation + 1
        return self._state.generations.submit(
            NewJob(
                id=job_id(lineage, job_type.version, found.source_identity, engine, generation),
                lineage=lineage,
                generation=generation,
                type=job_type.id,
                version=job_type.version,
                inputs=request.inputs.model_dump(mode="json"),
                engine=engine,
                priority=request.priority,
                preflight=found,
                adopt_before=request.adopt_before,
                stages=tuple(
                    NewStage(
                        name=stage.name,
                        plan_seconds=stage.plan_seconds,
                        max_failures=stage.max_failures,
                    )
                    for stage in job_type.stages
                ),
            )
        )


def _same(newest: Job, found: Preflight, engine: str) -> bool:
    return (
        newest.status is JobStatus.SUCCESSFUL
        and newest.source_identity == found.source_identity
        and newest.engine == engine
    )


_WHAT: dict[TaskKind, frames.What] = {
    TaskKind.PLAN: "plan",
    TaskKind.WORK: "execute",
    TaskKind.SPLIT: "split",
}


class TaskProcessor:
    """Claims, runs and settles one task or clean-up: for a slot's loop and for a message alike."""

    def __init__(self, state: StateManager, publisher: WakeupPublisher) -> None:
        self._state = state
        self._publisher = publisher
        self._settlement = Settlement(state)

    def process(
        self, row: ClaimingRow[ClaimT], child: ChildProcess, reference: str | None = None
    ) -> Processed:
        """Claim one piece of work, run it in a child, and settle it.

        Parameters
        ----------
        row : ClaimingRow
            In whose name it is claimed.
        child : ChildProcess
            A living one; it may be dead afterwards.
        reference : str, optional
            The job whose work comes first.

        Raises
        ------
        CogmillError
            The database did not answer before anything was claimed.
        """
        claim = row.claim(child, partial(self._find, reference))
        if claim is None:
            return Processed.NOTHING
        settled = False
        try:
            settled = self._work_on(claim, child)
        except CogmillError as error:
            # The child is in the middle of an exchange that nobody will end.
            child.kill()
            log.warning("what was claimed is not settled: %s", error)
        except Exception:
            child.kill()
            log.exception("what was claimed met a defect")
        except BaseException:
            child.kill()
            raise
        finally:
            row.let_go(claim, settled=settled)
        return Processed.SETTLED if settled else Processed.UNSETTLED

    def _find(self, reference: str | None, incarnation: UUID, free: int) -> Task | CleanUp | None:
        tasks = self._state.tasks
        first = tasks.claim(incarnation, free, job_id=reference) if reference else None
        return first or tasks.claim(incarnation, free) or self._state.cleanups.claim(incarnation)

    def _work_on(self, claim: Claim, child: ChildProcess) -> bool:
        """Run and settle what was claimed; return whether its outcome is written for certain."""
        match claim.work:
            case Task() as task:
                self.run(Attempt(task=task, incarnation=claim.incarnation), child, claim)
            case CleanUp() as owed:
                self._clean(owed, child, claim)
        return claim.ordered() is None

    def run(self, attempt: Attempt, child: ChildProcess, claim: Claim) -> TaskOutcome:
        """Run one attempt and settle it.

        Returns
        -------
        TaskOutcome
            What was settled; `Cancelled` also when the lease was lost.

        Raises
        ------
        TransientError
            The database does not answer: whether the attempt is settled is not known.
        """
        try:
            outcome, planned, shared = self._run(attempt, child, claim)
            claim.answered()
            settled = self._settlement.settle(attempt, outcome, planned, shared)
        except TransientError:
            raise
        except Exception as error:
            # Given back uncharged, it would be claimed and meet the same again, without end.
            trace = None if isinstance(error, CogmillError) else error
            log.warning("task %s met a defect: %s", attempt.task.label, error, exc_info=trace)
            child.kill()
            outcome = defect(error)
            settled = self._settlement.settle(attempt, outcome)
        if settled is Settled.LOST:
            return Cancelled()
        if settled is Settled.STAGE_DONE:
            self._state.jobs.advance(attempt.task.job_id)
        if settled is Settled.STAGE_DONE or attempt.task.kind is not TaskKind.WORK:
            wakeups.flush(self._state, self._publisher)
        return outcome

    def _run(
        self, attempt: Attempt, child: ChildProcess, claim: Claim
    ) -> tuple[TaskOutcome, list[PlannedTask], JsonValue]:
        try:
            request = self._request(attempt)
            call = _Call(self._state, attempt.task, claim.progress)
            answer, planned = child.run(request, self._state.jobs.payload, call)
        except ChildDied as death:
            return claim.ordered() or Retry(failure=death_failure(death)), [], None
        match answer:
            case frames.Returned(value=value, peak_memory=peak):
                if attempt.task.kind is not TaskKind.WORK:
                    return Succeeded(result=None, peak_memory=peak), planned, value
                return Succeeded(result=value, peak_memory=peak), [], None
            case frames.Raised(failure=failure, detail=detail):
                log.debug("task %s failed: %s", attempt.task.label, detail)
                if failure.cause in (Cause.PERMANENT, Cause.SOURCE_CHANGED):
                    return Failed(failure=failure), [], None
                return Retry(failure=failure), [], None

    def _request(self, attempt: Attempt) -> frames.Run:
        task = attempt.task
        job = self._state.jobs.get(task.job_id)
        stage, shared, prepared = self._state.jobs.stage_shared(task.job_id, task.position)
        return frames.Run(
            what=_WHAT[task.kind],
            job=_running(job, task.label),
            prepared=prepared,
            shared=shared,
            stage=stage,
            params=task.params,
            memory=task.memory,
            budget=task.split_budget or 0,
            whole=task.split_memory or 0,
        )

    def _clean(self, owed: CleanUp, child: ChildProcess, claim: Claim) -> None:
        job = self._state.jobs.get(owed.job_id)
        request = frames.Run(
            what="clean",
            job=_running(job, f"c{owed.attempt}"),
            prepared=job.prepared,
            successful=owed.result_stays,
        )
        try:
            answer, _ = child.run(request, self._state.jobs.payload, Call())
        except ChildDied as death:
            if isinstance(claim.ordered(), Released):
                return  # signing off gives it back
            self._settle_clean_up(owed, claim.incarnation, death_failure(death))
            return
        failure = answer.failure if isinstance(answer, frames.Raised) else None
        self._settle_clean_up(owed, claim.incarnation, failure)

    def _settle_clean_up(self, owed: CleanUp, incarnation: UUID, failure: Failure | None) -> None:
        delay = 0.0
        if failure is not None:
            log.warning("clean-up after job %s failed: %s", owed.job_id[:12], failure)
            delay = CLEAN_RETRY_SECONDS * 2.0 ** min(owed.attempt - 1, 6)
        self._state.cleanups.settle(incarnation, owed, failure, delay)


class _Call(Call):
    """Answers a child's questions from the state."""

    def __init__(self, state: StateManager, task: Task, progress: Callable[[int], None]) -> None:
        self._state = state
        self._task = task
        self._progress = progress

    def results(self, stage: str) -> Iterable[StageResult]:
        return self._state.jobs.results(self._task.job_id, stage)

    def adoptable(self) -> Iterable[Adoptable]:
        return self._state.generations.adoptable(self._task.job_id, self._task.position)

    def progress(self, done: int) -> None:
        self._progress(done)


def _running(job: Job, attempt: str) -> frames.RunningJob:
    return frames.RunningJob(
        id=job.id,
        lineage=job.lineage,
        generation=job.generation,
        type=job.type,
        version=job.version,
        inputs=job.inputs,
        source_identity=job.source_identity,
        engine=job.engine,
        attempt=attempt,
    )
