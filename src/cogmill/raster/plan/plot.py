"""A plan as a picture: source blocks, pieces and skewed work tiles beside the output tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from cogmill.errors import Refused
from cogmill.raster.arithmetic import ceil_div
from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.grid import Window, work_tiles
from cogmill.raster.plan.choosing import bytes_text
from cogmill.raster.plan.explain import cost_table, structure_text
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.warp.footprint import source_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More lines than this are a grey surface: every n-th is drawn instead.
_MOST_LINES: Final = 64
#: More back-projected tiles than this are thinned likewise.
_MOST_TILES: Final = 400
#: With more output tiles than this in a row, their names would not fit into them.
_MOST_NAMES: Final = 14
#: Points along each side of a back-projected tile, so that its skew shows.
_SIDE_POINTS: Final = 17
_SIZE: Final = (16.0, 9.6)
_DPI: Final = 100
_BLOCK, _PIECE, _WORK, _OUTPUT = "#9aa5b1", "#2a7f9e", "#d1495b", "#1d3557"
_PIECE_FILLS: Final = ("#d9edf3", "#b9dbe6")


def draw_plan(plan: RasterPlan, path: str) -> None:
    """Draw a plan as a PNG of 1600 x 960 pixels.

    Left, in source pixels: blocks or strips, pieces, and the work tiles as the curved shapes that
    they cover there. Right, in target pixels: output tiles and work tiles. Below: the numbers.

    Parameters
    ----------
    plan : RasterPlan
        The plan.
    path : str
        Of the PNG file.

    Raises
    ------
    Refused
        matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Refused(
            "drawing a plan needs matplotlib, which is not installed",
            "install it with: pip install 'cogmill[plot]'",
        ) from None
    # A figure of its own, not pyplot's: no display, no state that outlives the call.
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.985, top=0.86, bottom=0.29, wspace=0.16)
    figure.suptitle(f"{plan.structure.name}: {plan.strategy}", x=0.06, ha="left", weight="bold")
    figure.text(0.06, 0.925, structure_text(plan.structure), fontsize=9.5)
    _draw_source(left, plan)
    _draw_target(right, plan)
    figure.text(0.06, 0.02, _numbers(plan), family="monospace", fontsize=8.5, va="bottom")
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise Refused(
            f"the picture {path} cannot be written: {error.strerror or error}",
            "name a file in a folder that exists and can be written",
        ) from None


def _draw_source(axes: Axes, plan: RasterPlan) -> None:
    image = plan.structure.image
    _frame(axes, image.width, image.height)
    axes.set_title(_block_title(plan), fontsize=10, loc="left")
    kind = "strips" if image.striped else "blocks"
    rows = _lines(image.height, image.block_height)
    cols = [] if image.striped else _lines(image.width, image.block_width)
    axes.hlines(rows, 0, image.width, color=_BLOCK, linewidth=0.5)
    axes.vlines(cols, 0, image.height, color=_BLOCK, linewidth=0.5)
    axes.plot([], [], color=_BLOCK, linewidth=0.8, label=f"source {kind}")
    for number, piece in enumerate(plan.pieces):
        label = f"{len(plan.pieces)} pieces" if not number else None
        _rectangle(axes, piece, _PIECE_FILLS[number % 2], _PIECE, label)
    windows = _work_windows(plan)
    shapes = [_outline(plan, window) for window in windows]
    for number, (xs, ys) in enumerate(shapes):
        label = "work tiles, back-projected" if not number else None
        axes.plot(xs, ys, color=_WORK, linewidth=0.9, label=label)
    _legend(axes)


