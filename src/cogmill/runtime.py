"""Settings into live parts: made, wired and closed in this one place.

`machine()` holds the database's side, `tools()` the stores'; a parent never needs the second, a
child never the first, and so does not load it: a quarter of the time that a child takes to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cogmill import failpoints
from cogmill.core_machine.child.process import ChildProcess, SpareChildren
from cogmill.job_types.registry import Registry
from cogmill.job_types.tools import Tools
from cogmill.settings import Settings, child_budget
from cogmill.storage.local_store import LocalStore
from cogmill.storage.location import FILE, MEMORY
from cogmill.storage.memory_store import MemoryStore
from cogmill.storage.store import Storage

if TYPE_CHECKING:
    from cogmill.core_machine.orchestration import JobProcessor, TaskProcessor
    from cogmill.core_machine.reconciliation import SystemReconciler
    from cogmill.core_machine.state import StateManager
    from cogmill.core_machine.transitions.wakeups import WakeupPublisher
    from cogmill.core_machine.worker.host import MessageHost, WorkerOnDemand
    from cogmill.core_machine.worker.worker import Worker

_memory_store = MemoryStore()
"""One for the process, as a disk is one for a machine."""


@dataclass(frozen=True)
class Machine:
    """The core machine with its parts wired.

    Attributes
    ----------
    settings : Settings
        What is in force.
    state : StateManager
        The one way to the database.
    types : Registry
        The job types that are known here.
    publisher : WakeupPublisher
        How sleeping workers are woken.
    children : SpareChildren
        A child that has looked at an input works on as that of the first slot.
    migrated : tuple of str
        Names of the migrations that the database lacked and now has.
    embedded : Path, optional
        Where the embedded server's data and log lie; None with an external one.
    """

    settings: Settings
    state: StateManager
    types: Registry
    publisher: WakeupPublisher
    children: SpareChildren
    migrated: tuple[str, ...] = ()
    embedded: Path | None = None

    def job_processor(self) -> JobProcessor:
        """Make the part that submits jobs."""
        from cogmill.core_machine.orchestration import JobProcessor

        return JobProcessor(self.state, self.types, self.publisher, self.children)

    def reconciler(self) -> SystemReconciler:
        """Make the part that repairs."""
        from cogmill.core_machine.reconciliation import SystemReconciler

        return SystemReconciler(
            self.state,
            self.publisher,
            grace=self.settings.effective_pace.suspect,
            keep=self.settings.retention_days * 86400,
        )

    def task_processor(self) -> TaskProcessor:
        """Make the part that claims, runs and settles."""
        from cogmill.core_machine.orchestration import TaskProcessor

        return TaskProcessor(self.state, self.publisher)

    def worker(
        self,
        only_jobs: Sequence[str] | None = None,
        *,
        most_children: int | None = None,
        on_demand: bool = False,
    ) -> Worker:
        """Make a worker, not yet started.

        Parameters
        ----------
        only_jobs : sequence of str, optional
            It claims tasks of these jobs alone.
        most_children : int, optional
            So many children instead of all, where each needs more than an even share of the
            memory.
        on_demand : bool
            True: it has no slots, and works only when it is called.
        """
        from cogmill.core_machine.worker.parts import Place, WorkerParts
        from cogmill.core_machine.worker.worker import Worker

        parts = WorkerParts(
            state=self.state,
            types=self.types,
            processor=self.task_processor(),
            reconciler=self.reconciler(),
            spawn=self.children.take,
            pace=self.settings.effective_pace,
        )
        place = Place(
            slots=self.settings.workers if most_children is None else most_children,
            memory=self.settings.memory,
            host=self.settings.host,
            only_jobs=None if only_jobs is None else tuple(only_jobs),
            on_demand=on_demand,
        )
        return Worker(parts, place)

    def worker_on_demand(self) -> WorkerOnDemand:
        """Make a worker that works when a message asks for it, not yet started."""
        from cogmill.core_machine.worker.host import WorkerOnDemand

        return WorkerOnDemand(
            self.worker(on_demand=True),
            self.task_processor(),
            self.publisher,
            self.children.take,
            self.settings.workers,
        )


def spawn(settings: Settings) -> ChildProcess:
    """Start a child that works with these settings, without a database; see `ChildProcess`."""
    return ChildProcess(settings.for_child())


@contextmanager
def machine(
    settings: Settings, *, patience_seconds: float | None = None, wants_child: bool = False
) -> Iterator[Machine]:
    """Hold the core machine: the database is started or connected, and migrated.

    Parameters
    ----------
    patience_seconds : float, optional
        How long to wait for a database that is silent, when not as long as is usual.
    wants_child : bool
        True: a child is started beside the database, because it is needed at once.

    Raises
    ------
    DatabaseUnavailable
        PostgreSQL does not start or does not answer.
    """
    failpoints.arm(settings.failpoints)
    children = SpareChildren(lambda: spawn(settings))
    if wants_child:
        children.prepare()
    # Here and not at the top: a child needs none of it, and loads while this does.
    from cogmill.core_machine.state import StateManager
    from cogmill.core_machine.state.database.database import Database
    from cogmill.core_machine.state.embedded.server import lease
    from cogmill.core_machine.transitions.wakeups import NotifyPublisher

    # One a slot, and one each for the beat, the reconciler and the caller.
    connections = settings.workers + 3
    folder = None
    with ExitStack() as parts:
        parts.callback(children.close)
        if settings.database_url is not None:
            address = settings.database_url.get_secret_value()
            database = Database(
                address,
                connections=connections,
                patience_seconds=patience_seconds,
                idle_seconds=settings.effective_pace.lease,
            )
        else:
            embedded = parts.enter_context(lease(settings.home))
            folder = embedded.folder
            database = Database(
                embedded.conninfo,
                restart=embedded.ensure_running,
                connections=connections,
                idle_seconds=settings.effective_pace.lease,
            )
        parts.callback(database.close)
        migrated = tuple(database.migrate())
        state = StateManager(database)
        yield Machine(
            settings=settings,
            state=state,
            types=Registry.load(),
            publisher=NotifyPublisher(state),
            children=children,
            migrated=migrated,
            embedded=folder,
        )


def message_host(settings: Settings) -> MessageHost:
    """Make the queue trigger: it opens a machine in each process that it is called in."""
    from cogmill.core_machine.worker.host import MessageHost

    @contextmanager
    def open_worker() -> Iterator[WorkerOnDemand]:
        with machine(settings) as opened:
            yield opened.worker_on_demand()

    return MessageHost(open_worker)


@contextmanager
def tools(settings: Settings, progress: Callable[[int], None], memory: int) -> Iterator[Tools]:
    """Hold what the code of a job type is given: stores and limits."""
    storage = Storage({FILE: LocalStore(), MEMORY: _memory_store})
    yield Tools(
        storage=storage,
        memory=memory,
        child_memory=child_budget(settings.memory, settings.workers),
        workers=settings.workers,
        host=settings.host,
        staging=settings.staging,
        gdal_cache=settings.gdal_cache,
        progress=progress,
    )
