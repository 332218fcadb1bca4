"""What a successful job of raster-to-cog made. Parents read it: no GDAL here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from cogmill.storage.location import Location


class Counted(BaseModel):
    """What one task fetched and decoded, counted where it happened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = 0
    bytes: int = 0
    decodes: int = 0
    widened: int = 0

    def __add__(self, other: Counted) -> Counted:
        """Add two counts."""
        mine, theirs = self.model_dump(), other.model_dump()
        return Counted(**{name: mine[name] + theirs[name] for name in mine})


class OutputFile(BaseModel):
    """One object of the result; `version` is the store's, and spares reading it to compare."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Location
    size: int
    sha256: str
    version: str


class Outputs(BaseModel):
    """What a successful job made; `main` is what a person opens first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    main: Location
    files: tuple[OutputFile, ...]
    empty_tiles: int
    counted: Counted
    pieces_counted: Counted
