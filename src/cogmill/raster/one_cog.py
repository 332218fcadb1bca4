"""One COG from a mosaic: its tiles' blocks laid out again, and the levels above them.

A module of its own beside `cog`: it alone knows that a COG may be made of tiles.

Output tiles are aligned to eight blocks, so every block of the levels 0 to 3 belongs to one tile;
it is copied as it is. A tile without a valid pixel was not written: its blocks are all alike, and
are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cogmill.errors import PermanentError
from cogmill.raster.cascade import BlockRow, Cascade
from cogmill.raster.codecs import decode_mask
from cogmill.raster.cog import CogHeader, EncodedLevel, frame, header
from cogmill.raster.cog_image import CogImage
from cogmill.raster.encode import TILE_OVERVIEWS, Rows, encode_row
from cogmill.raster.encoded import EncodedBlocks, EncodedTile
from cogmill.raster.overviews import Array, Method, level_sizes, overview_count

#: Row and column of an output tile.
Place = tuple[int, int]


@dataclass(frozen=True)
class Mosaic:
    """The output tiles of one job, encoded.

    Attributes
    ----------
    image : CogImage
        All of it: its grid is the target grid.
    tile_size : int
        Side of an output tile in pixels, a multiple of eight blocks.
    tiles : mapping of (int, int) to EncodedTile
        By row and column; one that is missing has no valid pixel.
    read : callable
        Gives the bytes of a tile's file: row and column, offset, length.
    """

    image: CogImage
    tile_size: int
    tiles: Mapping[Place, EncodedTile]
    read: Callable[[Place, int, int], bytes]

    def __post_init__(self) -> None:
        """Refuse tiles that are not those of this grid."""
        if self.tile_size % (self.image.block << TILE_OVERVIEWS):
            raise ValueError(f"a tile size of {self.tile_size} is no multiple of eight blocks")
        for (row, col), tile in self.tiles.items():
            size = self._tile_pixels(row, col)
            if not (0 <= row < self._rows and 0 <= col < self._cols):
                raise ValueError(f"there is no tile in row {row}, column {col}")
            if tile.blocks.sizes != level_sizes(*size, TILE_OVERVIEWS):
                raise ValueError(f"the tile in row {row}, column {col} is not {size}")

    @property
    def _rows(self) -> int:
        return -(-self.image.grid.height // self.tile_size)

    @property
    def _cols(self) -> int:
        return -(-self.image.grid.width // self.tile_size)

    def _tile_pixels(self, row: int, col: int) -> tuple[int, int]:
        grid, size = self.image.grid, self.tile_size
        return min(size, grid.width - col * size), min(size, grid.height - row * size)

    def blocks_per_tile(self, level: int) -> int:
        """Return how many blocks of a level an output tile has along each side."""
        return (self.tile_size >> level) // self.image.block

    @cached_property
    def _empty(self) -> tuple[bytes, bytes | None]:
        """A block of the image, and of the mask, of a tile that was not written."""
        image, block = self.image, self.image.block
        pixels = np.full((image.bands, block, block), image.fill, image.dtype)
        mask = np.zeros((block, block), bool) if image.has_mask else None
        images, masks = encode_row(image, BlockRow(0, 0, pixels, mask))
        return images[0][0], masks[0] if masks else None

    def levels(self) -> list[EncodedLevel]:
        """Return the levels 0 to 3 of the one COG."""
        grid = self.image.grid
        sizes = level_sizes(grid.width, grid.height, TILE_OVERVIEWS)
        return [self._level(number, *size) for number, size in enumerate(sizes)]

    def _level(self, number: int, width: int, height: int) -> EncodedLevel:
        image, per_tile = self.image, self.blocks_per_tile(number)
        rows, cols = -(-height // image.block), -(-width // image.block)
        empty, empty_mask = self._empty
        images = np.full((image.planes, rows, cols), len(empty), np.int64)
        masks = None
        if empty_mask is not None:
            masks = np.full((rows, cols), len(empty_mask), np.int64)
        for (row, col), tile in self.tiles.items():
            level = tile.blocks.levels[number]
            shape = level.blocks(image.block)
            top, left = row * per_tile, col * per_tile
            area = slice(top, top + shape[0]), slice(left, left + shape[1])
            images[:, *area] = level.image_byte_counts.reshape(image.planes, *shape)
            if masks is not None and level.mask_byte_counts is not None:
                masks[area] = level.mask_byte_counts.reshape(shape)
        return EncodedLevel(width, height, images.ravel(), None if masks is None else masks.ravel())

    def records(self, level: int, section: int, row: int) -> Iterator[bytes]:
        """Yield the records of one row of blocks of one section, a tile's at a time.

        Parameters
        ----------
        level : int
            0 to 3.
        section : int
            As `EncodedLevel.sections` numbers them.
        row : int
            Row of blocks of the whole level.

        Raises
        ------
        PermanentError
            When a tile's file does not hold what its task told.
        """
        per_tile = self.blocks_per_tile(level)
        tile_row, tile_block_row = divmod(row, per_tile)
        for col in range(self._cols):
            tile = self.tiles.get((tile_row, col))
            if tile is None:
                width = -(-self._tile_pixels(tile_row, col)[0] >> level)
                yield self._empty_record(section) * -(-width // self.image.block)
                continue
            offset, length = tile.blocks.run(level, section, tile_block_row)
            data = self.read((tile_row, col), offset, length)
            first = tile.blocks.first_block(level, section, tile_block_row)
            if len(data) != length or int.from_bytes(data[:4], "little") != first:
                raise PermanentError(
                    f"the tile in row {tile_row}, column {col} is not what was written: "
                    f"no block of {first} bytes at byte {offset}",
                    "submit the job again with --force",
                )
            yield data

    def _empty_record(self, section: int) -> bytes:
        image, mask = self._empty
        if mask is None:
            return frame(image)
        if self.image.planes == 1:
            return frame(image) + frame(mask)
        return frame(mask if section == self.image.planes else image)

    def third_overview(self) -> Iterator[Rows]:
        """Yield the level 3 from top to bottom, decoded, a row of blocks at a time."""
        grid, image = self.image.grid, self.image
        width, height = level_sizes(grid.width, grid.height, TILE_OVERVIEWS)[TILE_OVERVIEWS]
        for row in range(-(-height // image.block)):
            rows = min(image.block, height - row * image.block)
            pixels = np.empty((image.bands, rows, width), image.dtype)
            mask = np.empty((rows, width), bool) if image.has_mask else None
            sections = 1 if image.planes == 1 else image.planes + image.has_mask
            for section in range(sections):
                blocks = _unframe(self.records(TILE_OVERVIEWS, section, row))
                _decode_row(image, section, blocks, (pixels, mask))
            yield pixels, mask


def _unframe(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        position = 0
        while position < len(chunk):
            size = int.from_bytes(chunk[position : position + 4], "little")
            yield chunk[position + 4 : position + 4 + size]
            position += size + 8


def _decode_row(
    image: CogImage,
    section: int,
    blocks: Iterator[bytes],
    into: tuple[Array, npt.NDArray[np.bool_] | None],
) -> None:
    """Decode one row of blocks of one section into its place."""
    pixels, mask = into
    block = image.block
    rows, width = pixels.shape[1:]
    for first in range(0, width, block):
        cols = min(block, width - first)
        part = slice(first, first + cols)
        if image.planes == 1 or section < image.planes:
            decoded = np.moveaxis(image.codec.decode(next(blocks)), 2, 0)[:, :rows, :cols]
            bands = slice(None) if image.planes == 1 else slice(section, section + 1)
            pixels[bands, :, part] = decoded
        if mask is not None and (image.planes == 1 or section == image.planes):
            mask[:, part] = decode_mask(next(blocks), block)[:rows, :cols]


@dataclass(frozen=True)
class OneCog:
    """The one COG of a mosaic, ready to be streamed.

    Attributes
    ----------
    header : CogHeader
        With the size of the file.
    levels : tuple of EncodedLevel
        The full resolution, then the overviews, large to small.
    """

    header: CogHeader
    levels: tuple[EncodedLevel, ...]
    _mosaic: Mosaic
    _upper: EncodedBlocks
    _read_upper: Callable[[int, int], bytes]

    def chunks(self) -> Iterator[bytes]:
        """Yield the file from its first byte to its last; a tile's row of blocks at a time.

        Raises
        ------
        PermanentError
            When an object does not hold what its task told.
        """
        yield self.header.data
        planes = self._mosaic.image.planes
        for number, level in reversed(list(enumerate(self.levels))):
            rows, _ = level.blocks(self._mosaic.image.block)
            for section in range(len(level.sections(planes))):
                for row in range(rows):
                    if number <= TILE_OVERVIEWS:
                        yield from self._mosaic.records(number, section, row)
                    else:
                        yield self._upper_records(number, section, row)

    def _upper_records(self, level: int, section: int, row: int) -> bytes:
        offset, length = self._upper.run(level, section, row)
        data = self._read_upper(offset, length)
        first = self._upper.first_block(level, section, row)
        if len(data) != length or int.from_bytes(data[:4], "little") != first:
            raise PermanentError(
                f"the upper overviews are not what was written: no block at byte {offset}",
                "submit the job again with --force",
            )
        return data


def one_cog(
    mosaic: Mosaic, upper: EncodedBlocks, read_upper: Callable[[int, int], bytes]
) -> OneCog:
    """Return the one COG of a mosaic: its header is made, its data is read when it is streamed.

    Parameters
    ----------
    mosaic : Mosaic
        The tiles.
    upper : EncodedBlocks
        What `UpperLevels.blocks` told.
    read_upper : callable
        Gives the bytes that `UpperLevels.chunks` yielded: offset, length.

    Raises
    ------
    ValueError
        When the upper levels are not those of this mosaic.
    Refused
        When a GeoTIFF cannot say what the image says.
    """
    levels = (*mosaic.levels(), *upper.levels)
    grid = mosaic.image.grid
    count = overview_count(grid.width, grid.height, mosaic.image.block, TILE_OVERVIEWS)
    if len(levels) != count + 1:
        raise ValueError(f"{len(levels) - 1} overviews where {count} are due")
    return OneCog(header(mosaic.image, levels), levels, mosaic, upper, read_upper)


class UpperLevels:
    """The levels above the tiles' three, encoded while the third arrives row by row.

    Two half rows of blocks a level are held, and one encoded row.

    Parameters
    ----------
    image : CogImage
        The one COG.
    method : str
        How overviews are reduced.
    """

    def __init__(self, image: CogImage, method: Method) -> None:
        grid = image.grid
        count = overview_count(grid.width, grid.height, image.block, TILE_OVERVIEWS)
        self._image = image
        self._sizes = level_sizes(grid.width, grid.height, count)[TILE_OVERVIEWS:]
        self._cascade = Cascade(
            image.reduction(method), image.block, self._sizes, first_level=TILE_OVERVIEWS
        )
        self._images: list[list[list[list[int]]]] = [
            [[] for _ in range(image.planes)] for _ in self._sizes
        ]
        self._masks: list[list[int]] = [[] for _ in self._sizes]
        self._starts: list[list[list[int]]] = [[] for _ in self._sizes]
        self._written = 0

    @property
    def count(self) -> int:
        """How many levels there are above the tiles' three."""
        return len(self._sizes) - 1

    def chunks(self, rows: Iterable[Rows]) -> Iterator[bytes]:
        """Yield the records of all upper levels, a row of blocks at a time, as they come about.

        Parameters
        ----------
        rows : iterable of (ndarray, ndarray or None)
            The third overview from top to bottom, a row of blocks each: pixels
            ``(band, row, col)`` and, with a mask, valid pixels ``(row, col)``. Not asked for when
            there is no level above it.
        """
        if not self.count:
            return
        for pixels, mask in rows:
            for row in self._cascade.push(pixels, None if mask is None else np.asarray(mask) != 0):
                if row.level > TILE_OVERVIEWS:
                    yield from self._encode(row)

    def _encode(self, row: BlockRow) -> Iterator[bytes]:
        index = row.level - TILE_OVERVIEWS
        images, masks = encode_row(self._image, row)
        sections = [list(map(frame, blocks)) for blocks in images]
        framed = list(map(frame, masks))
        if framed and len(sections) == 1:
            sections = [[both for pair in zip(sections[0], framed, strict=True) for both in pair]]
        elif framed:
            sections.append(framed)
        for plane, blocks in enumerate(images):
            self._images[index][plane].append(list(map(len, blocks)))
        self._masks[index] += map(len, masks)
        starts = []
        for records in sections:
            data = b"".join(records)
            starts.append(self._written)
            self._written += len(data)
            yield data
        self._starts[index].append(starts)

    def blocks(self) -> EncodedBlocks:
        """Return where the blocks lie in what `chunks` yielded, when it has yielded everything.

        Raises
        ------
        ValueError
            When rows are missing.
        """
        levels = []
        for size, images, masks in zip(
            self._sizes[1:], self._images[1:], self._masks[1:], strict=True
        ):
            counts = np.array([np.ravel(plane) for plane in images], np.int64).ravel()
            level = EncodedLevel(
                *size, counts, np.array(masks, np.int64) if self._image.has_mask else None
            )
            rows, cols = level.blocks(self._image.block)
            if len(counts) != rows * cols * self._image.planes:
                raise ValueError("the third overview was not handed over to its end")
            levels.append(level)
        starts = [np.array(rows).T for rows in self._starts[1:]]
        return EncodedBlocks.of(self._image, levels, starts, TILE_OVERVIEWS + 1)
