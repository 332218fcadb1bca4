"""Point transforms: fitted polynomials, thin-plate splines, rational polynomials, inverses.

Pure arithmetic in NumPy, as GDAL's transformers do it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from cogmill.raster.arrays import Floats

PointArrays = tuple[Floats, Floats]
#: From many points to many points.
PointTransform = Callable[[Floats, Floats], PointArrays]

#: Values of the spline's kernel that are held at a time.
_KERNEL_VALUES: Final = 1 << 20
_ITERATIONS: Final = 15
#: The part of what is near enough that iteration goes on to.
_CONVERGED: Final = 1e-7


def newton_inverse(
    forward: PointTransform,
    wanted: PointArrays,
    start: PointArrays,
    steps: tuple[float, float],
    found: float,
) -> PointArrays:
    """Return the points that a transform takes to the points wanted, by Newton's method.

    Parameters
    ----------
    forward : callable
        The transform.
    wanted, start : (ndarray, ndarray)
        Where it should lead, and what is tried first; of one shape.
    steps : (float, float)
        Of the numerical derivative, along each axis of `start`.
    found : float
        How near is near enough, in units of `wanted`.

    Returns
    -------
    (ndarray, ndarray)
        NaN where it was not found.
    """
    (xs, ys), off = start, np.full(np.shape(wanted[0]), np.inf)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_ITERATIONS):
            at = forward(xs, ys)
            wrong = at[0] - wanted[0], at[1] - wanted[1]
            off = np.maximum(np.abs(wrong[0]), np.abs(wrong[1]))
            if not (off > found * _CONVERGED).any():
                break
            across, down = forward(xs + steps[0], ys), forward(xs, ys + steps[1])
            (a, b), (c, d) = (
                ((across[i] - at[i]) / steps[0], (down[i] - at[i]) / steps[1]) for i in (0, 1)
            )
            det = a * d - b * c
            xs = xs - (wrong[0] * d - wrong[1] * b) / det
            ys = ys - (wrong[1] * a - wrong[0] * c) / det
    return np.where(off < found, xs, np.nan), np.where(off < found, ys, np.nan)


def fit_polynomials(known: Floats, wanted: Floats, order: int) -> PointTransform:
    """Return two polynomials fitted by least squares.

    Parameters
    ----------
    known, wanted : ndarray
        Shape ``(point, 2)``.
    order : int
        The largest sum of exponents.
    """
    middle, extent = known.mean(axis=0), np.ptp(known, axis=0)
    scaled = (known - middle) / extent
    terms = polynomial_terms(scaled[:, 0], scaled[:, 1], order)
    coefficients = np.linalg.lstsq(terms, wanted, rcond=None)[0]

    def fitted(first: Floats, second: Floats) -> PointArrays:
        at = polynomial_terms(
            (first - middle[0]) / extent[0], (second - middle[1]) / extent[1], order
        )
        found = at @ coefficients
        return found[..., 0], found[..., 1]

    return fitted


def polynomial_terms(first: Floats, second: Floats, order: int) -> Floats:
    """Return a polynomial's terms, in a new last axis.

    Parameters
    ----------
    first, second : ndarray
        Of one shape.
    order : int
        The largest sum of exponents.
    """
    exponents = [(total - n, n) for total in range(order + 1) for n in range(total + 1)]
    with np.errstate(invalid="ignore", over="ignore"):
        return np.stack([first**a * second**b for a, b in exponents], axis=-1)


def fit_splines(known: Floats, wanted: Floats) -> PointTransform:
    """Return two thin-plate splines (Duchon 1977) through points.

    Parameters
    ----------
    known, wanted : ndarray
        Shape ``(point, 2)``; no two of `known` at one place, nor all on a line.
    """
    middle, extent = known.mean(axis=0), float(np.ptp(known, axis=0).max())
    knots = (known - middle) / extent
    count = len(knots)
    matrix = np.zeros((count + 3, count + 3))
    plane = np.column_stack([np.ones(count), knots])
    matrix[:count, :count] = _kernel(knots[:, 0], knots[:, 1], knots)
    matrix[:count, count:], matrix[count:, :count] = plane, plane.T
    right = np.concatenate([wanted - wanted.mean(axis=0), np.zeros((3, 2))])
    coefficients, shift = np.linalg.solve(matrix, right), wanted.mean(axis=0)

    def fitted(first: Floats, second: Floats) -> PointArrays:
        xs, ys = (first.ravel() - middle[0]) / extent, (second.ravel() - middle[1]) / extent
        found = np.empty((xs.size, 2))
        step = max(1, _KERNEL_VALUES // count)
        for start in range(0, xs.size, step):
            part = slice(start, start + step)
            flat = np.column_stack([np.ones(xs[part].size), xs[part], ys[part]])
            found[part] = _kernel(xs[part], ys[part], knots) @ coefficients[:count]
            found[part] += flat @ coefficients[count:] + shift
        return found[:, 0].reshape(first.shape), found[:, 1].reshape(first.shape)

    return fitted


def _kernel(xs: Floats, ys: Floats, knots: Floats) -> Floats:
    """Return r^2 log(r^2) from each point to each knot, shape ``(point, knot)``."""
    squares = (xs[:, None] - knots[:, 0]) ** 2 + (ys[:, None] - knots[:, 1]) ** 2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(squares == 0, 0.0, squares * np.log(squares))


def rational_terms(long: Floats, lat: Floats, height: float) -> Floats:
    """Return the twenty terms of RPC00B in its order, in a new first axis.

    Parameters
    ----------
    long, lat : ndarray
        Of one shape, normalised.
    height : float
        Normalised.
    """
    high = np.full(np.shape(long), height)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([
            np.ones(np.shape(long)), long, lat, high,
            long * lat, long * high, lat * high, long**2, lat**2, high**2,
            long * lat * high, long**3, long * lat**2, long * high**2, long**2 * lat,
            lat**3, lat * high**2, long**2 * high, lat**2 * high, high**3,
        ])  # fmt: skip


def rational_values(terms: Floats, above: tuple[float, ...], below: tuple[float, ...]) -> Floats:
    """Return one polynomial over another.

    Parameters
    ----------
    terms : ndarray
        Of `rational_terms`.
    above, below : tuple of float
        Twenty coefficients each.
    """
    up, down = (np.tensordot(np.array(each), terms, axes=1) for each in (above, below))
    return np.asarray(up / down)
