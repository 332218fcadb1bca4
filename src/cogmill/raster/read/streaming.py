"""Strips that are too large to hold: fetched, decoded and handed on a few rows at a time.

Of every codec that can stream, the whole strip is decoded once, in the order in which it lies in
the file. Those that cannot (JPEG, WebP, LERC, CCITT, LZMA) need the strip as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np

from cogmill.errors import BlockUndecodable
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Array, ByteMask
from cogmill.raster.codecs.unpacking import PORTION, UNPACKERS, DamagedStream
from cogmill.raster.geometry.grid import Window
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.read.fetching import REQUEST_BYTES, ReadCounts
from cogmill.raster.read.source_blocks import fill_value, mask_file
from cogmill.raster.tiff.block_table import ImageLayout
from cogmill.raster.tiff.header import ByteSource, read_exactly


def can_stream(structure: Structure) -> bool:
    """Whether the strips of a raster, and of its mask, can be decoded a few rows at a time."""
    layouts = [structure.image] + ([] if structure.mask is None else [structure.mask])
    return all(
        layout.striped
        and layout.compression in UNPACKERS
        and not layout.bits_reversed
        and (layout.bits == 1 or layout.bits == 8 * np.dtype(layout.dtype).itemsize)
        for layout in layouts
    )


def streaming_bytes(structure: Structure) -> int:
    """Return what decoding a strip holds beside the rows that are asked for, in bytes."""
    planes = structure.image.planes + (structure.mask is not None)
    return planes * (2 * REQUEST_BYTES + 4 * PORTION)


class StreamedPiece:
    """One row of strips of a source, whose rows are asked for once, from the top.

    Parameters
    ----------
    structure : Structure
        What `inspect_tiff` found; `can_stream` is true of it.
    window : Window
        Whole strips, at full width.
    data : ByteSource
        The raster's file.
    mask_data : ByteSource or None
        The sidecar mask's file, where there is one.

    Attributes
    ----------
    counts : ReadCounts
        What was fetched and decoded.
    """

    def __init__(
        self,
        structure: Structure,
        window: Window,
        data: ByteSource,
        mask_data: ByteSource | None = None,
    ) -> None:
        image, mask = structure.image, structure.mask
        self.window = window
        self.bands = image.samples
        self.masked = mask is not None
        self.counts = ReadCounts(np.zeros(image.blocks.length, np.uint32))
        self._fill = [fill_value(value, structure.dtype) for value in structure.nodata]
        self._planes = [
            _Strips(structure, image, data, window, plane) for plane in range(image.planes)
        ]
        self._mask: _Strips | None = None
        if mask is not None:
            source = mask_file(structure, data, mask_data)
            self._mask = _Strips(structure, mask, source, window, 0)

    def rows(self, count: int) -> tuple[Array, ByteMask | None]:
        """Return the next rows.

        Parameters
        ----------
        count : int
            How many; the piece has them.

        Returns
        -------
        (ndarray, ndarray of uint8 or None)
            Pixels ``(band, row, col)`` and, where there is a mask, ``(row, col)``, 255 valid.

        Raises
        ------
        BlockUndecodable
            With file, index and offset of the strip.
        StorageUnavailable
            When the store does not answer, or answers short.
        """
        parts = [plane.take(count, self.counts, self._fill) for plane in self._planes]
        pixels = np.concatenate(parts) if len(parts) > 1 else parts[0]
        if self._mask is None:
            return pixels, None
        valid = self._mask.take(count, None, [0])[0]
        return pixels, np.where(valid != 0, np.uint8(255), np.uint8(0))


class _Strips:
    """The strips of one plane within a window, one after the other, as rows of pixels."""

    def __init__(
        self,
        structure: Structure,
        layout: ImageLayout,
        data: ByteSource,
        window: Window,
        plane: int,
    ) -> None:
        self._name = structure.name
        self._layout = layout
        self._data = data
        self._samples = 1 if layout.planar == "band" else layout.samples
        self._plane = plane
        self._stored = np.dtype(layout.dtype).newbyteorder(
            "<" if structure.tiff.byte_order == "little" else ">"
        )
        self._row = window.row_off
        self._strip = -1
        self._decoded: _Decoded | None = None

    def take(self, count: int, counts: ReadCounts | None, fill: list[Any]) -> Array:
        """Return so many rows, shape ``(sample, row, col)``."""
        parts = []
        while count:
            strip, within = divmod(self._row, self._layout.block_height)
            rows = min(count, self._layout.block_height - within)
            if strip != self._strip:
                self._open(strip, counts)
                if within:  # a mask is cut otherwise than its image
                    self._part(within, fill)
            parts.append(self._part(rows, fill))
            self._row += rows
            count -= rows
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return np.ascontiguousarray(np.moveaxis(joined, 2, 0))

    def _open(self, strip: int, counts: ReadCounts | None) -> None:
        layout = self._layout
        index = self._plane * layout.blocks_down + strip
        self._strip, self._index = strip, index
        self._decoded = None
        if not layout.blocks.sparse[index]:
            self._decoded = _Decoded(self._data, layout, index, counts)

    def _part(self, rows: int, fill: list[Any]) -> Array:
        """Return rows of the strip that is open, shape ``(row, col, sample)``."""
        layout, samples = self._layout, self._samples
        shape = (rows, layout.width, samples)
        if self._decoded is None:
            values = fill[self._plane : self._plane + 1] if layout.planes > 1 else fill
            return np.broadcast_to(np.asarray(values, layout.dtype), shape).copy()
        row_bytes = ceil_div(layout.width * samples * layout.bits, 8)
        try:
            data = self._decoded.read(rows * row_bytes)
            if layout.bits == 1:
                packed = np.frombuffer(data, np.uint8).reshape(rows, row_bytes)
                bits = np.unpackbits(packed, axis=1, count=layout.width * samples)
                return bits.reshape(shape).astype(layout.dtype)
            return _unpredicted(np.frombuffer(data, self._stored).reshape(shape), layout)
        except (DamagedStream, ValueError, RuntimeError) as error:
            offset = int(layout.blocks.offsets[self._index])
            raise BlockUndecodable(
                f"strip {self._index} of {self._name} at {offset} ({layout.compression}) cannot "
                f"be decoded: {error}",
                "the file is damaged; write it again, or fetch it again",
            ) from error


class _Decoded:
    """The decoded bytes of one strip, read in order; each encoded byte is fetched once."""

    def __init__(
        self, data: ByteSource, layout: ImageLayout, index: int, counts: ReadCounts | None
    ) -> None:
        self._buffer = bytearray()
        self._chunks = UNPACKERS[layout.compression](self._fetched(data, layout, index, counts))
        if counts is not None:
            counts.block(index)

    @staticmethod
    def _fetched(
        data: ByteSource, layout: ImageLayout, index: int, counts: ReadCounts | None
    ) -> Iterator[bytes]:
        start = int(layout.blocks.offsets[index])
        stop = start + int(layout.blocks.byte_counts[index])
        for first in range(start, stop, REQUEST_BYTES):
            length = min(REQUEST_BYTES, stop - first)
            (part,) = read_exactly(data, [(first, length)])
            if counts is not None:
                counts.requests += 1
                counts.bytes_fetched += length
            yield part

    def read(self, size: int) -> bytearray:
        """Return exactly so many of the next decoded bytes."""
        while len(self._buffer) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise DamagedStream(f"it ends {size - len(self._buffer)} bytes early")
            self._buffer += chunk
        taken = self._buffer[:size]
        del self._buffer[:size]
        return taken


def _unpredicted(rows: Array, layout: ImageLayout) -> Array:
    """Undo the predictor of whole rows, shape ``(row, col, sample)``; the result is native."""
    if layout.predictor == 3:
        rows = imagecodecs.floatpred_decode(rows, axis=-2)
    native = rows.astype(rows.dtype.newbyteorder("="), copy=False)
    if layout.predictor == 2:
        return np.asarray(imagecodecs.delta_decode(native, axis=-2))
    return native
