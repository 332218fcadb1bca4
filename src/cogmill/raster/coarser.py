"""Reading an overview in the source's place, where the target is that much coarser."""

from __future__ import annotations

from typing import Final

from cogmill.raster.reduced import ReducedImage
from cogmill.raster.structure import Structure
from cogmill.raster.warpspec import KernelScales

#: Kernels that blend: a pixel of an overview means to them what the pixels below it mean. The
#: others pick or rank values, and an average that stands nowhere in the source is none of them.
_BLENDING: Final = frozenset({"bilinear", "cubic", "cubic_spline", "lanczos", "average"})
#: A target a little finer than an overview is still of its resolution (GDAL's own allowance).
_ALLOWANCE: Final = 0.1


def overview_for(structure: Structure, kernel: str, scales: KernelScales) -> ReducedImage | None:
    """Return the smallest overview that is no coarser than the target, None: the image itself.

    Parameters
    ----------
    structure : Structure
        The source.
    kernel : str
        Resampling.
    scales : KernelScales
        Target pixels to a pixel of the source at full resolution.
    """
    if kernel not in _BLENDING:
        return None
    # Along the side that loses less: nothing of it may be lost before the kernel sees it.
    coarser = 1 / max(scales.xscale, scales.yscale) + _ALLOWANCE
    fitting = [found for found in structure.reduced if found.factor <= coarser]
    return max(fitting, key=lambda found: found.factor, default=None)


def at_overview(structure: Structure, overview: ReducedImage) -> Structure:
    """Return a source as it is at an overview: the same place on the Earth, fewer pixels.

    Parameters
    ----------
    structure : Structure
        The source.
    overview : ReducedImage
        One of ``structure.reduced``.
    """
    image = overview.image
    across, down = structure.width / image.width, structure.height / image.height
    transform = structure.transform
    if transform is not None:
        x0, dx, rx, y0, ry, dy = transform
        transform = (x0, dx * across, rx * down, y0, ry * across, dy * down)
    return structure.model_copy(
        update={
            "image": image,
            "mask": overview.mask,
            "transform": transform,
            "sparse_blocks": int(image.blocks.sparse.sum()),
            "reduced": (),
            "read_overview": overview.number,
        }
    )
