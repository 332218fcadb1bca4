"""Placing a raster without a geotransform: by ground control points or by rational polynomials.

The same mathematics as GDAL's transformers, in NumPy, for plans alone: what of the source a window
needs, the kernel's scales, the grid. Pixels come from GDAL's own transformer, within the warp.

As there, polynomials are fitted to control points twice, from pixels to coordinates and back, and
neither way is the other's exact inverse; a spline leads from pixels to coordinates and rational
polynomials from coordinates to pixels, and the other way is found by iteration.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cogmill.errors import Refused
from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.polynomials import (
    PointArrays,
    PointTransform,
    fit_polynomials,
    fit_splines,
    newton_inverse,
    polynomial_terms,
    rational_terms,
    rational_values,
)

#: Column, row, x, y and height of a control point; whole columns and rows are corners of pixels.
ControlPoint = tuple[float, float, float, float, float]
PolynomialOrder = Literal[1, 2, 3]
Twenty = Annotated[tuple[float, ...], Field(min_length=20, max_length=20)]

#: Fewer do not say where a plane lies.
LEAST_POINTS: Final = 3
#: GDAL looks at all of a spline's points for every pixel: with so many an output tile of 4096 x
#: 4096 pixels takes 20 minutes, and a task has an hour.
MOST_SPLINE_POINTS: Final = 1000
#: GDAL fits a line, not a plane, where the points' correlation squared is above this, or their
#: extents are further apart than the other figure.
_LINE_CORRELATION: Final = 0.99
_LINE_EXTENT: Final = 1e-3
_EQUATION_BYTES: Final = 5 * 8
#: In pixels: how near iteration goes, which is GDAL's figure.
_FOUND: Final = 0.1
#: What of rational polynomials GDAL takes apart from their coefficients.
NOT_COEFFICIENTS: Final = {"kind", "height", "elevation"}
#: The step of a derivative, as a part of the raster.
_STEP: Final = 1e-6


class Polynomial(BaseModel):
    """Two polynomials in column and row, fitted to control points by least squares, and back.

    Attributes
    ----------
    order : int
        1 to 3.
    points : tuple of ControlPoint
        In the system of the grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["polynomial"] = "polynomial"
    order: PolynomialOrder
    points: tuple[ControlPoint, ...]

    def positions(self, cols: Floats, rows: Floats) -> PointArrays:
        """Return x, y of places on the raster."""
        return _fits(self)[0](cols, rows)

    def places(self, xs: Floats, ys: Floats) -> PointArrays:
        """Return columns, rows of coordinates, by the fit of the way back."""
        return _fits(self)[1](xs, ys)

    @property
    def working_bytes(self) -> int:
        """What GDAL allocates for it at a time."""
        return 0

    @property
    def text(self) -> str:
        """What it is, in words."""
        return f"{len(self.points)} ground control points, a polynomial of order {self.order}"


class Spline(BaseModel):
    """Two thin-plate splines through control points, and two back.

    Attributes
    ----------
    points : tuple of ControlPoint
        In the system of the grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["spline"] = "spline"
    points: tuple[ControlPoint, ...]

    def positions(self, cols: Floats, rows: Floats) -> PointArrays:
        """Return x, y of places on the raster."""
        return _fits(self)[0](cols, rows)

    def places(self, xs: Floats, ys: Floats) -> PointArrays:
        """Return columns, rows of coordinates; NaN where none is found.

        By Newton's method from splines of the way back, as GDAL does from its version 3.7 on:
        those splines alone, as before, are no exact inverse.
        """
        there, back = _fits(self)
        values = np.array(self.points)
        extents = np.ptp(values, axis=0)
        found = float(extents[2:4].max() / extents[:2].max()) * _FOUND
        steps = _STEP * float(extents[0]), _STEP * float(extents[1])
        return newton_inverse(there, (xs, ys), back(xs, ys), steps, found)

    @property
    def working_bytes(self) -> int:
        """What GDAL allocates for it at a time: the equations, and what solving them takes.

        Measured as ``VmHWM`` with GDAL 3.10.3: 83 MB for 1,600 points.
        """
        return _EQUATION_BYTES * (len(self.points) + LEAST_POINTS) ** 2

    @property
    def text(self) -> str:
        """What it is, in words."""
        return f"{len(self.points)} ground control points, a thin-plate spline"


class Elevation(BaseModel):
    """The heights of the ground under a raster, by a DEM that GDAL reads while it warps.

    Attributes
    ----------
    path : str
        The DEM for GDAL, in EPSG:4326, without holes where the raster lies.
    low, high : float
        Of the ground that the raster may see, in metres above the ellipsoid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    low: float
    high: float

    @property
    def middle(self) -> float:
        """The height for which a plan is made; `low` and `high` say how far off it may be."""
        return (self.low + self.high) / 2


