"""Decodes every image of TIFFs with async-tiff, which lies in a folder of its own.

Usage: ``python read_async_tiff.py FOLDER FILE...``; it writes what `read_geotiff.mjs` writes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from async_tiff import TIFF, DecoderRegistry  # type: ignore[import-not-found]
from async_tiff.enums import PlanarConfiguration  # type: ignore[import-not-found]

_DECODERS = DecoderRegistry()


class OneFile:
    """A store of one file, as async-tiff asks for it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> bytes:
        return self._data[start : start + length if end is None and length is not None else end]

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[bytes]:
        stops = ends or [at + size for at, size in zip(starts, lengths or (), strict=True)]
        return [self._data[start:stop] for start, stop in zip(starts, stops, strict=True)]


async def pixels(tiff: Any, number: int) -> np.ndarray[Any, Any]:
    """Return one image, shape ``(row, col, sample)``."""
    ifd = tiff.ifds[number]
    across, down = ifd.tile_count
    rows = []
    for y in range(down):
        fetched = [await tiff.fetch_tile(x, y, number) for x in range(across)]
        tiles = [np.asarray(tile.decode_sync(decoder_registry=_DECODERS)) for tile in fetched]
        if ifd.planar_configuration == PlanarConfiguration.Planar:
            tiles = [np.moveaxis(tile, 0, 2) for tile in tiles]
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows)[: ifd.image_height, : ifd.image_width]


async def read(folder: Path, files: list[Path]) -> None:
    for file in files:
        tiff = await TIFF.open(file.name, store=OneFile(file.read_bytes()))
        for number in range(len(tiff.ifds)):
            out = folder / f"{file.stem}.{number}"
            try:
                found = await pixels(tiff, number)
            except BaseException as error:  # a panic of Rust is none of Exception's
                out.with_name(out.name + ".txt").write_text(f"{type(error).__name__}: {error}")
            else:
                out.with_name(out.name + ".raw").write_bytes(np.ascontiguousarray(found).tobytes())


if __name__ == "__main__":
    asyncio.run(read(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
