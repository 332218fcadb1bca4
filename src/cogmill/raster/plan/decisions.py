"""What a plan decides from the pixels' meaning: validity, kernels, codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

import numpy as np

from cogmill.errors import Refused
from cogmill.raster.codecs.block_codec import BlockCodec, Predictor
from cogmill.raster.codecs.profiles import (
    CodecOptions,
    Samples,
    drops_alpha,
    profile_codec,
)
from cogmill.raster.cog.reduction import Method
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.raster_plan import Validity
from cogmill.raster.tiff.nodata import EXACT_IN_FLOATS
from cogmill.raster.tiff.pages import ReducedImage
from cogmill.raster.warp.warp_spec import KernelScales

_PREDICTORS: Final[dict[str, Predictor | Literal["natural"]]] = {
    "YES": "natural", "NO": 1, "STANDARD": 2, "FLOATING_POINT": 3
}  # fmt: skip
#: The colours of a JPEG of three bands, whatever they were: it keeps them as YCbCr.
_RGB: Final = ("red", "green", "blue")


Colors = tuple[str, ...]


@dataclass(slots=True)
class Notes:
    """Warnings gathered while a plan is made.

    Attributes
    ----------
    warnings : list of str
        Sentences without a full stop.
    """

    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)


def holds_classes(structure: Structure) -> bool:
    """Return whether values are labels, so that mixing two of them means nothing."""
    return structure.palette is not None or structure.image.bits == 1 or structure.categories


def is_complex(structure: Structure) -> bool:
    """Return whether samples are complex numbers."""
    return np.dtype(structure.dtype).kind == "c"


def decide_resampling(structure: Structure, options: PlanOptions, notes: Notes) -> str:
    """Return the warp's kernel: the user's, or by the data.

    Raises
    ------
    Refused
        Complex pixels are asked to be mixed.
    """
    labels = holds_classes(structure) or is_complex(structure)
    if options.resampling is None:
        return "nearest" if labels else "bilinear"
    if is_complex(structure) and options.resampling != "nearest":
        raise Refused(
            f"--resampling {options.resampling} is not offered for complex pixels",
            "leave it out: they are taken by nearest",
        )
    if holds_classes(structure) and options.resampling not in ("nearest", "mode"):
        notes.warn(
            f"--resampling {options.resampling} mixes values that are labels (a palette, single "
            "bits, category names); nearest or mode keeps them"
        )
    return options.resampling


def decide_overview_resampling(structure: Structure, options: PlanOptions) -> Method:
    """Return the overviews' kernel: the user's, or by the data."""
    if options.overviews_by is not None:
        return cast(Method, options.overviews_by)
    return "nearest" if holds_classes(structure) or is_complex(structure) else "average"


def decide_codec(structure: Structure, options: PlanOptions) -> BlockCodec:
    """Return how the blocks of the output are encoded.

    Raises
    ------
    Refused
        The profile cannot hold these pixels.
    """
    named = options.creation_options
    together = named.get("INTERLEAVE")
    samples = Samples(
        dtype=structure.dtype,
        bands=structure.bands,
        alpha_band=structure.alpha_band,
        classes=holds_classes(structure),
        together=None if together is None else together == "PIXEL",
    )
    asked = CodecOptions(
        level=options.level,
        quality=options.quality,
        max_z_error=options.max_z_error,
        predictor=_PREDICTORS.get(named.get("PREDICTOR", "")),
    )
    return profile_codec(options.compression, samples, options.block, asked)


def decide_colors(
    structure: Structure, found: BlockCodec, bands: Sequence[int], notes: Notes
) -> Colors:
    """Return the colour interpretation of the output's bands, numbered from 1.

    Three bands in a JPEG are red, green and blue to every reader.
    """
    names = tuple(structure.color_interpretation[band - 1] for band in bands)
    if found.compression == "jpeg" and len(bands) == 3 and names != _RGB:
        notes.warn(f"JPEG calls its three bands red, green and blue; they were {', '.join(names)}")
        return _RGB
    return names


def representable(value: float, dtype: str) -> bool:
    """Return whether a pixel of this type can hold the value.

    Floats are taken for what they round to, as GDAL does: -3.4028234663852886e+38 is a float32.
    """
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        # GDAL and rasterio hand a nodata value of 64 bits on as a float.
        low, high = max(info.min, -EXACT_IN_FLOATS), min(info.max, EXACT_IN_FLOATS)
        return math.isfinite(value) and value.is_integer() and low <= value <= high
    if not math.isfinite(value):
        return True
    with np.errstate(over="ignore"):
        rounded = np.float64(np.zeros((), kind).real.dtype.type(value))
    return bool(np.isfinite(rounded))


def lossy_validity(
    structure: Structure, validity: Validity, found: BlockCodec, notes: Notes
) -> Validity:
    """Return how the output of a codec says which pixels mean nothing: never by a changed value.

    Where a codec is lossy, nodata becomes a mask, valid where any band is; so does an alpha band,
    valid where it is not 0, unless the codec keeps it as it is. NaN stays NaN.

    Parameters
    ----------
    structure : Structure
        The source.
    validity : Validity
        What `decide_validity` found.
    found : BlockCodec
        The codec.
    notes : Notes
        Gets a warning of what is lost.
    """
    if not found.lossy:
        return validity
    name = found.compression
    dropped = structure.alpha_band if drops_alpha(found) else None
    validity = validity.model_copy(update={"dropped_band": dropped})
    if validity.kind == "alpha" and dropped is not None:
        notes.warn(
            f"{name} is lossy: the alpha band becomes a mask, valid where it is not 0, "
            "and half transparent pixels become opaque"
        )
        return validity.model_copy(update={"target_mask": True})
    if dropped is not None:
        notes.warn(f"{name} is lossy, and the alpha band, which is not used, is left out")
    sentinels = [value for value in validity.source_nodata or () if value is not None]
    only_nan = dropped is None and all(map(math.isnan, sentinels))
    if validity.kind == "nodata" and not only_nan:
        notes.warn(f"{name} is lossy: nodata becomes a mask, valid where any band is")
        return validity.model_copy(update={"target_mask": True, "target_nodata": None})
    return validity


def decide_validity(
    structure: Structure, options: PlanOptions, reprojects: bool, notes: Notes
) -> Validity:
    """Return how pixels say that they mean nothing, before and after the warp.

    ``--nodata`` speaks first, then alpha, then a mask, then per-band nodata. Nothing is invented
    unless pixels are reprojected, since then the target has corners without any source.

    Parameters
    ----------
    structure : Structure
        The source.
    options : PlanOptions
        For ``nodata``.
    reprojects : bool
        Whether pixels are warped.
    notes : Notes
        Gets a warning for all that is present and not used.

    Raises
    ------
    Refused
        ``--nodata`` is no value of the pixels' type.
    """
    own = _own_nodata(structure, notes)
    if options.nodata is not None:
        if not representable(options.nodata, structure.dtype):
            raise Refused(
                f"--nodata {options.nodata:g} is not a value of {structure.dtype} pixels",
                "give a value that a pixel can have",
            )
        _warn_unused(structure, notes, "--nodata", ("alpha band", "mask"))
        values = (float(options.nodata),) * structure.bands
        return Validity(kind="nodata", source_nodata=values, target_nodata=values)
    if structure.alpha_band is not None:
        _warn_unused(structure, notes, "the alpha band", ("mask", "nodata"), own)
        if structure.color_interpretation.count("alpha") > 1:
            notes.warn(f"of several alpha bands, band {structure.alpha_band} says what is valid")
        return Validity(kind="alpha", alpha_band=structure.alpha_band)
    if structure.mask is not None:
        _warn_unused(structure, notes, "the mask", ("nodata",), own)
        return Validity(kind="mask", target_mask=True)
    if own is not None:
        target = _one_for_all(own, structure.dtype, notes) if reprojects else own
        return Validity(kind="nodata", source_nodata=own, target_nodata=target)
    if not reprojects:
        return Validity(kind="none")
    if np.dtype(structure.dtype).kind in "fc":
        nan = (math.nan,) * structure.bands
        return Validity(kind="none", source_nodata=nan, target_nodata=nan)
    return Validity(kind="none", target_mask=True)


def _own_nodata(structure: Structure, notes: Notes) -> tuple[float | None, ...] | None:
    """Return the source's nodata that a pixel can have, None where there is none."""
    values = tuple(
        None if value is None or not representable(value, structure.dtype) else value
        for value in structure.nodata
    )
    lost = {
        v
        for v, kept in zip(structure.nodata, values, strict=True)
        if v is not None and kept is None
    }
    for value in sorted(lost):
        notes.warn(
            f"nodata {value:g} is not a value of {structure.dtype} pixels, so no pixel has it; "
            "it is left out"
        )
    return values if any(value is not None for value in values) else None


def _one_for_all(
    own: tuple[float | None, ...], dtype: str, notes: Notes
) -> tuple[float | None, ...]:
    """Return the nodata of the target, which is one for all bands: a GeoTIFF can hold no more."""
    if len(set(map(repr, own))) == 1:
        return own
    first = next(value for value in own if value is not None)
    value = math.nan if np.dtype(dtype).kind in "fc" else first
    named = ", ".join("none" if each is None else f"{each:g}" for each in own)
    beside = (
        "" if math.isnan(value) else "; a pixel that has this value by itself becomes its neighbour"
    )
    notes.warn(f"nodata differs by band ({named}), and becomes {value:g} in all of them{beside}")
    return (value,) * len(own)


def _warn_unused(
    structure: Structure,
    notes: Notes,
    used: str,
    candidates: tuple[str, ...],
    own: tuple[float | None, ...] | None = None,
) -> None:
    present = {
        "alpha band": structure.alpha_band is not None,
        "mask": structure.mask is not None,
        "nodata": own is not None,
    }
    for name in candidates:
        if present[name]:
            notes.warn(f"{used} says which pixels are valid; the source's {name} is not used")


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
