"""Damaged GeoTIFFs, each made from a number alone, and children that look at them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.rasters import CASES, write

from cogmill import runtime
from cogmill.core_machine.child import frames
from cogmill.core_machine.child.process import ChildDied, ChildProcess
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.request import raster_inputs
from cogmill.settings import Settings

SEED = 20261126
#: What is damaged: every layout, byte order and codec family, masks, sparse files, BigTIFF.
BASES = (
    "striped rgb, deflate", "striped rgb by band", "one strip", "one-row strips, packbits",
    "striped uint16 x4, big-endian", "int16 by band, tiled", "tiled float32", "bigtiff",
    "bigtiff, big-endian", "lzma", "jpeg ycbcr", "lerc", "webp", "one bit", "sparse",
    "internal mask", "internal mask, strips",
)  # fmt: skip
#: A directory and its values lie here in files that GDAL writes.
_HEAD = 700
_ENTRY = 12
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def bases(folder: Path) -> list[bytes]:
    """Return the files that are damaged."""
    made = []
    for number, name in enumerate(BASES):
        path = write(folder / f"base{number}.tif", CASES[name])
        made.append(path.read_bytes())
    return made


def mutant(originals: Sequence[bytes], number: int) -> bytes:
    """Return one damaged file, the same for the same number."""
    choice = random.Random(SEED + number)
    data = bytearray(choice.choice(originals))
    kinds = choice.choices((_flip, _swap, _extreme, _truncate, _body), (4, 2, 6, 2, 1), k=3)
    for kind in kinds[: choice.choice((1, 1, 2, 3))]:
        kind(choice, data)
    return bytes(data)


def _flip(choice: random.Random, data: bytearray) -> None:
    for _ in range(choice.randint(1, 8)):
        data[choice.randrange(min(_HEAD, len(data)))] = choice.randrange(256)


def _swap(choice: random.Random, data: bytearray) -> None:
    """Write one part of the header over another."""
    one, other = (choice.randrange(min(_HEAD, len(data))) for _ in range(2))
    length = choice.choice((1, 2, 4, 8, _ENTRY))
    data[other : other + length] = data[one : one + length]


def _extreme(choice: random.Random, data: bytearray) -> None:
    """Put a number of the kind that overflows where a tag, a type, a count or a value may be."""
    order = "<" if data[:2] == b"II" else ">"
    width, code = choice.choice(((2, "H"), (4, "I")))
    place = choice.randrange(0, min(_HEAD, len(data)), 2)
    value = choice.choice(_EXTREMES) & (256**width - 1)
    data[place : place + width] = struct.pack(order + code, value)


def _truncate(choice: random.Random, data: bytearray) -> None:
    del data[choice.choice((choice.randrange(1, 64), choice.randrange(1, len(data) + 1))) :]


def _body(choice: random.Random, data: bytearray) -> None:
    start = choice.randrange(len(data))
    length = min(choice.choice((1, 16, 4096)), len(data) - start)
    data[start : start + length] = choice.randbytes(length)


@dataclass(frozen=True)
class Look:
    """What came of looking at one file.

    Attributes
    ----------
    outcome : str
        ``passed``, ``refused``, ``failed`` (no refusal: a defect), ``died`` or ``hung``.
    said : str
        Message and remedy, or the end of the trace.
    peak : int
        Peak memory of the child in bytes, where it answered with a plan.
    """

    outcome: str
    said: str = ""
    peak: int = 0


class Pool:
    """One child for as long as it lives, as preflight has it."""

    def __init__(self, settings: Settings, seconds: float) -> None:
        self._settings, self._seconds = settings, seconds
        self._child: ChildProcess | None = None
        self.started = 0

    def look(self, path: Path, dst_crs: str | None) -> Look:
        """Inspect a file and plan it."""
        if self._child is None or not self._child.alive:
            self.close()
            self._child = runtime.spawn(self._settings)
            self.started += 1
        with runtime.tools(self._settings, lambda done: None, 0) as tools:
            inputs = raster_inputs(str(path), None, {"dst_crs": dst_crs}, tools.storage)
        request = frames.PreflightRequest(
            job_type=RasterToCog.id, inputs=inputs.model_dump(mode="json")
        )
        try:
            answer = self._child.preflight(request, self._seconds)
        except ChildDied as death:
            return Look("hung" if "no answer" in death.message else "died", str(death))
        match answer:
            case frames.Returned(peak_memory=peak):
                return Look("passed", peak=peak or 0)
            case frames.Raised(failure=failure, refused=True):
                return Look("refused", f"{failure.message}; {failure.remedy}")
            case frames.Raised(failure=failure, detail=detail):
                return Look("failed", f"{failure.code}: {failure.message}\n{detail}")

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None
