"""The error tree: what went wrong, in a sentence for a person, and what to do about it.

Every error has a stable ``code`` (what programs match), a message, a ``remedy`` (what a person
types or changes next) and says whether trying again can help (``permanent``).
"""

from __future__ import annotations

from typing import ClassVar


class CogmillError(Exception):
    """Anything that cogmill reports to a person.

    Parameters
    ----------
    message : str
        What is wrong and where, one sentence, without a full stop at the end.
    remedy : str, optional
        What to do about it, one sentence.
    """

    code: ClassVar[str] = "error"
    permanent: ClassVar[bool] = True
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Return message and remedy as one line."""
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class Refused(CogmillError):
    """The input or the usage is wrong; nothing was begun. Change what the remedy names."""

    code = "refused"
    exit_code = 2


class DestinationTaken(Refused):
    """The destination holds what this job did not write. Name an empty place, or overwrite it.

    Parameters
    ----------
    owns : str
        The destination, by the name that jobs own it under.
    """

    code = "destination-taken"

    def __init__(self, message: str, remedy: str, owns: str) -> None:
        super().__init__(message, remedy)
        self.owns = owns


class PermanentError(CogmillError):
    """Work failed in a way that a repetition cannot mend. The job fails."""

    code = "permanent"


class TransientError(CogmillError):
    """Work failed in a way that may pass: it is tried again by the machine, nobody else."""

    code = "transient"
    permanent = False


class SourceChanged(PermanentError):
    """The source is not the one that was planned. Submit the job again for the new source."""

    code = "source-changed"


class BlockUndecodable(PermanentError):
    """A block of the source cannot be decoded. The message has its address; mend the file."""

    code = "block-undecodable"


class VerificationFailed(PermanentError):
    """An encoded result, read again, is not what was meant to be written. Nothing was published."""

    code = "verification-failed"


class SourceWindowTooSmall(CogmillError):
    """GDAL asked for source pixels beyond the held window. The caller widens it and counts."""

    code = "source-window-too-small"


class NoRoom(PermanentError):
    """A task needs more memory than any live worker has. Start a larger one, and retry the job."""

    code = "no-room"


class StorageUnavailable(TransientError):
    """A store did not answer, or answered short. Check that it is reachable and has room."""

    code = "storage-unavailable"


class DatabaseUnavailable(TransientError):
    """PostgreSQL does not answer. Check ``COGMILL_DATABASE_URL``, or the embedded one's folder."""

    code = "database-unavailable"


class DestinationBusy(TransientError):
    """An ended job's leftovers are just being removed from the destination. Try again."""

    code = "destination-busy"


class UnknownJobType(CogmillError):
    """No job type of that name is installed here. Install its package, or correct the name."""

    code = "unknown-job-type"
    exit_code = 2


class JobNotFound(CogmillError):
    """No job begins with that id. ``cogmill jobs`` lists what there is."""

    code = "job-not-found"
    exit_code = 2
