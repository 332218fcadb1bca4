"""What a validation found, as values that parents read: nothing here loads GDAL."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["error", "warning"]


class Finding(BaseModel):
    """One thing that is wrong.

    Attributes
    ----------
    rule : str
        Its name, for programs, as ``ifd-order``.
    severity : str
        ``error`` where readers lose what a COG promises, ``warning`` where it could be better.
    where : str
        The image or directory of the file, as ``overview 1``.
    message : str
        What is wrong; of many alike blocks the first, and how many follow.
    remedy : str
        What to do about it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    severity: Severity
    where: str
    message: str
    remedy: str


class Level(BaseModel):
    """One directory of the file, as it was found.

    Attributes
    ----------
    name : str
        What findings call it.
    width, height, block_width, block_height : int
        In pixels.
    tiled : bool
        False for strips.
    ifd_offset : int
        Where its directory lies in the file, in bytes.
    data_offset : int or None
        Where its first block lies; None where no block was ever written.
    blocks, sparse_blocks : int
        How many there are, and how many of them were never written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    width: int
    height: int
    block_width: int
    block_height: int
    tiled: bool
    ifd_offset: int
    data_offset: int | None
    blocks: int
    sparse_blocks: int


class Verdict(BaseModel):
    """All that was found of one file.

    Attributes
    ----------
    size_bytes : int
        Of the file.
    bigtiff : bool
        True for 64-bit offsets.
    levels : tuple of Level
        In the order of the file's directories.
    blocks_decoded : int
        Of all levels and masks.
    findings : tuple of Finding
        Errors first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    bigtiff: bool = False
    levels: tuple[Level, ...] = ()
    blocks_decoded: int = 0
    findings: tuple[Finding, ...] = ()

    def of(self, severity: Severity) -> list[Finding]:
        """Return the findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def valid(self, *, strict: bool) -> bool:
        """Return whether the file passes; `strict` lets warnings fail it too."""
        return not (self.findings if strict else self.of("error"))
