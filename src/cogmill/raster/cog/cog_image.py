"""What is known of a COG before its pixels: grid, samples, validity, colours and tags."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cogmill.errors import Refused
from cogmill.raster.codecs.block_codec import BlockCodec
from cogmill.raster.cog.reduction import Method, Reduction
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.options.grid_options import Number


class CogImage(BaseModel):
    """One COG before its pixels are known: a value that travels in a plan.

    Attributes
    ----------
    grid : Grid
        Of this file; no CRS where its text is empty.
    bands : int
        Alpha included.
    codec : BlockCodec
        Of the image's blocks; dtype and block size are its.
    interleave : str
        ``pixel``: a block holds all bands. ``band``: each band has its own blocks.
    nodata : tuple of (float or None) or None
        Per band; GeoTIFF holds one value for all, so they must not differ. None: there is none.
    has_mask : bool
        True: an internal mask says which pixels are valid, in all bands alike.
    color_interpretation : tuple of str
        Per band, rasterio's names: ``gray``, ``red``, ``alpha``, ``undefined``; empty: ``gray``,
        then ``undefined``.
    palette : tuple of (int, int, int, int) or None
        Red, green, blue, alpha from 0 to 255, from the value 0 up. TIFF does not keep the alpha.
    white_is_zero : bool
        True: gray is darker the higher it is.
    scales, offsets : tuple of float
        Per band; empty: 1 and 0.
    units, descriptions : tuple of (str or None)
        Per band; empty: none.
    tags : dict of str
        GDAL metadata of the dataset. Statistics, software, host and time are never written.
    band_tags : tuple of dict of str
        GDAL metadata of each band; empty: none.
    area_or_point : str
        ``Area`` or ``Point``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: Grid
    bands: int = Field(ge=1, le=65535)
    codec: BlockCodec
    interleave: Literal["pixel", "band"] = "pixel"
    nodata: tuple[Number | None, ...] | None = None
    has_mask: bool = False
    color_interpretation: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int, int], ...] | None = None
    white_is_zero: bool = False
    scales: tuple[Number, ...] = ()
    offsets: tuple[Number, ...] = ()
    units: tuple[str | None, ...] = ()
    descriptions: tuple[str | None, ...] = ()
    tags: dict[str, str] = Field(default_factory=dict)
    band_tags: tuple[dict[str, str], ...] = ()
    area_or_point: Literal["Area", "Point"] = "Area"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("color_interpretation", "scales", "offsets", "units", "descriptions"):
            values = getattr(self, name)
            if values and len(values) != self.bands:
                raise ValueError(f"{len(values)} {name} for {self.bands} bands")
        if self.band_tags and len(self.band_tags) != self.bands:
            raise ValueError(f"{len(self.band_tags)} band_tags for {self.bands} bands")
        if self.codec.samples != (1 if self.planes > 1 else self.bands):
            raise ValueError(f"a codec of {self.codec.samples} samples for {self.bands} bands")
        self._check_nodata()
        return self

    def _check_nodata(self) -> None:
        values = set(map(repr, self.nodata or ()))
        if len(values) > 1 or (self.nodata is not None and len(self.nodata) != self.bands):
            raise Refused(
                f"bands with different nodata values ({', '.join(sorted(values))})",
                "choose one for all with --nodata; a GeoTIFF can hold no more",
            )
        if self.has_mask and self.nodata_value is not None:
            raise ValueError("an image has either a mask or a nodata value")

    @property
    def dtype(self) -> str:
        """NumPy name of one sample."""
        return self.codec.dtype

    @property
    def block(self) -> int:
        """Side of a block in pixels."""
        return self.codec.block

    @property
    def planes(self) -> int:
        """The bands where each has blocks of its own, else 1."""
        return self.bands if self.interleave == "band" else 1

    @property
    def nodata_value(self) -> float | None:
        """The one nodata value of all bands."""
        return self.nodata[0] if self.nodata else None

    @property
    def alpha(self) -> int | None:
        """Index of the alpha band, counted from 0."""
        names = self.color_interpretation
        return names.index("alpha") if "alpha" in names else None

    @property
    def fill(self) -> Any:
        """What pixels without a meaning hold: outside the image, and in tiles never written."""
        dtype = np.dtype(self.dtype)
        value = self.nodata_value
        if value is None:
            means_nothing = dtype.kind in "fc" and not self.has_mask and self.alpha is None
            return dtype.type(np.nan if means_nothing else 0)
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            whole = math.isfinite(value) and float(value).is_integer()
            return dtype.type(int(value) if whole and info.min <= value <= info.max else 0)
        with np.errstate(over="ignore"):
            return dtype.type(value)

    def reduction(self, method: Method) -> Reduction:
        """Return how the overviews of this image are made."""
        return Reduction(
            method=method,
            nodata=None if self.has_mask else self.nodata_value,
            alpha=None if self.has_mask or self.nodata_value is not None else self.alpha,
        )
