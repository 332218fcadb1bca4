"""How much finer or coarser the target is than the source: one kernel scale for a whole raster."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.seams import comes_round
from cogmill.raster.warp.footprint import source_positions
from cogmill.raster.warp.warp_spec import UNSCALED, KernelScales, WarpSpec

#: Points along each side of the target at which the Jacobian is taken.
_LATTICE: Final = 33


def kernel_scales(spec: WarpSpec) -> KernelScales:
    """Return the kernel's scales for a whole raster, from the Jacobian on a lattice of the target.

    Parameters
    ----------
    spec : WarpSpec
        The warp; its own scales are not looked at.

    Returns
    -------
    KernelScales
        Over the places of the lattice that lie on the source; over all of them where none does.
    """
    source, target = spec.source, spec.target
    cols, rows = np.meshgrid(
        np.linspace(0.5, target.width - 0.5, _LATTICE),
        np.linspace(0.5, target.height - 0.5, _LATTICE),
    )
    steps = ((-0.5, 0.0), (0.5, 0.0), (0.0, -0.5), (0.0, 0.5))
    at_cols = np.stack([cols + col for col, _ in steps])
    at_rows = np.stack([rows + row for _, row in steps])
    src_cols, src_rows = source_positions(spec, at_cols, at_rows)
    steps_x, steps_y = src_cols[1] - src_cols[0], src_cols[3] - src_cols[2]
    if comes_round(source):
        # A step across the seam of the source is no long one.
        steps_x, steps_y = (
            np.minimum(np.abs(d), source.width - np.abs(d)) for d in (steps_x, steps_y)
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        xs = 1 / np.hypot(steps_x, steps_y)
        ys = 1 / np.hypot(src_rows[1] - src_rows[0], src_rows[3] - src_rows[2])
    there = np.isfinite(xs) & np.isfinite(ys)
    on_source = there & (src_cols[0] >= 0) & (src_cols[0] <= source.width)
    on_source &= (src_rows[0] >= 0) & (src_rows[0] <= source.height)
    used = on_source if on_source.any() else there
    if not used.any():
        return KernelScales(xscale=1, yscale=1, minimum=1, median=1, maximum=1)
    both = np.sqrt(xs[used] * ys[used])
    return KernelScales(
        xscale=_scale(xs[used]),
        yscale=_scale(ys[used]),
        minimum=_rounded(both.min()),
        median=_rounded(np.median(both)),
        maximum=_rounded(both.max()),
    )


def _scale(scales: Floats) -> float:
    median = _rounded(np.median(scales))
    return 1.0 if median >= UNSCALED else median


def _rounded(value: Any) -> float:
    """Six significant digits: a scale is a choice, and travels as text."""
    return float(f"{float(value):.6g}")
