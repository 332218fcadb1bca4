"""The types of arrays, each with one name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Pixels of any dtype; each docstring says the shape.
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: True is a valid pixel.
BoolMask = npt.NDArray[np.bool_]
#: 255 is a valid pixel, 0 is none: as GDAL has masks.
ByteMask = npt.NDArray[np.uint8]
