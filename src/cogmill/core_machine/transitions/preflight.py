"""Preflight, as parents ask for it: in a child that may die of a damaged file, within a time."""

from __future__ import annotations

import logging

from cogmill.core_machine.child import frames
from cogmill.core_machine.child.process import ChildDied, ChildProcess
from cogmill.core_machine.contracts import Preflight
from cogmill.errors import DestinationTaken, PermanentError, Refused
from cogmill.telemetry import event

log = logging.getLogger(__name__)

PREFLIGHT_SECONDS = 120.0


def preflight(child: ChildProcess, request: frames.PreflightRequest) -> tuple[Preflight, bool]:
    """Run preflight and log what it found, as one structured event.

    Returns
    -------
    Preflight
        What the job type found.
    bool
        Whether the outputs of the last success are intact.

    Raises
    ------
    DestinationTaken
        The destination holds what another job wrote.
    Refused
        The job type refused the input, or looking at it ended badly.
    PermanentError
        A defect of the job type.
    """
    try:
        answer = child.preflight(request, PREFLIGHT_SECONDS)
    except ChildDied as death:
        raise Refused(
            f"looking at the input ended badly: {death.message}",
            "try again; if that does not help, the file is damaged, or its storage too slow",
        ) from None
    match answer:
        case frames.Returned(value={"preflight": found, "intact": intact}):
            made = Preflight.model_validate(found)
            event("preflight", **made.event)
            return made, bool(intact)
        case frames.Raised(failure=failure, refused=True, owns=str(owns)):
            raise DestinationTaken(failure.message, failure.remedy, owns)
        case frames.Raised(failure=failure, refused=True):
            raise Refused(failure.message, failure.remedy)
        case frames.Raised(failure=failure, detail=detail):
            log.debug("preflight failed: %s", detail)
            raise PermanentError(failure.message, failure.remedy)
        case _:
            raise PermanentError("preflight gave no answer")