class Rational(BaseModel):
    """Rational polynomials of the form RPC00B (NITF STDI-0002, appendix E), at one height.

    Attributes
    ----------
    line_off, samp_off, line_scale, samp_scale : float
        In pixels; whole numbers are the centres of pixels.
    lat_off, long_off, lat_scale, long_scale : float
        In degrees, WGS 84.
    height_off, height_scale : float
        In metres above the ellipsoid.
    line_num_coeff, line_den_coeff, samp_num_coeff, samp_den_coeff : tuple of float
        Twenty each.
    height : float
        Of the ground, in metres above the ellipsoid; with a DEM, what plans take it for.
    elevation : Elevation or None
        The ground by a DEM. None: all of it is at `height`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["rpc"] = "rpc"
    line_off: float
    samp_off: float
    lat_off: float
    long_off: float
    height_off: float
    line_scale: float
    samp_scale: float
    lat_scale: float
    long_scale: float
    height_scale: float
    line_num_coeff: Twenty
    line_den_coeff: Twenty
    samp_num_coeff: Twenty
    samp_den_coeff: Twenty
    height: float = 0.0
    elevation: Elevation | None = None

    def places(self, xs: Floats, ys: Floats) -> PointArrays:
        """Return columns, rows of longitudes and latitudes: the formula as it is."""
        turns = np.where(xs - self.long_off < -270, 360.0, 0.0)
        turns = np.where(xs - self.long_off > 270, -360.0, turns)
        terms = rational_terms(
            (xs - self.long_off + turns) / self.long_scale,
            (ys - self.lat_off) / self.lat_scale,
            (self.height - self.height_off) / self.height_scale,
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            samples = rational_values(terms, self.samp_num_coeff, self.samp_den_coeff)
            lines = rational_values(terms, self.line_num_coeff, self.line_den_coeff)
        return (
            samples * self.samp_scale + self.samp_off + 0.5,
            lines * self.line_scale + self.line_off + 0.5,
        )

    def positions(self, cols: Floats, rows: Floats) -> PointArrays:
        """Return longitudes, latitudes of places on the raster; NaN where none is found.

        By Newton's method from the middle of the polynomials' area.
        """
        start = np.full(np.shape(cols), self.long_off), np.full(np.shape(cols), self.lat_off)
        steps = _STEP * self.long_scale, _STEP * self.lat_scale
        return newton_inverse(self.places, (cols, rows), start, steps, _FOUND)

    @property
    def working_bytes(self) -> int:
        """What GDAL allocates for it at a time."""
        return 0

    @property
    def text(self) -> str:
        """What it is, in words."""
        if self.elevation is None:
            return f"rational polynomials at a height of {self.height:g} m"
        return (
            f"rational polynomials on the ground of {self.elevation.path}, from "
            f"{self.elevation.low:g} to {self.elevation.high:g} m"
        )


def rpc_metadata(rational: Rational) -> dict[str, str]:
    """Return the coefficients as GDAL writes them: upper-case names, and lists as text.

    Parameters
    ----------
    rational : Rational
        The polynomials; their height is no part of it.
    """
    values = rational.model_dump(exclude=NOT_COEFFICIENTS)
    return {
        name.upper(): " ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
        for name, value in values.items()
    }


Control = Annotated[Polynomial | Spline | Rational, Field(discriminator="kind")]


def control_by_points(points: tuple[ControlPoint, ...], how: str, name: str) -> Polynomial | Spline:
    """Return what places a raster by control points, or refuse points that cannot.

    Parameters
    ----------
    points : tuple of ControlPoint
        In one system.
    how : str
        ``1``, ``2``, ``3`` (a polynomial of that order) or ``tps``.
    name : str
        What messages call the raster.

    Raises
    ------
    Refused
        Too few points, points on a line, or two at one place of a spline.
    """
    needed = LEAST_POINTS if how == "tps" else _terms_of(int(how))
    if len(points) < needed:
        raise Refused(
            f"{name} has {len(points)} ground control points, and --gcps {how} needs {needed}",
            _fewer(len(points)),
        )
    values = np.array(points)
    if not np.isfinite(values).all():
        raise Refused(
            f"a ground control point of {name} is no number",
            "correct it first: gdal_translate -gcp",
        )
    for pairs, what in ((values[:, :2], "pixels"), (values[:, 2:4], "coordinates")):
        if _on_a_line(pairs):
            raise Refused(
                f"the {what} of the ground control points of {name} lie on a line, nearly",
                "give it points all over the raster: gdal_translate -gcp",
            )
    if how != "tps":
        _refuse_undetermined(values, int(how), name)
        return Polynomial(order=cast(PolynomialOrder, int(how)), points=points)
    _refuse_unfit_for_splines(values, name)
    return Spline(points=points)


def residuals(control: Polynomial | Spline | Rational) -> Floats | None:
    """Return how far each control point comes back from its own place, in pixels of the source.

    Parameters
    ----------
    control : Polynomial, Spline or Rational
        What places the raster.

    Returns
    -------
    ndarray or None
        One a point, in their order; None where there are no points.
    """
    if isinstance(control, Rational):
        return None
    values = np.array(control.points)
    cols, rows = control.places(values[:, 2], values[:, 3])
    return np.asarray(np.hypot(cols - values[:, 0], rows - values[:, 1]))


def _terms_of(order: int) -> int:
    """Return how many coefficients a polynomial of two variables has."""
    return (order + 1) * (order + 2) // 2


def _fewer(points: int) -> str:
    for how in (2, 1):
        if points >= _terms_of(how):
            return f"use --gcps {how}, or give it more points: gdal_translate -gcp"
    return "give it more points: gdal_translate -gcp"


def _on_a_line(pairs: Floats) -> bool:
    """Whether points lie so near a line that GDAL takes them for one."""
    extents = np.ptp(pairs, axis=0)
    if extents.min() <= _LINE_EXTENT * extents.max():
        return True
    deviations = (pairs - pairs.mean(axis=0)) / extents
    xx, yy, xy = (
        float((deviations[:, i] * deviations[:, j]).sum()) for i, j in ((0, 0), (1, 1), (0, 1))
    )
    return bool(xy * xy > _LINE_CORRELATION * xx * yy)


def _refuse_undetermined(values: Floats, order: int, name: str) -> None:
    for pairs in (values[:, :2], values[:, 2:4]):
        scaled = (pairs - pairs.mean(axis=0)) / np.ptp(pairs, axis=0)
        if np.linalg.matrix_rank(polynomial_terms(scaled[:, 0], scaled[:, 1], order)) < _terms_of(
            order
        ):
            raise Refused(
                f"the ground control points of {name} lie so that they fix no polynomial of "
                f"order {order}",
                f"use --gcps {order - 1}" if order > 1 else "give it other points",
            )


def _refuse_unfit_for_splines(values: Floats, name: str) -> None:
    if len(values) > MOST_SPLINE_POINTS:
        raise Refused(
            f"{name} has {len(values)} ground control points, and a spline takes at most "
            f"{MOST_SPLINE_POINTS}",
            "use --gcps 3, or leave points out: gdal_translate -gcp",
        )
    for first in range(0, 4, 2):
        _, index, counts = np.unique(
            values[:, first : first + 2], axis=0, return_index=True, return_counts=True
        )
        if (counts > 1).any():
            col, row = values[index[int(counts.argmax())], :2]
            raise Refused(
                f"two ground control points of {name} are at one place (column {col:g}, "
                f"row {row:g}), through which no spline goes",
                "use --gcps 1, or leave one out: gdal_translate -gcp",
            )


@lru_cache(maxsize=8)
def _fits(control: Polynomial | Spline) -> tuple[PointTransform, PointTransform]:
    """Return the transforms from pixels to coordinates and back."""
    values = np.array(control.points)
    pixels, coordinates = values[:, :2], values[:, 2:4]
    if isinstance(control, Spline):
        return fit_splines(pixels, coordinates), fit_splines(coordinates, pixels)
    order = control.order
    return fit_polynomials(pixels, coordinates, order), fit_polynomials(coordinates, pixels, order)
