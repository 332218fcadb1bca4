"""What a worker and its child say to each other: length-prefixed JSON frames on two pipes.

A frame is a 4-byte big-endian length and that many bytes of UTF-8 JSON. The parent sends `Hello`
once, then one `Run` at a time; the child answers with any number of `Progress`, `Ask` and
`Planned` frames and ends with exactly one `Returned` or `Raised`. Each `Ask` is answered by one
`Rows`: neither side ever writes while the other does, or both would wait for full pipes.
"""

from __future__ import annotations

import struct
from typing import Annotated, BinaryIO, Literal, TypeVar

from pydantic import Field, JsonValue, TypeAdapter

from cogmill.core_machine.contracts import (
    Adoptable,
    Failure,
    PlannedTask,
    Previous,
    StageResult,
    Told,
    Value,
)

_LENGTH = struct.Struct(">I")
MAX_FRAME = 1 << 30
ROWS_PER_FRAME = 500


class HungUp(Exception):
    """The other side is gone, or no longer speaks this protocol.

    Not an `EOFError` or `OSError`: the code of a job type raises those for reasons of its own.
    """


class Hello(Value):
    """First frame to a child: the effective settings; it reads no environment."""

    kind: Literal["hello"] = "hello"
    settings: dict[str, JsonValue]


class Payload(Value):
    """A payload that the next `Run` names; the child keeps what the last one named."""

    kind: Literal["payload"] = "payload"
    digest: str
    body: JsonValue


class PreflightRequest(Value):
    """Look at source and destination and plan, or refuse; say if earlier outputs are intact."""

    kind: Literal["preflight"] = "preflight"
    job_type: str
    inputs: dict[str, JsonValue]
    previous: Previous | None = None


class Examine(Value):
    """Judge what lies somewhere, whoever made it; no job is asked or changed.

    Where its size and SHA-256 are known, it must have them.
    """

    kind: Literal["examine"] = "examine"
    location: str
    size: int | None = None
    sha256: str | None = None


What = Literal["plan", "execute", "split", "clean"]


class RunningJob(Value):
    """A job as it travels to a child, which parses its inputs; see `contracts.JobView`."""

    id: str
    lineage: str
    generation: int
    type: str
    version: int
    inputs: dict[str, JsonValue]
    source_identity: str
    engine: str
    attempt: str


class Run(Value):
    """Plan a stage, execute a task, plan one again, or clean up after a job.

    What is planned again may need `budget` bytes in each part, and would need `whole` in one.
    """

    kind: Literal["run"] = "run"
    what: What
    job: RunningJob
    prepared: str
    shared: str | None = None
    stage: str = ""
    params: dict[str, JsonValue] = Field(default_factory=dict)
    memory: int = 0
    budget: int = 0
    whole: int = 0
    successful: bool = False


class Rows(Value):
    """The next rows that the child asked for; `last` ends them."""

    kind: Literal["rows"] = "rows"
    rows: tuple[StageResult, ...] | tuple[Adoptable, ...]
    last: bool


ToChild = Annotated[
    Hello | Payload | PreflightRequest | Examine | Run | Rows, Field(discriminator="kind")
]


class Ready(Value):
    """The child lives: the engine of each job type it knows, by id."""

    kind: Literal["ready"] = "ready"
    engines: dict[str, str]


class Ask(Value):
    """A planner wants the results of an earlier stage, from the number `start` on.

    Without a stage: what earlier generations made for the one that is planned.
    """

    kind: Literal["ask"] = "ask"
    stage: str | None
    start: int = 0


class Progress(Value):
    """Units (pixels) done so far by this attempt."""

    kind: Literal["progress"] = "progress"
    done: int


class Planned(Value):
    """Some tasks of a plan."""

    kind: Literal["planned"] = "planned"
    tasks: tuple[PlannedTask, ...]


class Returned(Value):
    """The work is done; `value` is its result."""

    kind: Literal["returned"] = "returned"
    value: JsonValue
    peak_memory: int | None


class Raised(Value):
    """The work failed; `refused` says that the input is wrong (preflight).

    `owns` is the destination where it is that which holds what another job wrote.
    """

    kind: Literal["raised"] = "raised"
    failure: Failure
    refused: bool = False
    owns: str | None = None
    detail: Told = ""


FromChild = Annotated[
    Ready | Ask | Progress | Planned | Returned | Raised, Field(discriminator="kind")
]

FrameT = TypeVar("FrameT")

_to_child: TypeAdapter[ToChild] = TypeAdapter(ToChild)
_from_child: TypeAdapter[FromChild] = TypeAdapter(FromChild)


def write_frame(stream: BinaryIO, frame: Value) -> None:
    """Write one frame and flush it.

    Raises
    ------
    HungUp
        The other side is gone.
    """
    body = frame.model_dump_json().encode()
    try:
        stream.write(_LENGTH.pack(len(body)) + body)
        stream.flush()
    except (OSError, ValueError) as error:
        raise HungUp(str(error)) from None


def read_to_child(stream: BinaryIO) -> ToChild:
    """Read one frame in the child.

    Raises
    ------
    HungUp
        The other side is gone.
    """
    return _parsed(_to_child, stream)


def read_from_child(stream: BinaryIO) -> FromChild:
    """Read one frame in the parent.

    Raises
    ------
    HungUp
        The other side is gone.
    """
    return _parsed(_from_child, stream)


def _parsed(kinds: TypeAdapter[FrameT], stream: BinaryIO) -> FrameT:
    try:
        (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
        if length > MAX_FRAME:
            raise HungUp(f"a frame of {length} bytes cannot be one of ours")
        return kinds.validate_json(_exactly(stream, length))
    except (OSError, ValueError) as error:
        raise HungUp(str(error)) from None


def _exactly(stream: BinaryIO, length: int) -> bytes:
    body = stream.read(length)
    if len(body) != length:
        raise HungUp("the pipe was closed")
    return body
