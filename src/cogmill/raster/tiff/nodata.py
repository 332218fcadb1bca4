"""The nodata values of a source: what its tag says, where GDAL and rasterio say something else."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import numpy as np

from cogmill.errors import Refused

#: Whole numbers up to this one, and no further, come through a float of 64 bits in GDAL: it adds a
#: half and cuts the fraction off, so the last bit of a float is not enough.
EXACT_IN_FLOATS: Final = 2**52
_SHOWN: Final = 40


def source_nodata(
    name: str, dtype: str, found: tuple[float | None, ...], text: str
) -> tuple[float | None, ...]:
    """Return each band's nodata, also one that no pixel can have, of which rasterio is silent.

    Parameters
    ----------
    name : str
        What messages call the source.
    dtype : str
        Of its pixels.
    found : tuple of (float or None)
        What rasterio says, one a band.
    text : str
        What the tag says, empty where there is none.

    Raises
    ------
    Refused
        When the tag holds no number, of which GDAL makes 0 and so loses valid pixels; when 64-bit
        integers would not come through as a float.
    """
    number = _number(text)
    if text and number is None and any(value == 0 for value in found):
        raise Refused(
            f"{name} has the nodata value {text[:_SHOWN]!r}, which is no number",
            "correct it: gdal_edit.py -a_nodata VALUE INPUT, or -unsetnodata",
        )
    _check_wide(name, dtype, found, text)
    if number is not None and all(value is None for value in found):
        return (number,) * len(found)
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _check_wide(name: str, dtype: str, found: tuple[float | None, ...], text: str) -> None:
    if np.dtype(dtype).kind not in "iu" or np.dtype(dtype).itemsize < 8:
        return
    values = [value for value in found if value is not None]
    with suppress(ValueError):  # None there, or a sidecar's, or no number.
        values.append(int(text))
    wide = [value for value in values if abs(value) > EXACT_IN_FLOATS]
    if wide:
        raise Refused(
            f"{name} has the nodata value {text or wide[0]}, beyond what can be kept exactly",
            f"choose one within {EXACT_IN_FLOATS}: gdal_calc.py, then gdal_edit.py -a_nodata",
        )
