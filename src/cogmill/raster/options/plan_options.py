"""What a user may ask of a plan, validated before any raster is opened.

The parent process, which never loads GDAL, validates its users' options with this module: it
imports neither rasterio, pyproj nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from cogmill.errors import Refused
from cogmill.raster.options.creation_options import (
    COMPRESS,
    LERC,
    LEVELS,
    OVERVIEW_RESAMPLING,
    Compression,
    check_creation_option,
)
from cogmill.raster.options.grid_options import (
    GridOptions,
    Number,
    Tiling,
    ZoomStrategy,
    scheme_name,
)

Strategy = Literal["direct", "two-stage"]
StrategyOption = Literal["auto", "direct", "two-stage"]
Overviews = Literal["auto", "none"]

#: Kernels that the chunk-independent warp offers, under rasterio's names.
RESAMPLING = (
    "nearest",
    "bilinear",
    "cubic",
    "cubic_spline",
    "lanczos",
    "average",
    "rms",
    "mode",
    "max",
    "min",
    "med",
    "q1",
    "q3",
)
#: How GDAL spells some of the same kernels.
_RESAMPLING_ALIASES = {"near": "nearest", "cubicspline": "cubic_spline", "median": "med"}
PROFILE_NAMES = (
    "deflate", "zstd", "lzw", "webp", "jpeg", "lerc", "lerc_deflate", "lerc_zstd", "raw"
)  # fmt: skip

MIN_BLOCK, MAX_BLOCK, BLOCK_STEP = 64, 4096, 16
#: An output tile is this many blocks, or a multiple: three exact halvings end at one block.
TILE_BLOCKS = 8
MAX_TILE = 65536


class PlanOptions(GridOptions):
    """What the user asks for; every field left alone is decided from the data.

    Attributes
    ----------
    resampling : str or None
        One of `RESAMPLING`. None: bilinear for continuous data, nearest for classes.
    overview_resampling : str or None
        One of `OVERVIEW_RESAMPLING`. None: by the data, as `resampling`.
    profile : str
        One of `PROFILE_NAMES`: how blocks are compressed.
    creation_options : dict[str, str]
        ``--co``, named as GDAL's COG driver names them; see `CREATION_OPTIONS`.
    blocksize : int
        Side of a block of the output, in pixels.
    tile_size : int
        Side of an output tile, in pixels; a multiple of eight blocks.
    nodata : float or None
        The value that means nothing, of source and target; takes precedence over alpha and mask.
    page : int or None
        Which image of the source's file, as GDAL counts directories, from 1. None: the only one.
    src_crs : str or None
        The source's coordinate system, in place of what its file says.
    coordinate_operation : str or None
        A PROJ pipeline or URN to use instead of the most accurate one.
    strict_crs : bool
        True: a missing better grid, a datum that is not known and a difference between datums that
        is ignored are errors, not warnings.
    allow_ballpark : bool
        True: the difference between two datums may be ignored where no operation is known.
    ovr : str
        ``auto``: where the target is coarser, overviews are read in the source's place; ``none``.
    exact : bool
        True: PROJ is asked for every pixel.
    memory : int or None
        Hint: bytes that one child may use. None: `DEFAULT_CHILD_MEMORY` is taken.
    work_tile : int or None
        Hint: largest side of a work tile, in pixels.
    strategy : str
        Hint: ``auto``, ``direct`` or ``two-stage``.
    workers : int
        Hint: children that run at once.
    """

    resampling: str | None = None
    overview_resampling: str | None = None
    profile: str = "deflate"
    creation_options: dict[str, str] = Field(default_factory=dict)
    blocksize: int = 512
    tile_size: int = 4096
    nodata: Number | None = None
    page: int | None = None
    src_crs: str | None = None
    coordinate_operation: str | None = None
    strict_crs: bool = False
    allow_ballpark: bool = False
    ovr: Overviews = "auto"
    exact: bool = False
    memory: int | None = None
    work_tile: int | None = None
    strategy: StrategyOption = "auto"
    workers: int = 1

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validate `values`, and refuse the first wrong one in one sentence.

        Parameters
        ----------
        values : mapping
            Field name to value.

        Raises
        ------
        Refused
            A value is unknown, absurd or of the wrong type; the remedy says what would do.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "options"
            if first["type"] == "extra_forbidden":
                known = ", ".join(_option(field) for field in cls.model_fields)
                raise Refused(
                    f"there is no option {_option(name)}", f"use one of {known}"
                ) from None
            raise Refused(
                f"{_option(name)} does not take {first['input']!r}",
                f"see cogmill run --help for {_option(name)}",
            ) from None

    @field_validator("src_crs", "coordinate_operation")
    @classmethod
    def _not_blank(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise Refused(
                "a coordinate system or operation was given as an empty text",
                "name one, for example EPSG:3857, or leave the option out",
            )
        return value

    @field_validator("resampling")
    @classmethod
    def _known_resampling(cls, value: str | None) -> str | None:
        if value is None:
            return value
        name = value.strip().lower()
        name = _RESAMPLING_ALIASES.get(name, name)
        if name == "sum":
            raise Refused(
                "--resampling sum depends on how the work is cut",
                "use average and multiply by the ratio of the pixel areas",
            )
        if name not in RESAMPLING:
            raise Refused(
                f"--resampling {value!r} is not a kernel", f"use one of {', '.join(RESAMPLING)}"
            )
        return name

    @field_validator("overview_resampling")
    @classmethod
    def _known_overview_resampling(cls, value: str | None) -> str | None:
        if value is None:
            return value
        name = value.strip().lower()
        name = _RESAMPLING_ALIASES.get(name, name)
        if name not in OVERVIEW_RESAMPLING:
            raise Refused(
                f"--overview-resampling {value!r} is not offered",
                f"use one of {', '.join(OVERVIEW_RESAMPLING)}",
            )
        return name

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        name = value.strip().lower()
        if name not in PROFILE_NAMES:
            raise Refused(
                f"--profile {value!r} is not known", f"use one of {', '.join(PROFILE_NAMES)}"
            )
        return name

    @field_validator("creation_options", mode="before")
    @classmethod
    def _known_creation_options(cls, value: object) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise Refused("--co is not a list of KEY=VALUE", "write for example --co LEVEL=9")
        options = {
            str(key).strip().upper(): str(text).strip().upper() for key, text in value.items()
        }
        for key, text in options.items():
            check_creation_option(key, text)
        return dict(sorted(options.items()))

    @field_validator("page")
    @classmethod
    def _counted_from_one(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise Refused(f"--page {value} is no page", "pages are counted from 1")
        return value

    @field_validator("memory", "work_tile", "workers")
    @classmethod
    def _positive(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise Refused(
                f"{value} is not an amount of memory, pixels or workers",
                "give --memory, --work-tile and --workers positive values",
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        block = self.block
        if not MIN_BLOCK <= block <= MAX_BLOCK or block % BLOCK_STEP:
            raise Refused(
                f"a block size of {block} pixels cannot be written",
                f"use a multiple of {BLOCK_STEP} from {MIN_BLOCK} to {MAX_BLOCK}",
            )
        unit = TILE_BLOCKS * block
        if self.tile_size < 1 or self.tile_size % unit or self.tile_size > MAX_TILE:
            fitting = min(max(round(self.tile_size / unit), 1), MAX_TILE // unit) * unit
            raise Refused(
                f"--tile-size {self.tile_size} is not a multiple of {TILE_BLOCKS} blocks "
                f"of {block} pixels up to {MAX_TILE}",
                f"use --tile-size {fitting}",
            )
        self._check_level()
        self._check_loss()
        if self.tiling is None and {"ZOOM_LEVEL", "ZOOM_LEVEL_STRATEGY"} & {*self.creation_options}:
            raise Refused(
                "--co ZOOM_LEVEL and ZOOM_LEVEL_STRATEGY belong to a tiling scheme",
                "add --co TILING_SCHEME=GoogleMapsCompatible",
            )
        return self

    def _check_loss(self) -> None:
        """Refuse a quality or an error that the compression does not have, or no such one."""
        given = self.creation_options
        for key, having in (("QUALITY", ("jpeg", "webp")), ("MAX_Z_ERROR", LERC)):
            if key in given and self.compression not in having:
                raise Refused(
                    f"{key}={given[key]} means nothing to {self.compression}",
                    f"leave --co {key} out, or use {' or '.join(having)}",
                )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise Refused(f"QUALITY={self.quality} is no quality", "use --co QUALITY=1 to 100")

    def _check_level(self) -> None:
        level, limit = self.level, LEVELS.get(self.compression)
        if level is None:
            return
        if limit is None:
            raise Refused(
                f"LEVEL={level} means nothing to {self.compression}",
                f"leave --co LEVEL out, or use {', '.join(LEVELS)}",
            )
        if not 1 <= level <= limit:
            raise Refused(
                f"LEVEL={level} is not a level of {self.compression}",
                f"use --co LEVEL=1 to {limit}",
            )

    @property
    def block(self) -> int:
        """Side of a block in pixels; ``--co BLOCKSIZE`` speaks before ``--blocksize``."""
        return int(self.creation_options.get("BLOCKSIZE", self.blocksize))

    @property
    def compression(self) -> Compression:
        """How blocks are compressed; ``--co COMPRESS`` speaks before ``--profile``."""
        named = self.creation_options.get("COMPRESS", "")
        fallback = COMPRESS["NONE" if self.profile == "raw" else self.profile.upper()]
        return COMPRESS.get(named, fallback)

    @property
    def level(self) -> int | None:
        """The compression level that was asked for, None for the default."""
        text = self.creation_options.get("LEVEL")
        return None if text is None else int(text)

    @property
    def quality(self) -> int | None:
        """The quality of JPEG or WebP that was asked for, None for the default."""
        text = self.creation_options.get("QUALITY")
        return None if text is None else int(text)

    @property
    def max_z_error(self) -> float | None:
        """The error of LERC that was asked for, None for the default."""
        text = self.creation_options.get("MAX_Z_ERROR")
        return None if text is None else float(text)

    @property
    def tiling(self) -> Tiling | None:
        """The tile matrix set that was asked for; ``--co`` speaks before the options."""
        named = self.creation_options
        scheme = named.get("TILING_SCHEME", self.tiling_scheme)
        if scheme is None or scheme.upper() == "CUSTOM":
            return None
        level = named.get("ZOOM_LEVEL", self.zoom_level)
        return Tiling(
            scheme=scheme_name(scheme),
            zoom_level=None if level is None else int(level),
            strategy=cast(ZoomStrategy, named.get("ZOOM_LEVEL_STRATEGY", "auto").lower()),
        )

    @property
    def overviews_by(self) -> str | None:
        """The overview kernel that was asked for, by either option; None: decided by the data."""
        named = self.creation_options.get("OVERVIEW_RESAMPLING")
        return self.overview_resampling or (named.lower() if named else None)


#: Options that never change a byte of the result, so they are no part of a job's identity.
HINTS = frozenset({"memory", "work_tile", "strategy", "workers"})


def _option(field: str) -> str:
    """Return the command line's name of a field."""
    return "--co" if field == "creation_options" else "--" + field.replace("_", "-")
