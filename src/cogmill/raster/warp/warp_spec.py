"""What a warp is, decided once for a raster: every pixel follows from these values alone."""

from __future__ import annotations

import math
from typing import Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from cogmill.errors import Refused
from cogmill.raster.geometry.grid import Grid
from cogmill.raster.options.grid_options import Number

#: GDAL's name of each kernel and its radius in source pixels where nothing is scaled down.
KERNELS: Final = {
    "nearest": ("NearestNeighbour", 0),
    "bilinear": ("Bilinear", 1),
    "cubic": ("Cubic", 2),
    "cubic_spline": ("CubicSpline", 2),
    "lanczos": ("Lanczos", 3),
    "average": ("Average", 0),
    "rms": ("RootMeanSquare", 0),
    "mode": ("Mode", 0),
    "max": ("Maximum", 0),
    "min": ("Minimum", 0),
    "med": ("Median", 0),
    "q1": ("Quartile1", 0),
    "q3": ("Quartile3", 0),
}
#: GDAL's names of NumPy's types.
GDAL_TYPES: Final = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
    "complex64": "CFloat32",
    "complex128": "CFloat64",
}

Nodata = tuple[Number | None, ...]


#: From this scale on GDAL's kernel does not grow.
UNSCALED: Final = 0.95


class KernelScales(BaseModel):
    """How many target pixels there are to a source pixel, over the whole target grid.

    Attributes
    ----------
    xscale, yscale : float
        Along the source's columns and rows, as the warp uses them: the median, and 1 from 0.95 on.
        Below 1 the kernel grows, so that every source pixel counts.
    minimum, median, maximum : float
        Of both together (the root of their product), before that rounding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    xscale: float
    yscale: float
    minimum: float
    median: float
    maximum: float

    @property
    def uneven(self) -> bool:
        """Whether some place is scaled by less than half of what the kernel was made for."""
        return self.minimum < self.median / 2


class WarpSpec(BaseModel):
    """The warp of one raster.

    Attributes
    ----------
    source, target : Grid
        Both in full; windows are addressed in them.
    resampling : str
        One of `KERNELS`.
    xscale, yscale : float
        Of `KernelScales`.
    coordinate_operation : str or None
        PROJ pipeline from source to target in the authorities' axis order. None: both grids are in
        the same system.
    dtype : str
        NumPy's name.
    bands : int
        Bands without the alpha band.
    source_nodata, target_nodata : tuple of (float or None) or None
        Per band, what is invalid in the source and what invalid pixels become. NaN is always
        invalid in floats. Each band is valid or not on its own.
    source_alpha : bool
        True: held pixels have one more plane, the alpha band; so has the result.
    source_mask : bool
        True: a pixel is valid where `HeldPixels.mask` is not 0, in all bands.
    target_mask : bool
        True: the result has a mask.
    within_projection : bool
        True: what lies outside the image of the target's projection is invalid. PROJ gives many
        such places a longitude and latitude all the same, and they would show places twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Grid
    target: Grid
    resampling: str
    xscale: float = 1.0
    yscale: float = 1.0
    coordinate_operation: str | None = None
    dtype: str
    bands: int
    source_nodata: Nodata | None = None
    target_nodata: Nodata | None = None
    source_alpha: bool = False
    source_mask: bool = False
    target_mask: bool = False
    within_projection: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_resampling(self.resampling)
        if self.dtype not in GDAL_TYPES:
            raise Refused(
                f"pixels of type {self.dtype} cannot be warped",
                f"convert them first to one of {', '.join(GDAL_TYPES)}",
            )
        for wrong, what in (
            (
                self.coordinate_operation is None and self.source.crs != self.target.crs,
                "two coordinate systems need one operation between them",
            ),
            (self.source_alpha and self.source_mask, "validity is either an alpha band or a mask"),
            (
                self.target_mask and (self.source_alpha or self.source_nodata is not None),
                "a target mask comes of a source mask, or of nothing",
            ),
            (
                self.target_mask and self.is_float and not self.source_mask,
                "floats without a mask mark what is invalid by NaN or by nodata",
            ),
            (
                any(len(each) != self.bands for each in self.nodata if each is not None),
                "nodata has one value a band",
            ),
            (not 0 < self.xscale <= 1 or not 0 < self.yscale <= 1, "scales lie in 0 to 1"),
        ):
            if wrong:
                raise ValueError(what)
        return self

    @property
    def ends(self) -> tuple[str, str]:
        """The systems of source and target."""
        return self.source.crs, self.target.crs

    @property
    def nodata(self) -> tuple[Nodata | None, Nodata | None]:
        """Nodata of source and target."""
        return self.source_nodata, self.target_nodata

    @property
    def is_float(self) -> bool:
        """Whether pixels can be NaN."""
        return np.dtype(self.dtype).kind in "fc"

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        return np.dtype(self.dtype).itemsize

    @property
    def planes(self) -> int:
        """Planes of held pixels and of the result: bands, and the alpha band if any."""
        return self.bands + self.source_alpha

    @property
    def radius(self) -> int:
        """The kernel's radius in source pixels where nothing is scaled down."""
        return KERNELS[self.resampling][1]

    @property
    def reach(self) -> int:
        """The kernel's radius in source pixels as this warp uses it, on its wider axis."""
        return math.ceil(self.radius / min(self.xscale, self.yscale))

    def invalid(self) -> list[float | None]:
        """Return for each band the value that marks invalid source pixels, None where none does."""
        if self.source_alpha or self.source_mask:
            return [None] * self.bands
        default = math.nan if self.is_float else None
        return [default if value is None else value for value in self._of(self.source_nodata)]

    def fill(self) -> list[float]:
        """Return for each plane what invalid pixels of the result hold."""
        # NaN where floats have nothing else to say it with; a mask or alpha says it by itself.
        silent = self.is_float and not (self.source_alpha or self.target_mask)
        default = math.nan if silent else 0.0
        values = [default if value is None else value for value in self._of(self.target_nodata)]
        return values + [0.0] * self.source_alpha

    def _of(self, nodata: Nodata | None) -> Nodata:
        return (None,) * self.bands if nodata is None else nodata


def check_resampling(name: str) -> None:
    """Refuse a kernel that is unknown, or whose result depends on how the work is cut.

    Raises
    ------
    Refused
        The remedy names what to use.
    """
    if name == "sum":
        raise Refused(
            "resampling by sum depends on how the work is cut", "use average, times the area ratio"
        )
    if name not in KERNELS:
        raise Refused(f"there is no resampling {name!r}", f"use one of {', '.join(KERNELS)}")
