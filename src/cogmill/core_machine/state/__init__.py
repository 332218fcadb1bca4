"""The state of the machine in PostgreSQL, behind one manager. The only SQL of the project.

Never: a decision about work, a pixel, a bucket.
"""

from __future__ import annotations

from cogmill.core_machine.state.cleanup import CleanUps
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.events import Events
from cogmill.core_machine.state.generations import Generations
from cogmill.core_machine.state.jobs import Jobs
from cogmill.core_machine.state.outbox import Wakeups
from cogmill.core_machine.state.sweeps import Reconciliations
from cogmill.core_machine.state.tasks import Tasks
from cogmill.core_machine.state.workers import Workers


class StateManager:
    """The one way to the state, split by noun."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.generations = Generations(database)
        self.jobs = Jobs(database)
        self.tasks = Tasks(database)
        self.workers = Workers(database)
        self.cleanups = CleanUps(database)
        self.events = Events(database)
        self.wakeups = Wakeups(database)
        self.reconciliations = Reconciliations(database)
