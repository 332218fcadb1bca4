"""What is to be done with a raster, and what its tasks demand of the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from cogmill.raster.cog.cog_image import CogImage
from cogmill.raster.cog.tile_encoding import encode_memory
from cogmill.raster.cog.upper_levels import upper_levels_memory
from cogmill.raster.geometry.grid import Grid, Window, output_tiles
from cogmill.raster.inspect.source_file import VrtSource
from cogmill.raster.inspect.structure import Structure
from cogmill.raster.intermediate.piece_writing import writing_bytes
from cogmill.raster.memory import (
    DEFAULT_CHILD_MEMORY,
    MemoryEstimate,
    TileDemand,
    piece_memory,
    tile_memory,
)
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.costs import TargetWork
from cogmill.raster.plan.cutting import RowUnits
from cogmill.raster.plan.reads import (
    WorkRead,
    WorkSize,
    block_row_windows,
    packing_ratio,
    piece_codec_of,
    source_pixel_bytes,
    window_reads,
)
from cogmill.raster.read.fetching import BATCH_BYTES, REQUEST_BYTES
from cogmill.raster.read.streaming import streaming_bytes
from cogmill.raster.vrt.vrt_reading import vrt_decoding
from cogmill.raster.warp.footprint import warp_buffer_bytes
from cogmill.raster.warp.warp_spec import WarpSpec

#: By output: what its blocks may be larger than the source's, both lossless (LZW packs worse).
#: Where an output has none, the source tells nothing of it.
_RATIO_MARGINS: Final = {"deflate": 1.15, "zstd": 1.15, "lzw": 1.5}
#: What pixels pack to at most, by output; LZW makes noise larger. `encode_memory` adds an eighth
#: for a growing buffer, of which only what is filled is resident, so these are that much smaller.
#: A gray JPEG of noise at quality 100 grows by 5 %.
_WORST_RATIOS: Final = {"lzw": 1.25, "jpeg": 0.95}
_WORST_RATIO: Final = 0.9
_LOSSY: Final = frozenset({"jpeg", "webp", "lerc"})
#: Decoded blocks' worth that a decoder of images holds: a progressive JPEG all coefficients in 16
#: bits, lossless WebP its own pixels, LERC what was packed once more and what NaN is put into.
_IMAGE_COPIES: Final = {"jpeg": 3, "webp": 2, "lerc": 3}
#: Kernels whose results are values of the source.
_CHOOSING: Final = frozenset({None, "nearest", "mode", "min", "max", "med", "q1", "q3"})


@dataclass(frozen=True)
class Workload:
    """What is to be done, before it is known how.

    Attributes
    ----------
    structure : Structure
        The source.
    options : PlanOptions
        For tile size, memory, work tile and workers.
    target : Grid
        The target grid.
    spec : WarpSpec or None
        None: pixels are copied.
    image : CogImage
        The whole output.
    kernel : str or None
        Resampling; None: pixels are copied.
    one_cog : bool
        Whether its output tiles become ONE COG.
    """

    structure: Structure
    options: PlanOptions
    target: Grid
    spec: WarpSpec | None
    image: CogImage
    kernel: str | None
    one_cog: bool = False

    def shared_by(self, workers: int) -> Workload:
        """Return the same for so many children, which share what those of now have together."""
        memory = self.memory * self.options.workers // workers
        options = self.options.model_copy(update={"memory": memory, "workers": workers})
        return replace(self, options=options)

    @property
    def upper(self) -> int:
        """Bytes of the task that makes the upper levels of ONE COG; 0 where there is none."""
        return upper_levels_memory(self.image) if self.one_cog else 0

    @property
    def memory(self) -> int:
        """Bytes that one child may use."""
        return self.options.memory or DEFAULT_CHILD_MEMORY

    @property
    def target_work(self) -> TargetWork:
        """What every strategy does alike."""
        return TargetWork(
            pixels=self.target.width * self.target.height,
            pixel_bytes=self.pixel_bytes,
            bands=self.image.bands,
            kernel=self.kernel,
        )

    @cached_property
    def source_pixel_bytes(self) -> int:
        """Decoded bytes of a source pixel, mask included, and what a mask of values is made of."""
        made = 2 if self.image.codec.lossy and self.image.has_mask else 0
        return source_pixel_bytes(self.structure) + made

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a target pixel, mask included."""
        masked = 1 if self.image.has_mask else 0
        return self.image.bands * np.dtype(self.image.dtype).itemsize + masked

    @cached_property
    def tiles(self) -> tuple[Window, ...]:
        """The output tiles."""
        return tuple(tile.window for tile in output_tiles(self.target, self.options.tile_size))

    @cached_property
    def units(self) -> RowUnits:
        """The source's strips, or its rows of blocks."""
        layout = self.structure.image
        return RowUnits(
            width=layout.width,
            height=layout.height,
            rows=min(layout.block_height, layout.height),
            row_bytes=layout.width * self.source_pixel_bytes,
        )

    def reads(self, size: WorkSize) -> list[tuple[WorkRead, ...]]:
        """Return each output tile's work tiles with what they read."""
        return [window_reads(self.spec, tile, size) for tile in self.tiles]

    @cached_property
    def whole(self) -> list[tuple[WorkRead, ...]]:
        """What is read when a work tile is a whole output tile."""
        side = self.options.tile_size
        return self.reads(WorkSize(side, side, self.options.block))

    @cached_property
    def largest_tile(self) -> Window:
        """The output tile that needs the largest part of the source."""
        sizes = [0 if source is None else source.size for ((_, source),) in self.whole]
        return self.tiles[int(np.argmax(sizes))]

    @cached_property
    def encoder_bytes(self) -> tuple[int, int]:
        """What encoding the largest output tile holds: rows of blocks, and encoded blocks."""
        return self._encoding(self.tiles[0])

    def _encoding(self, window: Window) -> tuple[int, int]:
        image = self.image.model_copy(update={"grid": self.target.window_grid(window)})
        ratio = _output_packing(self.structure, self.image.codec.compression, self.kernel)
        rows = encode_memory(image, 0.0)
        return rows, encode_memory(image, ratio) - rows

    def demand(self, read: WorkRead, decoding: int) -> MemoryEstimate:
        """Return the peak of a task that makes an output tile, if this is its largest work tile."""
        work, _ = read
        width = min(self.options.tile_size, self.target.width)
        waiting = work.height * width * self.pixel_bytes if work.width < width else 0
        rows, encoded = self.encoder_bytes
        tile_height = min(self.options.tile_size, self.target.height)
        # One group of work tiles side by side is being filled while the encoder has another.
        groups = 2 if tile_height > work.height else 1
        before = max(tile_height - work.height, 0) / tile_height
        return tile_memory(
            TileDemand(
                held=self._held(read),
                decoding=decoding,
                warping=self._warping(read),
                buffered=groups * waiting,
                rows=rows,
                encoded=encoded,
                encoded_before=round(encoded * before),
            )
        )

    def fragment_demand(self, read: WorkRead, decoding: int) -> MemoryEstimate:
        """Return the peak of a task that makes one fragment."""
        rows, encoded = self._encoding(read[0])
        return tile_memory(
            TileDemand(
                held=self._held(read),
                decoding=decoding,
                warping=self._warping(read),
                # The pixels of the first overview, while they come and when they are put together.
                buffered=read[0].size * self.pixel_bytes // 2,
                rows=rows,
                encoded=encoded,
                encoded_before=0,
            )
        )

    def _held(self, read: WorkRead) -> int:
        return 0 if read[1] is None else read[1].size * self.source_pixel_bytes

    def _warping(self, read: WorkRead) -> int:
        if self.spec is None or read[1] is None:
            return 0
        return max(
            warp_buffer_bytes(self.spec, b) for b in block_row_windows(read[0], self.options.block)
        )


