"""Division of whole numbers that rounds up. Parents load it: no NumPy here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_Whole = TypeVar("_Whole", int, "npt.NDArray[np.int64]")


def ceil_div(size: _Whole, unit: int) -> _Whole:
    """Return how many units it takes to hold a size: the quotient, rounded up.

    Parameters
    ----------
    size : int or ndarray of int64
        Of what is held.
    unit : int
        At least 1.
    """
    return -(-size // unit)
