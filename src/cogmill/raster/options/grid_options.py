"""What a user may ask of the target grid; validated like all options, without GDAL."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, PlainSerializer, field_validator, model_validator

from cogmill.errors import Refused

ZoomStrategy = Literal["auto", "lower", "upper"]
#: How ground control points become a way from pixels to coordinates.
ByPoints = Literal["1", "2", "3", "tps"]
BY_POINTS = ("1", "2", "3", "tps")
#: Options that say where the source lies, in a transform's stead.
_PLACING = ("--gcps", "--rpc-height", "--rpc-dem")
ZOOM_STRATEGIES = ("auto", "lower", "upper")
#: GDAL's names of tiling schemes that OGC's registry has under another one.
_GDAL_SCHEMES = {"googlemapscompatible": "WebMercatorQuad"}


def json_number(value: float) -> float | str:
    """Return a float as JSON can hold it: NaN and the infinities become text."""
    return value if math.isfinite(value) else repr(value)


#: A float that survives JSON exactly, NaN and the infinities included (as text).
Number = Annotated[float, PlainSerializer(json_number, when_used="json")]


class Tiling(BaseModel):
    """A tile matrix set, and how one of its matrices is chosen.

    Attributes
    ----------
    scheme : str
        Name of a tile matrix set, in any case.
    zoom_level : int or None
        Identifier of the matrix. None: by the suggested resolution and `strategy`.
    strategy : str
        ``auto`` takes the nearest zoom level, ``lower`` the coarser and ``upper`` the finer one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: str
    zoom_level: int | None = None
    strategy: ZoomStrategy = "auto"


class GridOptions(BaseModel):
    """What the user asks of the target grid; every field left alone is gdalwarp's choice.

    Attributes
    ----------
    dst_crs : str or None
        Target coordinate system, anything PROJ reads. None: the source's.
    resolution : (float, float) or None
        Size of a target pixel along x and y, in units of the target system, both positive.
    bounds : (float, float, float, float) or None
        Left, bottom, right, top in the target system.
    align : bool
        True: corners are multiples of the resolution, as by gdalwarp's ``-tap``.
    like : str or None
        A raster whose grid is taken: its system, corner, resolution and size.
    tiling_scheme : str or None
        Name of a tile matrix set; blocks of the output coincide with its tiles.
    zoom_level : int or None
        Of the tile matrix set. None: the nearest to the source's resolution.
    gcps : str or None
        How the source's ground control points place it: by a polynomial of order ``1``, ``2`` or
        ``3``, or ``tps``, a thin-plate spline. None: its transform does.
    rpc_height : float or None
        The height of the ground, in metres above the ellipsoid, at which the source's rational
        polynomials place it. None: its transform does.
    rpc_dem : str or None
        A DEM in EPSG:4326, in metres above the ellipsoid, in the place of one height.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dst_crs: str | None = None
    resolution: tuple[Number, Number] | None = None
    bounds: tuple[Number, Number, Number, Number] | None = None
    align: bool = False
    like: str | None = None
    tiling_scheme: str | None = None
    zoom_level: int | None = None
    gcps: ByPoints | None = None
    rpc_height: Number | None = None
    rpc_dem: str | None = None

    @field_validator("dst_crs", "like", "tiling_scheme", "rpc_dem")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise Refused(
                "--dst-crs, --like, --tiling-scheme or --rpc-dem was given an empty text",
                "name one, for example EPSG:3857, or leave the option out",
            )
        return value

    @field_validator("tiling_scheme")
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        return None if value is None else scheme_name(value)

    @field_validator("resolution")
    @classmethod
    def _sane_resolution(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not all(math.isfinite(side) and side > 0 for side in value):
            raise Refused(
                f"--resolution {value[0]:g},{value[1]:g} is not a pixel size",
                "give positive numbers, in units of the target coordinate system",
            )
        return value

    @field_validator("bounds")
    @classmethod
    def _sane_bounds(
        cls, value: tuple[float, float, float, float] | None
    ) -> tuple[float, float, float, float] | None:
        if value is None:
            return value
        left, bottom, right, top = value
        if not all(map(math.isfinite, value)) or left >= right or bottom >= top:
            raise Refused(
                f"--bounds {left:g} {bottom:g} {right:g} {top:g} is empty or not finite",
                "give left, bottom, right, top in the target coordinate system, "
                "left < right and bottom < top",
            )
        return value

    @field_validator("rpc_height")
    @classmethod
    def _sane_height(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise Refused(f"--rpc-height {value:g} is no height", "give metres above the ellipsoid")
        return value

    @field_validator("zoom_level")
    @classmethod
    def _sane_zoom(cls, value: int | None) -> int | None:
        if value is not None and value < 0:
            raise Refused(f"--zoom-level {value} is no zoom level", "count from 0, the coarsest")
        return value

    @property
    def tiling(self) -> Tiling | None:
        """The tile matrix set that was asked for."""
        if self.tiling_scheme is None:
            return None
        return Tiling(scheme=self.tiling_scheme, zoom_level=self.zoom_level)

    @property
    def grid_named(self) -> tuple[str, ...]:
        """The options given that lead to another grid than the source's, as they are typed."""
        given = {
            "--dst-crs": self.dst_crs,
            "--resolution": self.resolution,
            "--bounds": self.bounds,
            "--like": self.like,
            "--tiling-scheme": self.tiling,
            "--gcps": self.gcps,
            "--rpc-height": self.rpc_height,
            "--rpc-dem": self.rpc_dem,
        }
        return tuple(name for name, value in given.items() if value is not None)

    @property
    def changes_grid(self) -> bool:
        """Whether the user asked for any grid but the source's own."""
        return bool(self.grid_named)

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        placing = [name for name in self.grid_named if name in _PLACING]
        if len(placing) > 1:
            raise Refused(
                f"{' and '.join(placing)} place the source, each in its own way",
                f"leave out all but one: {', '.join(placing)}",
            )
        others = [name for name in self.grid_named if name not in ("--like", *_PLACING)]
        others += ["--align"] * self.align
        if self.like is not None and others:
            raise Refused(
                f"--like takes the whole grid of a raster, and {' and '.join(others)} another one",
                f"leave out --like, or {' and '.join(others)}",
            )
        tiled = self.tiling
        for name, given in (("--resolution", self.resolution), ("--align", self.align or None)):
            if tiled is not None and given is not None:
                raise Refused(
                    f"a tiling scheme has its own resolutions and corners, and {name} another",
                    f"leave out {name}, or choose a matrix with --zoom-level",
                )
        if self.align and self.resolution is None:
            raise Refused(
                "--align needs a pixel size whose multiples the corners are",
                "add --resolution; gdalwarp's -tap wants -tr too",
            )
        if tiled is None and self.zoom_level is not None:
            raise Refused(
                "--zoom-level belongs to a tiling scheme", "add --tiling-scheme WebMercatorQuad"
            )
        return self


def scheme_name(text: str) -> str:
    """Return the name of a tile matrix set by which OGC's registry knows it."""
    name = text.strip()
    return _GDAL_SCHEMES.get(name.lower(), name)