def _draw_target(axes: Axes, plan: RasterPlan) -> None:
    grid = plan.target_grid
    _frame(axes, grid.width, grid.height)
    axes.set_title(
        f"target, pixels: {grid.width} x {grid.height} in {len(plan.tiles)} output tiles",
        fontsize=10,
        loc="left",
    )
    step = max(1, math.ceil(max(plan.tile_rows, plan.tile_cols) / 20))
    for number, window in enumerate(_work_windows(plan)):
        label = f"work tiles, up to {plan.work_cols} x {plan.work_rows}" if not number else None
        _rectangle(axes, window, "none", _WORK, label, width=0.8)
    for number, tile in enumerate(plan.tiles):
        if tile.row % step or tile.col % step:
            continue
        label = f"output tiles, {plan.tile_size} x {plan.tile_size}" if not number else None
        _rectangle(axes, tile.window, "none", _OUTPUT, label, width=1.6)
        window = tile.window
        roomy = min(window.width, window.height) > plan.tile_size / 3
        if roomy and max(plan.tile_rows, plan.tile_cols) <= _MOST_NAMES:
            axes.text(
                window.col_off + plan.tile_size / 20,
                window.row_off + plan.tile_size / 20,
                tile.label.replace("_", "\n"),
                ha="left",
                va="top",
                fontsize=6.5,
                color=_OUTPUT,
            )
    _legend(axes)


def _frame(axes: Axes, width: int, height: int) -> None:
    """Set the axes in pixels, rows downwards, with a margin for what lies outside."""
    margin = 0.06 * max(width, height)
    axes.set_xlim(-margin, width + margin)
    axes.set_ylim(height + margin, -margin)
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    axes.plot([0, width, width, 0, 0], [0, 0, height, height, 0], color="black", linewidth=1.2)


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncol=4, frameon=False, fontsize=9)


def _rectangle(
    axes: Axes, window: Window, fill: str, edge: str, label: str | None, width: float = 1.0
) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle(
            (window.col_off, window.row_off),
            window.width,
            window.height,
            facecolor=fill,
            edgecolor=edge,
            linewidth=width,
            alpha=0.85,
            label=label,
        )
    )


def _lines(length: int, step: int) -> list[int]:
    """Return where lines are drawn along an axis, every n-th where there are too many."""
    every = max(1, math.ceil(length / step / _MOST_LINES))
    return list(range(0, length, step * every))


def _block_title(plan: RasterPlan) -> str:
    image = plan.structure.image
    step = image.block_height
    every = max(1, math.ceil(image.height / step / _MOST_LINES))
    thinned = f", every {every}th drawn" if every > 1 else ""
    blocks = f"{image.blocks.length} {'strips' if image.striped else 'blocks'}"
    return f"source, pixels: {image.width} x {image.height} in {blocks}{thinned}"


def _work_windows(plan: RasterPlan) -> Sequence[Window]:
    """Return the work tiles, of every n-th output tile where there are too many."""
    each = ceil_div(plan.tile_size, plan.work_rows) * ceil_div(plan.tile_size, plan.work_cols)
    every = max(1, math.ceil(len(plan.tiles) * each / _MOST_TILES))
    return [
        work
        for tile in plan.tiles[::every]
        for work in work_tiles(tile.window, plan.work_rows, plan.work_cols)
    ]


def _outline(plan: RasterPlan, window: Window) -> tuple[Floats, Floats]:
    """Return the outline of a target window in source pixels."""
    along = np.linspace(0.0, 1.0, _SIDE_POINTS)
    zero, one = np.zeros_like(along), np.ones_like(along)
    across = np.concatenate([along, one, along[::-1], zero])
    down = np.concatenate([zero, along, one, along[::-1]])
    cols, rows = window.col_off + across * window.width, window.row_off + down * window.height
    if plan.warp is None:
        return cols, rows
    return source_positions(plan.warp, cols, rows)


def _numbers(plan: RasterPlan) -> str:
    """Return the text below the drawings: memory, and the three costs as a table."""
    lines = [
        f"memory of a tile task {bytes_text(plan.memory.total)} = "
        + " + ".join(f"{part} {bytes_text(size)}" for part, size in plan.memory.parts.items())
    ]
    if plan.piece_memory is not None:
        lines.append(f"memory of a piece task {bytes_text(plan.piece_memory.total)}")
    return "\n".join([*lines, "", *cost_table(plan)])
