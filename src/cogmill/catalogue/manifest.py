"""``cogmill.json``: which files are the result. What it does not list is not visible yet.

Its bytes follow from the result alone: no clock, host, path, job id or software version, so the
same job gives the same manifest on every machine.
"""

from __future__ import annotations

import json
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cogmill.errors import Refused

MANIFEST_NAME: Final = "cogmill.json"
#: The form of the manifest, raised when a reader of the older form would misunderstand it.
MANIFEST_VERSION: Final = 1

#: ``(col_off, row_off, width, height)`` in pixels of the whole grid.
Rectangle = tuple[int, int, int, int]
#: GDAL's order: ``(x_origin, x_per_col, x_per_row, y_origin, y_per_col, y_per_row)``.
GeoTransform = tuple[float, float, float, float, float, float]

_FROZEN: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ResultGrid(BaseModel):
    """The pixel grid of the whole result.

    Parameters
    ----------
    crs : str or None
        WKT or an authority code; ``None`` when the pixels lie nowhere on Earth.
    transform : tuple of 6 float
        From pixel corners to the CRS, in GDAL's order.
    width, height : int
        In pixels.
    """

    model_config = _FROZEN

    crs: str | None
    transform: GeoTransform
    width: int = Field(gt=0)
    height: int = Field(gt=0)

    def holds(self, window: Rectangle) -> bool:
        """Return whether a window has pixels and all of them lie in the grid."""
        col, row, width, height = window
        inside = col + width <= self.width and row + height <= self.height
        return inside and min(col, row) >= 0 and min(width, height) > 0


class ManifestFile(BaseModel):
    """One file of the result.

    Parameters
    ----------
    name : str
        Relative to the manifest, parts divided by ``/``.
    size : int
        In bytes.
    sha256 : str
        Of all its bytes, in hexadecimal digits.
    window : tuple of 4 int or None
        The pixels of the grid that it holds; ``None`` for a file without pixels, such as an index.
    """

    model_config = _FROZEN

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    window: Rectangle | None = None

    @field_validator("name")
    @classmethod
    def _stays_below(cls, name: str) -> str:
        return relative_name(name)


class Manifest(BaseModel):
    """The result of one job, as other software may rely on it.

    Parameters
    ----------
    kind : {"mosaic", "cog"}
        Many COG tiles, or one COG.
    grid : ResultGrid
        Of the whole.
    tile_size : int or None
        Edge of an output tile in pixels; ``None`` for one COG.
    files : tuple of ManifestFile
        Sorted by name, whatever the order given.
    empty_tiles : int
        Output tiles without a valid pixel, which were not written.
    """

    model_config = _FROZEN

    version: Literal[1] = MANIFEST_VERSION
    kind: Literal["mosaic", "cog"]
    grid: ResultGrid
    tile_size: int | None = Field(default=None, gt=0)
    files: tuple[ManifestFile, ...]
    empty_tiles: int = Field(default=0, ge=0)

    @field_validator("files")
    @classmethod
    def _sorted(cls, files: tuple[ManifestFile, ...]) -> tuple[ManifestFile, ...]:
        names = [each.name for each in files]
        if len(set(names)) != len(names):
            raise ValueError("two files of one name")
        if MANIFEST_NAME in names:
            raise ValueError("a manifest cannot list itself")
        return tuple(sorted(files, key=lambda each: each.name))

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for each in self.files:
            if each.window is not None and not self.grid.holds(each.window):
                raise ValueError(f"{each.name} does not lie in the grid")
        return self

    def to_bytes(self) -> bytes:
        """Return the file's content: the same manifest always gives the same bytes."""
        data = self.model_dump(mode="json")
        return (json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def parse_manifest(data: bytes) -> Manifest:
    """Understand the bytes of a manifest.

    Raises
    ------
    Refused
        They are no manifest, or one of a newer form.
    """
    try:
        found = json.loads(data)
        version = found["version"] if isinstance(found, dict) else None
        if isinstance(version, int) and version > MANIFEST_VERSION:
            raise Refused(
                f"{MANIFEST_NAME} has form {version}, and this cogmill knows {MANIFEST_VERSION}",
                "use a newer cogmill for this destination",
            )
        return Manifest.model_validate_json(data)
    except (ValueError, KeyError, ValidationError, RecursionError):
        raise Refused(
            f"the destination's {MANIFEST_NAME} is damaged or not cogmill's",
            "give another destination, or --overwrite it",
        ) from None


def relative_name(name: str) -> str:
    """Return a name that stays below the folder of the file that mentions it.

    Raises
    ------
    ValueError
        It is empty or absolute, climbs with ``..``, or has an empty part.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"not a plain relative name: {name!r}")
    return name
