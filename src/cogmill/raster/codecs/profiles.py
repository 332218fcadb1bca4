"""What a profile's name stands for, and which pixels it can hold."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cogmill.errors import Refused
from cogmill.raster.codecs.block_codec import BlockCodec, Predictor
from cogmill.raster.codecs.image_codecs import LERC_TYPES
from cogmill.raster.options.creation_options import LERC, LEVELS, Compression

_Figure = TypeVar("_Figure", int, float)

#: Bands up to which pixels are interleaved; beyond, reading one band would fetch too many.
_INTERLEAVED_BANDS: Final = 4


class Profile(BaseModel):
    """What a profile's name stands for, before anything is known of the pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compression: Compression
    level: int | None = None
    quality: int | None = None
    max_z_error: float | None = None
    predicts: bool = False


#: The profiles that ``--profile`` may name; levels, quality and error are GDAL's own defaults.
PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "deflate": Profile(compression="deflate", level=6, predicts=True),
        "zstd": Profile(compression="zstd", level=9, predicts=True),
        "lzw": Profile(compression="lzw", predicts=True),
        "webp": Profile(compression="webp", quality=75),
        "jpeg": Profile(compression="jpeg", quality=75),
        "lerc": Profile(compression="lerc", max_z_error=0.0),
        "lerc_deflate": Profile(compression="lerc_deflate", level=6, max_z_error=0.0),
        "lerc_zstd": Profile(compression="lerc_zstd", level=9, max_z_error=0.0),
        "raw": Profile(compression="raw"),
    }
)


class CodecOptions(BaseModel):
    """What a user may change of a profile: ``--co LEVEL=9``, ``--co QUALITY=90``.

    Attributes
    ----------
    level, quality, max_z_error
        As `BlockCodec` has them; None: the profile's.
    predictor : int or str or None
        ``natural``: the one of the pixels' type, for labels too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: int | None = None
    quality: int | None = None
    max_z_error: float | None = None
    predictor: Literal[1, 2, 3, "natural"] | None = None


class Samples(BaseModel):
    """What a codec must know of the pixels that it is for.

    Attributes
    ----------
    dtype : str
        NumPy name of one sample.
    bands : int
        Alpha included.
    alpha_band : int or None
        Counted from 1.
    classes : bool
        True for palettes, one bit and category names, where differences mean nothing.
    together : bool or None
        Whether a block shall hold all bands. None: as suits bands and codec.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str
    bands: int = Field(default=1, ge=1)
    alpha_band: int | None = None
    classes: bool = False
    together: bool | None = None


def profile_codec(
    name: str, samples: Samples, block: int = 512, options: CodecOptions | None = None
) -> BlockCodec:
    """Return the codec that a profile stands for, for these pixels.

    Parameters
    ----------
    name : str
        A key of `PROFILES`.
    samples : Samples
        The pixels.
    block : int
        Width and height of a block in pixels, a multiple of 16.
    options : CodecOptions, optional
        What the user wants otherwise.

    Returns
    -------
    BlockCodec
        With predictor 2 for integers, 3 for floats, none for classes and complex numbers. Its
        samples are those of a block, without an alpha band where `drops_alpha`.

    Raises
    ------
    Refused
        For an unknown profile, block size, level, predictor, quality or error, naming those that
        are known; for pixels that the profile cannot hold, naming profiles that can.
    """
    chosen = options or CodecOptions()
    found = PROFILES.get(name)
    if found is None:
        raise Refused(
            f"there is no profile {name!r}", f"choose one of {', '.join(sorted(PROFILES))}"
        )
    if block < 16 or block % 16:
        raise Refused(f"a block size of {block} pixels", "choose a multiple of 16, as 256 or 512")
    codec = BlockCodec(
        compression=found.compression,
        level=_level(name, found, chosen.level),
        quality=_number(name, "QUALITY", found.quality, chosen.quality),
        max_z_error=_number(name, "MAX_Z_ERROR", found.max_z_error, chosen.max_z_error),
        predictor=_predictor(name, found, samples, chosen.predictor),
        dtype=samples.dtype,
        block=block,
    )
    reason = cannot_hold(codec, samples)
    if reason is not None:
        raise Refused(
            f"profile {name} cannot hold these pixels: {reason}",
            f"choose one of {', '.join(_fitting(samples))}",
        )
    together = holds_together(codec, samples)
    return codec.model_copy(update={"samples": written_bands(codec, samples) if together else 1})


def drops_alpha(codec: BlockCodec) -> bool:
    """Return whether an alpha band becomes a mask: it cannot be held, or would be changed."""
    return codec.lossy and codec.compression != "webp"


def written_bands(codec: BlockCodec, samples: Samples) -> int:
    """Return how many bands are written."""
    dropped = drops_alpha(codec) and samples.alpha_band is not None
    return max(samples.bands - dropped, 1)


