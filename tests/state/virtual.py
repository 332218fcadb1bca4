"""Workers of the simulation: processes that beat, claim, settle and fail, in virtual time.

They make the calls of a `Worker` and its slots (`core_machine/worker`) in the same order and under
the same conditions; what differs is that every fault, and how an attempt ends, comes from the
world's one generator.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.harness.steps import MEBIBYTE
from tests.state.world import World

from cogmill.core_machine.contracts import (
    Cancelled,
    Cause,
    CleanUp,
    Failed,
    Failure,
    Offer,
    PlannedTask,
    Released,
    Requirements,
    Retry,
    Succeeded,
    Task,
    TaskKind,
    TaskOutcome,
)
from cogmill.core_machine.reconciliation import SystemReconciler
from cogmill.core_machine.state.tasks import Attempt, Settled
from cogmill.core_machine.state.workers import AttemptProgress, Order
from cogmill.settings import Pace

MOST_TASK_MEMORY = 4
PACES = (
    Pace(beat=1, suspect=4, lease=6, look=1),
    Pace(beat=2, suspect=6, lease=9, look=2),
    Pace(beat=5, suspect=20, lease=30, look=2.5),
)
ENDINGS = {
    "succeed": 70, "retry": 7, "fail": 2, "release": 5, "die": 5, "starve": 8, "hang": 4,
    "forget": 3,
}  # fmt: skip


@dataclass(eq=False)
class Held:
    """What a slot works on: an attempt of a task, or a clean-up."""

    incarnation: uuid.UUID
    job_id: str
    task: Task | None = None
    cleanup: CleanUp | None = None
    ending: str = "succeed"
    listed: bool = False
    """Whether a beat has told of it."""

    @property
    def attempt(self) -> Attempt:
        assert self.task is not None
        return Attempt(task=self.task, incarnation=self.incarnation)

    @property
    def label(self) -> str:
        return self.task.label if self.task else f"clean-up {self.job_id}"


@dataclass(eq=False)
class VirtualWorker:
    """One process. ``push``: works only when the broker or its timer wakes it."""

    world: World[VirtualWorker]
    name: str
    push: bool
    pace: Pace
    slots: int
    memory: int
    only_jobs: tuple[str, ...] | None = None
    incarnation: uuid.UUID = field(init=False)
    held: list[Held] = field(default_factory=list)
    alive: bool = True
    frozen_until: float = 0.0
    cut_until: float = 0.0
    last_beat: float = 0.0
    doubtful: bool = False

    @property
    def reachable(self) -> bool:
        return self.alive and self.world.now >= max(self.frozen_until, self.cut_until)

    def start(self) -> None:
        self._enter()
        self._repeat(self.pace.beat, self.beat)
        if self.push:
            self._repeat(25, self._timer)
        else:
            self._repeat(self.pace.look, self.look)

    def hear(self, reference: str) -> None:
        """Begin with what the message names, and go on with anything else."""
        self.guarded(lambda: self.look(reference))

    def guarded(self, action: Callable[[], None]) -> None:
        """Do it unless killed; a frozen process does it, and all else, when it thaws."""
        if self.alive and self.world.now < self.frozen_until:
            wait = self.frozen_until - self.world.now
            self.world.later(wait, wait + 0.5, lambda: self.guarded(action))
        elif self.alive:
            action()

    def _repeat(self, seconds: float, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            self._repeat(seconds, action)

        self.world.later(0.7 * seconds, 1.3 * seconds, lambda: self.guarded(again))

    def _enter(self) -> None:
        self.incarnation = self.world.identify()
        self.world.state.workers.register(
            self.incarnation,
            Offer(
                host=self.name, pid=1, slots=self.slots, memory=self.memory, job_types=("toy:1",),
                engines=("e",), reaches=("any",), only_jobs=self.only_jobs,
                beat_seconds=self.pace.beat, suspect_seconds=self.pace.suspect,
            ),
        )  # fmt: skip
        self.last_beat = self.world.now
        self.world.note("join", self.name)

    # --- faults -------------------------------------------------------------------------------

    def freeze(self) -> None:
        self.frozen_until = self.world.now + self.world.rng.uniform(0.5, 3) * self.pace.lease
        self.world.note("freeze", f"{self.name} until {self.frozen_until:.3f}")

    def cut(self) -> None:
        """Keep it from the database for a while; its children work on."""
        self.cut_until = self.world.now + self.world.rng.uniform(0.2, 2) * self.pace.lease
        self.world.note("cut", f"{self.name} until {self.cut_until:.3f}")

    def kill(self) -> None:
        self.alive = False
        self.world.note("kill", f"{self.name} holding {len(self.held)}")

    def drain(self) -> None:
        """End in good order, or nearly: what takes too long is not given back."""
        for held in list(self.held):
            if held.task is not None and not self.world.chance(0.2):
                self._settle(held, Released())
        self.world.state.workers.retire(self.incarnation)
        self.alive = False
        self.world.note("retire", self.name)

    # --- beating ------------------------------------------------------------------------------

    def beat(self) -> None:
        world = self.world
        if world.now - self.last_beat > self.pace.lease and world.rng.random() < 0.8:
            self._lose_all("lease over")
        if world.now < self.cut_until:
            return
        if world.now - self.last_beat > 3 * self.pace.beat and world.rng.random() < 0.5:
            # It was stopped, and notices: its tasks get the time back.
            world.state.tasks.extend_deadlines(self.incarnation, world.now - self.last_beat)
        began = world.now
        report = [
            AttemptProgress(
                task_id=one.task.id, attempt=one.task.attempt, job_id=one.job_id, done=1
            )
            for one in self.held
            if one.task is not None
        ]
        beaten = world.state.workers.beat(self.incarnation, report)
        for one in self.held:
            one.listed = True
        if world.chance(0.03):
            world.note("reply lost", f"{self.name} beat")
            return
        if beaten is None:
            world.note("buried alive", self.name)
            self._lose_all("declared dead")
            self._enter()
            return
        self.last_beat = began
        for order in beaten.orders:
            self._obey(order)

    def _lose_all(self, why: str) -> None:
        """Kill the children; one that had just answered is settled late, by a zombie."""
        for held in self.held:
            self.world.note("child killed", f"{held.label} {why}")
            if held.task is not None and self.world.rng.random() < 0.4:
                self.world.later(0, 8, partial(self._settle, held, self._outcome(held)))
        self.held.clear()
        self.doubtful = True

    def _obey(self, order: Order) -> None:
        for held in list(self.held):
            task = held.task
            if task is None or (task.id, task.attempt) != (order.task_id, order.attempt):
                continue
            if self.world.chance(0.3) and held.ending != "hang":
                continue  # the child has answered: too late to kill it
            self.world.note(f"ordered: {order.order}", held.label)
            hung = order.order == "hung"
            self._settle(held, _retry(Cause.HUNG) if hung else Cancelled())

    # --- working ------------------------------------------------------------------------------

    def _timer(self) -> None:
        SystemReconciler(self.world.state, self.world.broker).step()
        self.look()

    def look(self, first: str | None = None) -> None:
        """Fill one slot, and look again soon when that was possible."""
        world = self.world
        if self.only_jobs and not world.state.jobs.open(self.only_jobs):
            self.drain()
            return
        has_lease = world.now - self.last_beat <= self.pace.lease or world.chance(0.1)
        if not has_lease or world.now < self.cut_until or len(self.held) >= self.slots:
            return
        if self.doubtful:
            self._give_back_the_unknown()
        held = self._claim(first)
        if held is None:
            return
        if world.chance(0.05):
            world.note("reply lost", f"{self.name} claim {held.label}")
            self.doubtful = True
            return
        self.held.append(held)
        if held.ending != "hang":
            world.later(0.1, 4, lambda: self.guarded(lambda: self._end(held)))
        world.later(0, 0.1, lambda: self.guarded(self.look))

    def _claim(self, first: str | None) -> Held | None:
        world, state = self.world, self.world.state
        free = self.memory - sum(one.task.memory for one in self.held if one.task)
        task = state.tasks.claim(self.incarnation, free, job_id=first) if first else None
        task = task or state.tasks.claim(self.incarnation, free)
        if task is not None:
            known = world.attempts.get(task.id, 0)
            assert task.attempt == known + 1, f"I1: {task.label} follows attempt {known}"
            assert task.memory <= free, f"{task.label} of {task.memory} got into {free} bytes"
            world.attempts[task.id] = task.attempt
            ending = world.rng.choices(list(ENDINGS), list(ENDINGS.values()))[0]
            if task.kind is TaskKind.PLAN and ending == "fail" and world.rng.random() < 0.7:
                ending = "succeed"
            ending = ending if world.faulty else "succeed"
            world.note(f"claim {task.kind}", f"{self.name} {task.label} {task.job_id} {ending}")
            return Held(self.incarnation, task.job_id, task=task, ending=ending)
        cleanup = state.cleanups.claim(self.incarnation)
        if cleanup is None:
            return None
        world.note("claim clean-up", f"{self.name} {cleanup.job_id} {cleanup.result_stays}")
        return Held(self.incarnation, cleanup.job_id, cleanup=cleanup)

    def _give_back_the_unknown(self) -> None:
        tasks = [one.task.id for one in self.held if one.task is not None]
        jobs = [one.job_id for one in self.held if one.task is None]
        given = self.world.state.tasks.release_unknown_claims(self.incarnation, tasks)
        given += self.world.state.cleanups.release_unknown(self.incarnation, jobs)
        self.world.note("unknown given back" if given else "nothing unknown", f"x{given}")
        self.doubtful = False

    def _end(self, held: Held) -> None:
        if held not in self.held:
            return
        if self.world.now < self.cut_until or held.ending == "forget":
            # The database did not answer: the slot forgets its attempt, and doubts.
            self.world.note("forgotten", held.label)
            self.held.remove(held)
            self.doubtful = True
        elif held.cleanup is not None:
            self._end_cleanup(held, held.cleanup)
        else:
            self._settle(held, self._outcome(held))
        self.world.later(0, 0.1, lambda: self.guarded(self.look))

    def _end_cleanup(self, held: Held, claimed: CleanUp) -> None:
        failure = _failure(Cause.TRANSIENT) if self.world.chance(0.15) else None
        for _ in range(1 + self.world.chance(0.1)):
            ours = self.world.state.cleanups.settle(held.incarnation, claimed, failure, 5.0)
            self.world.note("clean-up settled" if ours else "clean-up lost", held.job_id)
        self.held.remove(held)

    def _outcome(self, held: Held) -> TaskOutcome:
        match held.ending:
            case "fail":
                return Failed(failure=_failure(Cause.PERMANENT))
            case "retry":
                return _retry(Cause.TRANSIENT)
            case "die":
                return _retry(Cause.LOST)
            case "starve":
                return _retry(Cause.MEMORY)
            case "release":
                return Released()
            case _:
                large = self.world.rng.random() < 0.02
                return Succeeded(result={"by": held.label, "x": list(range(4000 * large))})

    def _settle(self, held: Held, outcome: TaskOutcome) -> None:
        """Settle and assert I3: it counts exactly when the attempt is the current one."""
        world, attempt = self.world, held.attempt
        if held in self.held:
            self.held.remove(held)
        current = world.rows(
            "SELECT 1 FROM task WHERE id = %s AND attempt = %s AND worker = %s",
            attempt.task.id, attempt.task.attempt, attempt.incarnation,
        )  # fmt: skip
        planned = self._planned(attempt.task)
        settled = world.settlement.settle(attempt, outcome, planned)
        world.note(f"{outcome.outcome}: {settled.value}", held.label)
        expected = bool(current) and not isinstance(outcome, Cancelled)
        assert (settled is not Settled.LOST) == expected, f"I3: {held.label} was {settled.value}"
        if world.chance(0.06):
            world.note("reply lost", f"{self.name} settle {held.label}")
            what = world.rng.random()
            if what < 0.4:
                self.doubtful = True
                return
            if what < 0.7 and held.listed and attempt.incarnation == self.incarnation:
                # Its slot tries again, and the beats tell of it until then.
                self.held.append(held)
                world.later(0, 3, lambda: self.guarded(lambda: self._end(held)))
                return
            settled = world.settlement.settle(attempt, outcome, planned)
            assert settled is Settled.LOST, f"I3: {held.label} was settled twice"
        if settled is Settled.STAGE_DONE:
            world.advance_sometime(attempt.task.job_id)
        elif settled is Settled.DONE and attempt.task.kind is not TaskKind.WORK:
            world.flush_sometime()

    def _planned(self, task: Task) -> list[PlannedTask]:
        """Plan as a child does: anew at each attempt, and taking over what is still there."""
        rng = self.world.rng
        if task.kind is TaskKind.WORK:
            return []
        if task.kind is TaskKind.SPLIT:
            memory = min(MEBIBYTE, task.split_budget or MEBIBYTE)
            return [
                PlannedTask(
                    key=f"{task.key}.{part}", params={}, requires=Requirements(memory=memory)
                )
                for part in range(rng.randint(1, 3))
            ]
        made = {
            one.key: one.task_id
            for one in self.world.state.generations.adoptable(task.job_id, task.position)
        }
        self.world.met["adopted"] += len(made)
        return [
            PlannedTask(
                key=str(number),
                params={"n": number},
                requires=Requirements(
                    memory=rng.randint(1, MOST_TASK_MEMORY) * MEBIBYTE,
                    seconds=rng.choice((3, 8, 30)),
                ),
                adopted_from=made.get(str(number)),
            )
            for number in range(rng.randint(0, 6))
        ]


def _failure(cause: Cause) -> Failure:
    return Failure(code="simulated", cause=cause, message="as the seed says")


def _retry(cause: Cause) -> Retry:
    return Retry(failure=_failure(cause))
