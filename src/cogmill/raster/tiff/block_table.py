"""Where the blocks of one image lie in a TIFF, from its tags alone."""

from __future__ import annotations

import base64
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import BinaryIO, Final, Literal, cast

import numpy as np
import numpy.typing as npt
import tifffile
from pydantic import BaseModel, ConfigDict

from cogmill.errors import Refused
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Ints
from cogmill.raster.codecs.source_codecs import own_decoder
from cogmill.raster.tiff.header import RecordingFile, ReplayedFile

#: The compressions that are decoded, by TIFF's tag 259; each is compared with GDAL by a test.
COMPRESSIONS: Final = {
    1: "none",
    2: "ccittrle",
    3: "ccittfax3",
    4: "ccittfax4",
    5: "lzw",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    34887: "lerc",
    34925: "lzma",
    50000: "zstd",
    50001: "webp",
}
#: What tifffile raises over a damaged file, besides its own error.
DAMAGE: Final = (
    tifffile.TiffFileError,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    ArithmeticError,
    AttributeError,
    OSError,
)
_CONVERTED: Final = {8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv"}
_YCBCR: Final = 6
_CMYK: Final = 5
_COMPLEX_INTEGER: Final = 5
#: How pixels are converted that are not held, by how the reason begins.
_CONVERSIONS: Final = {
    "pixels are": " -ot CFloat32",
    "pixels have": " -ot Float32",
    "bands differ": " -ot Float32",
}
_TABLES: Final = (273, 279, 324, 325)
#: So few values may lie in the directory itself.
_INLINE: Final = 4
_SEPARATE: Final = 2
_LOWEST_FIRST: Final = 2
_SILENCE: Final = logging.NullHandler()
#: Bits of the tag NewSubfileType.
REDUCED_BIT: Final = 1
MASK_BIT: Final = 4


class BlockTable(BaseModel):
    """Offsets and byte counts of all blocks of one image, as text that JSON can carry.

    Attributes
    ----------
    length : int
        How many blocks.
    packed : str
        Byte counts and the gaps between a block's end and the next one's start, little-endian
        64-bit, compressed: of a regular file little more than the byte counts remains.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: int
    packed: str

    @classmethod
    def of(cls, offsets: npt.ArrayLike, byte_counts: npt.ArrayLike) -> BlockTable:
        """Return the table of these blocks, both arrays of the same length."""
        starts = np.asarray(offsets, np.int64)
        counts = np.asarray(byte_counts, np.int64)
        if starts.shape != counts.shape or starts.ndim != 1:
            raise ValueError(f"{starts.shape} offsets for {counts.shape} byte counts")
        gaps = starts - np.concatenate(([0], (starts + counts)[:-1]))[: len(starts)]
        data = np.concatenate((counts, gaps)).astype("<i8").tobytes()
        return cls(length=len(starts), packed=base64.b64encode(zlib.compress(data)).decode())

    @cached_property
    def _arrays(self) -> tuple[Ints, Ints]:
        data = np.frombuffer(zlib.decompress(base64.b64decode(self.packed)), "<i8")
        counts, gaps = data[: self.length], data[self.length :]
        ends = np.cumsum(counts + gaps)
        return (ends - counts).astype(np.int64), counts.astype(np.int64)

    @property
    def offsets(self) -> Ints:
        """Return where each block begins in the file, in bytes."""
        return self._arrays[0]

    @property
    def byte_counts(self) -> Ints:
        """Return how long each encoded block is, in bytes; 0 where it was never written."""
        return self._arrays[1]

    @cached_property
    def sparse(self) -> npt.NDArray[np.bool_]:
        """Return True for each block that was never written."""
        offsets, counts = self._arrays
        return np.asarray((offsets == 0) | (counts == 0))


class ImageLayout(BaseModel):
    """How one image (the pixels, or their mask) is cut into blocks.

    Attributes
    ----------
    width, height : int
        In pixels.
    block_width, block_height : int
        Of a tile, or of a whole strip, in pixels.
    striped : bool
        True for strips; one tile as wide as the image is tiled.
    planar : str
        ``pixel`` where a block holds all samples, ``band`` where each band has blocks of its own.
    samples : int
        Bands in the file.
    dtype : str
        NumPy name of one sample, decoded.
    bits : int
        Bits of one sample in the file.
    compression : str
        By name, as ``deflate``.
    predictor : int
        TIFF's tag 317.
    bits_reversed : bool
        True where the lowest bit of a byte comes first (TIFF's tag 266 is 2).
    subsampled : bool
        True where a JPEG keeps colours at a lower resolution: decoders differ in the last digits.
    blocks : BlockTable
        Where they are; row by row, then band by band.
    ifd : int
        Index of the image in the file's chain of directories.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int
    height: int
    block_width: int
    block_height: int
    striped: bool
    planar: Literal["pixel", "band"]
    samples: int
    dtype: str
    bits: int
    compression: str
    predictor: int
    bits_reversed: bool = False
    subsampled: bool = False
    blocks: BlockTable
    ifd: int

    @property
    def blocks_across(self) -> int:
        """Return the number of blocks in a row of blocks."""
        return ceil_div(self.width, self.block_width)

    @property
    def blocks_down(self) -> int:
        """Return the number of rows of blocks."""
        return ceil_div(self.height, self.block_height)

    @property
    def planes(self) -> int:
        """Return how often the image is covered by blocks: once, or once for each band."""
        return self.samples if self.planar == "band" else 1

    @property
    def block_bytes(self) -> int:
        """Return the size of one whole decoded block in bytes."""
        samples = 1 if self.planar == "band" else self.samples
        return self.block_width * self.block_height * samples * np.dtype(self.dtype).itemsize

    @property
    def largest_block_bytes(self) -> int:
        """Return the size of the largest decoded block: a strip ends where the image does."""
        rows = min(self.block_height, self.height) if self.striped else self.block_height
        return self.block_bytes // self.block_height * rows


@contextmanager
def opened_tiff(file: RecordingFile | ReplayedFile) -> Iterator[tifffile.TiffFile]:
    """Yield tifffile's view of a file object; the object stays open."""
    # A NullHandler keeps its messages off standard error: what is wrong is refused in one sentence.
    logging.getLogger("tifffile").addHandler(_SILENCE)
    with warnings.catch_warnings(action="ignore"), tifffile.TiffFile(cast(BinaryIO, file)) as tiff:
        yield tiff


def tiff_page(tiff: tifffile.TiffFile, ifd: int) -> tifffile.TiffPage:
    """Return one image of a file with all of its tags."""
    found = tiff.pages[ifd]
    if not isinstance(found, tifffile.TiffPage):
        raise TypeError(f"directory {ifd} is not a page of its own")
    return found


def leave_tables_out(file: RecordingFile, tiff: tifffile.TiffFile) -> None:
    """Keep offsets and byte counts out of a record: a `BlockTable` holds them already.

    The first of each stays, for tifffile looks into the first block of a JPEG.
    """
    for index in range(len(tiff.pages)):
        for code in _TABLES:
            tag = tiff_page(tiff, index).tags.get(code)
            if tag is not None and tag.count > _INLINE:
                first = tag.valuebytecount // tag.count
                file.blank(tag.valueoffset + first, tag.valuebytecount - first)


def image_layout(found: tifffile.TiffPage, ifd: int, name: str) -> ImageLayout:
    """Return how an image is cut into blocks.

    Parameters
    ----------
    found : TiffPage
        The image.
    ifd : int
        Its index in the file.
    name : str
        What messages call the file.

    Returns
    -------
    ImageLayout
        With the table of its blocks. One bit is a ``bool`` here, which GDAL makes ``uint8``.

    Raises
    ------
    Refused
        When the pixels cannot be decoded, or the tags contradict each other.
    """
    compression = _compression(found, name)
    _decodable(found, name, compression)
    # What is read of the file to make a decoder must be in the record.
    _ = found.decode, own_decoder(found)
    if found.is_tiled:
        width, height = found.tilewidth, found.tilelength
    else:
        width, height = found.imagewidth, found.rowsperstrip
    layout = ImageLayout(
        width=found.imagewidth,
        height=found.imagelength,
        block_width=width,
        block_height=height,
        striped=not found.is_tiled,
        planar="band"
        if int(found.planarconfig) == _SEPARATE and found.samplesperpixel > 1
        else "pixel",
        samples=found.samplesperpixel,
        dtype=str(found.dtype),
        bits=found.bitspersample,
        compression=compression,
        predictor=int(found.predictor),
        bits_reversed=int(found.fillorder) == _LOWEST_FIRST,
        subsampled=bool(found.is_subsampled),
        blocks=BlockTable.of(*_tables(found, name)),
        ifd=ifd,
    )
    due = layout.blocks_across * layout.blocks_down * layout.planes
    if layout.blocks.length != due:
        raise Refused(
            f"{name} lists {layout.blocks.length} blocks where its size wants {due}",
            "the file is damaged; write it again, or fetch it again",
        )
    return layout


def _tables(found: tifffile.TiffPage, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    offsets, counts = tuple(found.dataoffsets), tuple(found.databytecounts)
    if len(offsets) != len(counts):
        raise Refused(
            f"{name} has {len(offsets)} block offsets and {len(counts)} byte counts",
            "the file is damaged; write it again, or fetch it again",
        )
    return offsets, counts


def check_within(layout: ImageLayout, name: str, size: int) -> None:
    """Refuse an image whose blocks lie past the end of its file.

    Parameters
    ----------
    layout : ImageLayout
        The image.
    name : str
        What messages call the file.
    size : int
        Of the file in bytes.

    Raises
    ------
    Refused
        With the first such block and how many there are.
    """
    offsets, counts = layout.blocks.offsets, layout.blocks.byte_counts
    past = np.flatnonzero(~layout.blocks.sparse & ((offsets < 0) | (offsets + counts > size)))
    if len(past):
        first = int(past[0])
        raise Refused(
            f"{len(past)} of {layout.blocks.length} blocks of {name} lie past the end of the file "
            f"({size} bytes; block {first} is {counts[first]} bytes at {offsets[first]})",
            "the file was cut off; copy or fetch it again",
        )


def _compression(found: tifffile.TiffPage, name: str) -> str:
    number = int(found.compression)
    if number not in COMPRESSIONS:
        try:
            label = tifffile.COMPRESSION(number).name.lower()
        except ValueError:
            label = str(number)
        raise Refused(
            f"{name} is compressed with {label}, which is not decoded",
            f"write it with one of {', '.join(sorted(set(COMPRESSIONS.values())))}",
        )
    return COMPRESSIONS[number]


def _decodable(found: tifffile.TiffPage, name: str, compression: str) -> None:
    """Refuse pixels that would be decoded otherwise than GDAL shows them."""
    photometric = int(found.photometric)
    if photometric == _CMYK and found.bitspersample == 8 and found.samplesperpixel == 4:
        raise Refused(
            f"{name}: its colours are CMYK, of which GDAL makes red, green, blue and alpha",
            "convert it first: gdal_translate INPUT OUTPUT.tif",
        )
    why: str | None = None
    if photometric in _CONVERTED:
        why = f"colours are {_CONVERTED[photometric]}"
    elif photometric == _YCBCR and compression != "jpeg":
        why = "colours are YCbCr without JPEG"
    elif found.imagedepth != 1:
        why = "image has a third dimension"
    elif _differ(found.bitspersample) or _differ(found.sampleformat):
        why = "bands differ in their bits"
    elif found.sampleformat == _COMPLEX_INTEGER:
        why = "pixels are complex integers, for which NumPy has no type"
    elif found.dtype is None:
        why = f"pixels have {found.bitspersample} bits of sample format {found.sampleformat!s}"
    elif not found.imagewidth or not found.imagelength:
        why = "image has no pixels"
    if why:
        kind = _CONVERSIONS.get(" ".join(why.split()[:2]), "")
        raise Refused(
            f"{name}: its {why}", f"convert it first: gdal_translate{kind} INPUT OUTPUT.tif"
        )


def _differ(value: object) -> bool:
    """Return whether a tag that should be one number is one for each band."""
    return isinstance(value, tuple)
