"""How an attempt ends, and what a person is told about it; `contracts` hands these on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from cogmill.errors import NoRoom
from cogmill.settings import PARENT_MEMORY, megabytes


class Value(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cause(StrEnum):
    """Why an attempt did not succeed; permanent causes are never retried."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    MEMORY = "memory"
    LOST = "lost"
    HUNG = "hung"
    SOURCE_CHANGED = "source changed"


def _storable(text: str) -> str:
    # A file's name or tag may carry what neither a frame nor PostgreSQL can; the rest is the news.
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


Told = Annotated[str, AfterValidator(_storable)]


class Failure(Value):
    """What a person is told about a failed attempt or job."""

    code: str
    cause: Cause
    message: Told
    remedy: Told = ""

    def __str__(self) -> str:
        """Return message and remedy as one line."""
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


def no_room(what: str, needs: int, budget: int) -> NoRoom:
    """Return what to say of work that no live worker can do, and that cannot be made smaller.

    Parameters
    ----------
    what : str
        As in "a task".
    needs, budget : int
        Bytes: its own, and the most that a live worker has.
    """
    return NoRoom(
        f"{what} needs {megabytes(needs)} of memory, and no live worker has more than "
        f"{megabytes(budget)} for one that cannot be split",
        f"start a worker with --workers 1 --memory {megabytes(needs + PARENT_MEMORY)} or more, "
        "then retry the job",
    )


# --- outcomes: returned and matched, in one place (`transitions.settlement`) -----------------


class Succeeded(Value):
    """The attempt did its work; `result` is what it found (the state splits large ones)."""

    outcome: Literal["succeeded"] = "succeeded"
    result: JsonValue
    peak_memory: int | None = None


class Failed(Value):
    """The attempt failed for good: its task and so its job fail."""

    outcome: Literal["failed"] = "failed"
    failure: Failure


class Retry(Value):
    """The attempt failed in a way that may pass: charged, and due again after a backoff."""

    outcome: Literal["retry"] = "retry"
    failure: Failure


class Cancelled(Value):
    """The machine had already taken the task back; nothing is written."""

    outcome: Literal["cancelled"] = "cancelled"


class Released(Value):
    """The worker gives the task back unfinished (drain): not charged, due at once."""

    outcome: Literal["released"] = "released"


class Split(Value):
    """The attempt needs more memory than it can have: its task is planned again smaller.

    `budget` is the bytes that a part may need.
    """

    outcome: Literal["split"] = "split"
    failure: Failure
    budget: int = Field(gt=0)


TaskOutcome = Annotated[
    Succeeded | Failed | Retry | Cancelled | Released | Split, Field(discriminator="outcome")
]