def streamed_estimate(workload: Workload) -> MemoryEstimate:
    """Return the peak of a task that decodes a row of strips as a stream."""
    rows = min(piece_codec_of(workload.structure).block, workload.units.height)
    _, encoding = _piece_work(workload)
    # As they are decoded, as pixels, and band by band.
    return piece_memory(
        3 * rows * workload.units.row_bytes, streaming_bytes(workload.structure), encoding
    )


def piece_room(workload: Workload, budget: int) -> int:
    """Return how many decoded bytes a piece may have where its task may use `budget` bytes."""
    return max(budget - piece_memory(0, *_piece_work(workload)).total, 0)


def piece_estimate(workload: Workload, pieces: Sequence[Window]) -> MemoryEstimate:
    """Return the peak of the task of the largest of these pieces."""
    largest = max(piece.size for piece in pieces) * workload.source_pixel_bytes
    return piece_memory(largest, *_piece_work(workload))


def _piece_work(workload: Workload) -> tuple[int, int]:
    """Return what decoding a piece needs, and encoding its intermediate."""
    return source_decoding(workload.structure), writing_bytes(piece_codec_of(workload.structure))


def _output_packing(structure: Structure, compression: str, kernel: str | None) -> float:
    """Return encoded over decoded bytes of the output, at most."""
    ratio = packing_ratio(structure)
    worst = _WORST_RATIOS.get(compression, _WORST_RATIO)
    margin = _RATIO_MARGINS.get(compression)
    if ratio is None or margin is None or structure.image.compression in _LOSSY:
        return worst
    if np.dtype(structure.dtype).kind == "f" and kernel not in _CHOOSING:
        # Means of whole numbers, or of rounded ones, have digits in every place.
        return worst
    return min(worst, ratio * margin)


def intermediate_decoding(structure: Structure) -> int:
    """Return what reading intermediates needs beside the pixels that it fills."""
    block, image = piece_codec_of(structure).block, structure.image
    pixel = source_pixel_bytes(structure)
    # Of a small source, not even all blocks together make a batch.
    batch = min(BATCH_BYTES + REQUEST_BYTES, image.width * image.height * pixel)
    return batch + 2 * block * block * pixel


def source_decoding(structure: Structure) -> int:
    """Return what reading the source needs beside the pixels that it fills."""
    layout = structure.image
    if isinstance(structure.file, VrtSource):
        return vrt_decoding(layout, structure.file)
    counts = layout.blocks.byte_counts
    longest = int(counts.max())
    # A batch ends with the request that fills it; a block as long as a batch is one by itself.
    batch = longest if longest >= BATCH_BYTES else BATCH_BYTES + max(REQUEST_BYTES, longest)
    bytewise = 0 if layout.compression == "none" else 1 if layout.predictor == 1 else 2
    copies = _IMAGE_COPIES.get(layout.compression, bytewise)
    return min(int(counts.sum()), batch) + longest + copies * layout.largest_block_bytes
