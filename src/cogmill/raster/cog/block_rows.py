"""Rows of blocks: pixels to encoded blocks and back.

Everything that encodes goes through `encode_row`, so a block is the same bytes wherever it is made:
what a block holds outside the image is the image's fill, and nothing else about the cutting of the
work enters it. A lossy codec gets what disturbs it least instead: the image's last row and column
once more, and under a mask the mean of the block.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from cogmill.raster.arrays import Array, BoolMask
from cogmill.raster.codecs.block_codec import encode_mask
from cogmill.raster.codecs.image_codecs import fill_invalid
from cogmill.raster.cog.cascade import BlockRow
from cogmill.raster.cog.cog_image import CogImage

#: Pixels ``(band, row, col)``, and which of them are valid ``(row, col)``, None without a mask.
PixelRows = tuple[Array, Array | None]


def checksum(rows: PixelRows, before: int = 0) -> int:
    """Return the CRC-32 of pixels and mask, continuing another."""
    pixels, mask = rows
    value = zlib.crc32(_bytes(pixels), before)
    return value if mask is None else zlib.crc32(_bytes(mask != 0), value)


def _bytes(values: Array) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def encode_row(image: CogImage, row: BlockRow) -> tuple[list[list[bytes]], list[bytes]]:
    """Return the encoded blocks of one row of blocks: a list for each plane, and those of the mask.

    Parameters
    ----------
    image : CogImage
        How they are encoded; its size does not matter.
    row : BlockRow
        At the full width of its level.

    Raises
    ------
    ValueError
        When dtype, bands or mask are not the image's.
    """
    if (row.mask is not None) != image.has_mask:
        raise ValueError("a mask where the image has none, or none where it has one")
    if row.pixels.dtype != np.dtype(image.dtype) or row.pixels.shape[0] != image.bands:
        raise ValueError(f"{row.pixels.shape[0]} bands of {row.pixels.dtype} for another image")
    block = image.block
    columns = range(0, row.pixels.shape[2], block)
    planes = [row.pixels[i : i + 1] for i in range(image.bands)]
    if image.planes == 1:
        planes = [row.pixels]
    valid = _counting(image, row)
    images = [
        [
            _encode(
                image,
                plane[:, :, first : first + block],
                None if valid is None else valid[:, first : first + block],
            )
            for first in columns
        ]
        for plane in planes
    ]
    if row.mask is None:
        return images, []
    return images, [_encode_mask(block, row.mask[:, first : first + block]) for first in columns]


def _counting(image: CogImage, row: BlockRow) -> BoolMask | None:
    """Return the pixels that a lossy codec must take care of, None where it is all of them."""
    if not image.codec.lossy:
        return None
    if row.mask is None and image.alpha is not None:
        opaque: BoolMask = row.pixels[image.alpha] != 0
        return opaque
    return row.mask


def _encode(image: CogImage, pixels: Array, valid: BoolMask | None) -> bytes:
    samples, rows, cols = pixels.shape
    block = np.empty((image.block, image.block, samples), pixels.dtype)
    lossy = image.codec.lossy
    if (rows, cols) != block.shape[:2] and not lossy:
        block[...] = image.fill
    block[:rows, :cols] = np.moveaxis(pixels, 0, 2)
    if valid is not None:
        fill_invalid(block[:rows, :cols, : image.alpha], valid)
    if lossy:
        block[rows:, :cols] = block[rows - 1, :cols]
        block[:, cols:] = block[:, cols - 1 : cols]
    return image.codec.encode(block)


def decode_row(image: CogImage, size: tuple[int, int], images: Sequence[Sequence[bytes]]) -> Array:
    """Return the pixels of one row of blocks, shape ``(band, row, col)``, as they are decoded.

    Parameters
    ----------
    image : CogImage
        How they are encoded.
    size : (int, int)
        Rows and columns within the image.
    images : sequence of sequence of bytes
        For each plane, the blocks from left to right.

    Raises
    ------
    ValueError
        When a block does not decode.
    """
    rows, width = size
    pixels = np.empty((image.bands, rows, width), image.dtype)
    for number, blocks in enumerate(images):
        bands = slice(None) if image.planes == 1 else slice(number, number + 1)
        for data, first in zip(blocks, range(0, width, image.block), strict=True):
            part = slice(first, min(first + image.block, width))
            decoded = np.moveaxis(image.codec.decode(data), 2, 0)
            pixels[bands, :, part] = decoded[:, :rows, : part.stop - part.start]
    return pixels


def _encode_mask(block: int, mask: BoolMask) -> bytes:
    padded = np.zeros((block, block), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return encode_mask(padded)
