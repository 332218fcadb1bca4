"""Reading the source: each block is fetched and decoded once into one array, never by GDAL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np

from cogmill.errors import BlockUndecodable, SourceChanged
from cogmill.raster.arrays import Array, ByteMask
from cogmill.raster.codecs.source_codecs import own_decoder
from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.read.fetching import (
    BlockCanvas,
    ReadCounts,
    fetch_blocks,
    most_fetched,
    touched_blocks,
)
from cogmill.raster.tiff.block_table import (
    DAMAGE,
    ImageLayout,
    opened_tiff,
    tiff_page,
)
from cogmill.raster.tiff.header import ByteSource, ReplayedFile

#: Bytes and index of a block to its pixels, ``(row, col, sample)``.
IndexedDecoder = Callable[[bytes, int], Array]

#: imagecodecs' own errors are runtime errors.
_UNDECODABLE: Final = (*DAMAGE, RuntimeError)


class PixelSource(Protocol):
    """Gives windows of source pixels: of a TIFF, of a VRT, or of the pieces of either."""

    counts: ReadCounts

    def read(self, window: Window, bands: Sequence[int] | None = None) -> HeldPixels:
        """Return the pixels of a window within the raster."""


class SourceReader:
    """Reads windows of a source that was inspected; reads no header again.

    Parameters
    ----------
    structure : Structure
        What `inspect_tiff` found.
    data : ByteSource
        The raster's file.
    mask_data : ByteSource, optional
        The sidecar mask's file, where there is one.

    Raises
    ------
    SourceChanged
        When a file has another size than the one that was inspected.
    """

    def __init__(
        self, structure: Structure, data: ByteSource, mask_data: ByteSource | None = None
    ) -> None:
        self.structure = structure
        self.counts = ReadCounts(np.zeros(structure.image.blocks.length, np.uint32))
        _check_size(data, structure.size_bytes)
        self._data = data
        self._decode = block_decoder(structure.image, structure.tiff.header, structure.size_bytes)
        self._fill = [fill_value(value, structure.dtype) for value in structure.nodata]
        self._mask = self._open_mask(mask_data)

    def _open_mask(self, mask_data: ByteSource | None) -> tuple[ByteSource, IndexedDecoder] | None:
        found = self.structure
        if found.mask is None:
            return None
        data = mask_file(found, self._data, mask_data)
        file = found.tiff
        if file.mask_source == "internal":
            return data, block_decoder(found.mask, file.header, found.size_bytes)
        return data, block_decoder(found.mask, file.mask_header, file.mask_size_bytes)

    def read(self, window: Window, bands: Sequence[int] | None = None) -> HeldPixels:
        """Return the pixels of a window.

        Parameters
        ----------
        window : Window
            Within the raster.
        bands : sequence of int, optional
            Counted from 1, in the order that is wanted; all by default.

        Returns
        -------
        HeldPixels
            Blocks that were never written hold nodata, or 0 where there is none.

        Raises
        ------
        BlockUndecodable
            With file, index, offset and size of the block.
        StorageUnavailable
            When the store does not answer, or answers short.
        ValueError
            When the window is not within the raster.
        """
        layout = self.structure.image
        wanted, pixels = window_canvas(layout, window, bands)
        target = BlockCanvas(layout, window, wanted, pixels)
        indices = touched_blocks(layout, window, wanted)
        for index in indices[layout.blocks.sparse[indices]].tolist():
            target.fill(index, self._fill)
        most = most_fetched(layout)
        for index, data in fetch_blocks(self._data, layout.blocks, indices, most, self.counts):
            self.counts.block(index)
            target.put(index, self._decoded(self._decode, layout, index, data))
        return HeldPixels(window=window, pixels=pixels, mask=self._read_mask(window))

    def _read_mask(self, window: Window) -> ByteMask | None:
        layout = self.structure.mask
        if layout is None or self._mask is None:
            return None
        source, decode = self._mask
        valid = np.zeros((1, window.height, window.width), np.bool_)
        target = BlockCanvas(layout, window, [1], valid)
        indices = touched_blocks(layout, window)
        most = most_fetched(layout)
        for index, data in fetch_blocks(source, layout.blocks, indices, most, self.counts):
            self.counts.mask_blocks_decoded += 1
            target.put(index, self._decoded(decode, layout, index, data))
        return np.where(valid[0], np.uint8(255), np.uint8(0))

    def _decoded(
        self, decode: IndexedDecoder, layout: ImageLayout, index: int, data: bytes
    ) -> Array:
        try:
            return decode(data, index)
        except _UNDECODABLE as error:
            what = "mask block" if layout is self.structure.mask else "block"
            offset = int(layout.blocks.offsets[index])
            raise BlockUndecodable(
                f"{what} {index} of {self.structure.name} ({len(data)} bytes at {offset}, "
                f"{layout.compression}) cannot be decoded: {error}",
                "the file is damaged; write it again, or fetch it again",
            ) from error


def mask_file(structure: Structure, data: ByteSource, mask_data: ByteSource | None) -> ByteSource:
    """Return the file that holds a source's mask: the raster's own, or the one beside it.

    Raises
    ------
    SourceChanged
        When it has another size than the one that was inspected.
    """
    if structure.mask_source == "internal":
        return data
    if mask_data is None:
        raise ValueError(f"{structure.name} has a mask of its own file, which is not given")
    _check_size(mask_data, structure.tiff.mask_size_bytes)
    return mask_data


def block_decoder(layout: ImageLayout, header: str, size: int) -> IndexedDecoder:
    """Return the function that decodes blocks of an image, from its recorded header alone.

    Parameters
    ----------
    layout : ImageLayout
        The image.
    header : str
        The recorded header of its file.
    size : int
        Of the file in bytes.

    Returns
    -------
    callable
        Bytes and index of a block to its pixels, shape ``(row, col, sample)``.
    """
    with opened_tiff(ReplayedFile(header, size)) as tiff:
        found = tiff_page(tiff, layout.ifd)
        decode, own = found.decode, own_decoder(found)

    def pixels(data: bytes, index: int) -> Array:
        if own is not None:
            return _whole(own(data), layout, index)
        segment = decode(data, index)[0]
        if segment is None:
            raise ValueError("nothing in it")
        return np.asarray(segment[0])

    def last_strip(data: bytes, index: int) -> Array:
        # Some writers fill it up to the length of the others: then it is decoded as one of them.
        try:
            return pixels(data, index)
        except _UNDECODABLE:
            rows = layout.height % layout.block_height
            if not (layout.striped and rows) or (index + 1) % layout.blocks_down or not index:
                raise
            return pixels(data, 0)[:rows]

    return last_strip


def _whole(block: Array, layout: ImageLayout, index: int) -> Array:
    """Return a block as it is, once it is as large as it must be; a last strip is cut off."""
    rows = layout.block_height
    if layout.striped:
        rows = min(rows, layout.height - index % layout.blocks_down * rows)
    if block.shape[0] < rows or block.shape[1] < layout.block_width:
        raise ValueError(f"it has {block.shape[1]} x {block.shape[0]} pixels")
    return block


def fill_value(nodata: float | None, dtype: str) -> Any:
    """Return what GDAL reads from a block that was never written."""
    kind = np.dtype(dtype)
    if nodata is None:
        return kind.type(0)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return kind.type(0 if np.isnan(nodata) else int(min(max(nodata, info.min), info.max)))
    return kind.type(nodata)


def _check_size(data: ByteSource, size: int) -> None:
    if data.size != size:
        raise SourceChanged(
            f"{data.name} has {data.size} bytes and had {size} when it was inspected",
            "submit the job again for the new source",
        )


def window_canvas(
    layout: ImageLayout, window: Window, bands: Sequence[int] | None
) -> tuple[list[int], Array]:
    """Return the bands that are wanted, counted from 1, and room for their pixels in a window.

    Raises
    ------
    ValueError
        When the window is not within the raster.
    """
    within = Window(col_off=0, row_off=0, width=layout.width, height=layout.height)
    if not within.contains(window):
        raise ValueError(f"{window} is not within {layout.width} x {layout.height} pixels")
    wanted = list(bands) if bands else list(range(1, layout.samples + 1))
    return wanted, np.empty((len(wanted), window.height, window.width), layout.dtype)
