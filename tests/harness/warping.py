"""A warp of the whole image at once, the same by windows, and how they differ."""

from __future__ import annotations

import itertools

import numpy as np
import rasterio
from tests.harness.reference import (
    Array,
    crop,
)

from cogmill.raster.geometry.grid import Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.exact_warp import mark_nan, warp
from cogmill.raster.warp.footprint import source_window
from cogmill.raster.warp.warp_document import frame_xml, warped_xml
from cogmill.raster.warp.warp_spec import WarpSpec


def whole_image(spec: WarpSpec, held: HeldPixels) -> tuple[Array, Array | None]:
    """Warp everything at once from everything, and let GDAL's own alpha band be the mask."""
    whole = spec.model_copy(update={"target_mask": False})
    marked = mark_nan(spec, held)  # its arrays are addressed until the dataset is read
    document = warped_xml(whole, frame_xml(whole, marked), 50, 4096)
    if spec.target_mask:
        alpha = spec.bands + 1
        band = document.index("<BlockXSize>")
        kind = document[document.index("<VRTRasterBand dataType=") :].split(" band=")[0]
        document = (
            document[:band]
            + f'{kind} band="{alpha}" subClass="VRTWarpedRasterBand"></VRTRasterBand>'
            + document[band:]
        ).replace("</BandList>", f"</BandList><DstAlphaBand>{alpha}</DstAlphaBand>")
        document = document.replace(
            "<BandList>", '<Option name="DST_ALPHA_MAX">100</Option><BandList>'
        ).replace("nan,nan", "0.0,0.0")
    with rasterio.open(document) as dataset:
        pixels = dataset.read()
    if spec.target_mask:
        return pixels[:-1], np.where(pixels[-1] > 0, np.uint8(255), np.uint8(0))
    return pixels, None


def odd_windows(spec: WarpSpec, side: int = 151) -> list[Window]:
    """Cut the target unevenly, into at least 3 x 3 windows that are aligned to nothing."""
    cols = [0, 37, *range(37 + side, spec.target.width, side), spec.target.width]
    rows = [0, 5, *range(5 + side - 22, spec.target.height, side - 22), spec.target.height]
    found = [
        Window.spanning(left, top, right, bottom)
        for left, right in itertools.pairwise(cols)
        for top, bottom in itertools.pairwise(rows)
    ]
    assert len(found) >= 9
    return [window for window in found if window]


def by_windows(
    spec: WarpSpec, held: HeldPixels, windows: list[Window]
) -> tuple[Array, Array | None]:
    """Warp each window from no more than `source_window` says, as a task does."""
    size = spec.target.height, spec.target.width
    pixels = np.zeros((spec.planes, *size), spec.dtype)
    mask = np.zeros(size, np.uint8) if spec.target_mask else None
    for window in windows:
        needed = source_window(spec, window)
        part = None if needed is None else crop(held, needed)
        warped = warp(spec, part, window)
        rows, cols = window.slices
        pixels[:, rows, cols] = warped.pixels
        if mask is not None and warped.mask is not None:
            mask[rows, cols] = warped.mask
    return pixels, mask


def differing(found: tuple[Array, Array | None], expected: tuple[Array, Array | None]) -> int:
    """Count the values, mask values included, that are not equal to the last bit."""
    pixels, wanted = found[0], expected[0]
    same = pixels == wanted
    if pixels.dtype.kind == "f":
        same |= np.isnan(pixels) & np.isnan(wanted)
    count = int((~same).sum())
    if expected[1] is not None and found[1] is not None:
        count += int((found[1] != expected[1]).sum())
    else:
        assert found[1] is None
        assert expected[1] is None
    return count


def valid_share(spec: WarpSpec, found: tuple[Array, Array | None]) -> float:
    pixels, mask = found
    if mask is not None:
        return float((mask > 0).mean())
    if spec.source_alpha:
        return float((pixels[-1] > 0).mean())
    fill = spec.fill()[0]
    return float((~np.isnan(pixels[0]) if np.isnan(fill) else pixels[0] != fill).mean())