def holds_together(codec: BlockCodec, samples: Samples) -> bool:
    """Return whether a block holds all bands."""
    bands = written_bands(codec, samples)
    if bands == 1 or samples.together is not None:
        return bands == 1 or bool(samples.together)
    # LERC has one mask for all samples of a pixel, so it cannot say that one band alone is NaN.
    floats_in_lerc = codec.compression in LERC and np.dtype(samples.dtype).kind == "f"
    return bands <= _INTERLEAVED_BANDS and not floats_in_lerc


def cannot_hold(codec: BlockCodec, samples: Samples) -> str | None:
    """Return why a codec cannot hold these pixels, None where it can."""
    if (reason := _palette_cannot_be_lossy(codec, samples)) is not None:
        return reason
    if codec.compression == "jpeg":
        return _jpeg_cannot_hold(codec, samples)
    if codec.compression == "webp":
        return _webp_cannot_hold(codec, samples)
    if codec.compression in LERC:
        return _lerc_cannot_hold(codec, samples)
    return None


def _palette_cannot_be_lossy(codec: BlockCodec, samples: Samples) -> str | None:
    """Refuse a palette in JPEG, say: its values are labels, and a changed one is another label."""
    if codec.lossy and samples.classes:
        return "they are labels (a palette, single bits, category names), and it is lossy"
    return None


def _jpeg_cannot_hold(codec: BlockCodec, samples: Samples) -> str | None:
    bands = written_bands(codec, samples)
    if samples.dtype != "uint8":
        return f"JPEG holds uint8, and they are {samples.dtype}"
    if bands not in (1, 3):
        return f"JPEG holds one band or three, alpha aside, and they have {bands}"
    if not holds_together(codec, samples):
        return "JPEG holds colours together, and INTERLEAVE=BAND keeps them apart"
    return None


def _webp_cannot_hold(codec: BlockCodec, samples: Samples) -> str | None:
    if samples.dtype != "uint8":
        return f"WebP holds uint8, and they are {samples.dtype}"
    if samples.bands not in (3, 4):
        return f"WebP holds three or four bands, and they have {samples.bands}"
    if not holds_together(codec, samples):
        return "WebP holds bands together, and INTERLEAVE=BAND keeps them apart"
    if codec.lossy and samples.bands == 4 and samples.alpha_band != 4:
        return "lossy WebP takes a fourth band for alpha, and theirs is not (QUALITY=100 keeps it)"
    return None


def _lerc_cannot_hold(codec: BlockCodec, samples: Samples) -> str | None:
    if samples.dtype not in LERC_TYPES:
        return f"LERC holds {', '.join(LERC_TYPES)}, and they are {samples.dtype}"
    several = holds_together(codec, samples) and written_bands(codec, samples) > 1
    if several and np.dtype(samples.dtype).kind == "f":
        return "LERC holds floats band by band, and INTERLEAVE=PIXEL puts them together"
    return None


def _fitting(samples: Samples) -> list[str]:
    """Return the names of the profiles that hold these pixels as they come."""
    return [
        name
        for name, each in PROFILES.items()
        if cannot_hold(
            BlockCodec(
                compression=each.compression,
                quality=each.quality,
                max_z_error=each.max_z_error,
                dtype=samples.dtype,
            ),
            samples,
        )
        is None
    ]


def _level(name: str, found: Profile, asked: int | None) -> int | None:
    if asked is None:
        return found.level
    most = LEVELS.get(found.compression)
    if most is None:
        raise Refused(f"profile {name} has no level", "leave LEVEL out")
    if not 1 <= asked <= most:
        raise Refused(f"profile {name} has no level {asked}", f"choose 1 to {most}")
    return asked


def _number(
    name: str, option: str, default: _Figure | None, asked: _Figure | None
) -> _Figure | None:
    if asked is not None and default is None:
        raise Refused(f"profile {name} has no {option}", f"leave {option} out")
    return default if asked is None else asked


def _predictor(
    name: str, found: Profile, samples: Samples, asked: Literal[1, 2, 3, "natural"] | None
) -> Predictor:
    kind = np.dtype(samples.dtype).kind
    natural: Predictor = 2 if kind in "iu" else 3 if kind == "f" else 1
    if asked is None:
        return natural if found.predicts and not samples.classes else 1
    if asked == 1:
        return 1
    if not found.predicts:
        raise Refused(f"profile {name} has no predictor", "leave PREDICTOR out")
    if asked == "natural":
        return natural
    if asked != natural:
        remedy = f"choose {natural}" if natural == 1 else f"choose 1 or {natural}"
        raise Refused(f"predictor {asked} does not fit {samples.dtype} pixels", remedy)
    return asked
