"""A warp in NumPy and pyproj that shares no code with GDAL's, and made-up rasters to warp.

Nearest and bilinear only, written from their definitions: the value of a target pixel is taken at
the source place of its centre; bilinear weighs the valid pixels among the four around that place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import GCPTransformer, RPCTransformer

from cogmill.raster.geometry.control import (
    NOT_COEFFICIENTS,
    Control,
    Polynomial,
    Rational,
    Spline,
)
from cogmill.raster.geometry.crs import crs_text, lonlat_area
from cogmill.raster.geometry.grid import Grid, Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.geometry.target import target_grid
from cogmill.raster.warp.coordinate_operation import choose_operation
from cogmill.raster.warp.scales import kernel_scales
from cogmill.raster.warp.warp_spec import WarpSpec

Array = npt.NDArray[Any]
WIDTH, HEIGHT = 411, 397


@dataclass(frozen=True)
class Kind:
    """What pixels are, and how they say that they are invalid."""

    dtype: str
    bands: int = 1
    nodata: tuple[float | None, ...] | None = None
    alpha: bool = False
    mask: bool = False

    @property
    def target_mask(self) -> bool:
        marked = self.alpha or self.nodata is not None
        return self.mask or not (marked or self.dtype.startswith("float"))


KINDS = {
    "uint8x3": Kind("uint8", 3),
    "uint8-nodata-0": Kind("uint8", 3, nodata=(0, 0, 0)),
    "uint8-mask": Kind("uint8", 3, mask=True),
    "uint8-alpha": Kind("uint8", 3, alpha=True),
    "uint16x4": Kind("uint16", 4),
    "uint16-alpha": Kind("uint16", 1, alpha=True),
    "int16": Kind("int16"),
    "int16-nodata": Kind("int16", 2, nodata=(-9999, None)),
    "float32-nodata": Kind("float32", nodata=(-9999.0,)),
    "float32-nan": Kind("float32", 2),
    "float32-mask": Kind("float32", 2, mask=True),
    "float64-nan": Kind("float64"),
}
PLACES: dict[str, tuple[str, str, tuple[float, float, float, float, float, float]]] = {
    "utm-3857": ("EPSG:32633", "EPSG:3857", (250000.3, 10.0, 0.0, 5300000.7, 0.0, -10.0)),
    "utm-rotated": ("EPSG:32633", "EPSG:3857", (250000.3, 10.0, 3.0, 5300000.7, 4.0, -10.0)),
    "4326-3857": ("EPSG:4326", "EPSG:3857", (10.05, 0.0123, 0.0, 61.3, 0.0, -0.0101)),
    "3857-4326": ("EPSG:3857", "EPSG:4326", (1e6, 97.0, 0.0, 7e6, 0.0, -101.0)),
    "polar-4326": ("EPSG:3413", "EPSG:4326", (-903111.0, 4444.0, 0.0, 911111.0, 0.0, -4444.0)),
    "4326-polar": ("EPSG:4326", "EPSG:3413", (-179.9, 0.85, 0.0, 89.0, 0.0, -0.11)),
    "same": ("EPSG:32633", "EPSG:32633", (250000.3, 10.0, 0.0, 5300000.7, 0.0, -10.0)),
}


def make_spec(place: str, kind: Kind, resampling: str, scale: float = 1.0) -> WarpSpec:
    """Return the warp of a made-up raster to the grid that a job would choose."""
    src, dst, transform = PLACES[place]
    source = Grid(crs=crs_text(src), transform=transform, width=WIDTH, height=HEIGHT)
    return suggested(source, dst, kind, resampling, scale)


def suggested(source: Grid, dst: str, kind: Kind, resampling: str, scale: float = 1.0) -> WarpSpec:
    """Return the warp of a raster to the grid that a job would choose, or to coarser pixels."""
    target_crs, pipeline = crs_text(dst), None
    if source.crs != target_crs:
        pipeline = choose_operation((source.crs, target_crs), lonlat_area(source), 10.0).pipeline
    target = target_grid(source, target_crs, pipeline)
    if scale != 1.0:
        size = target.transform[1] * scale, -target.transform[5] * scale
        target = target_grid(source, target_crs, pipeline, size)
    spec = WarpSpec(
        source=source,
        target=target,
        resampling=resampling,
        coordinate_operation=pipeline,
        dtype=kind.dtype,
        bands=kind.bands,
        source_nodata=kind.nodata,
        target_nodata=kind.nodata,
        source_alpha=kind.alpha,
        source_mask=kind.mask,
        target_mask=kind.target_mask,
    )
    scales = kernel_scales(spec)
    return spec.model_copy(update={"xscale": scales.xscale, "yscale": scales.yscale})


def make_held(spec: WarpSpec, seed: int = 0) -> HeldPixels:
    """Return a whole source: smooth and rough parts, and a ragged region of invalid pixels."""
    rng = np.random.default_rng(seed)
    height, width = spec.source.height, spec.source.width
    cols, rows = np.meshgrid(np.arange(width), np.arange(height))
    planes = []
    for band in range(spec.bands):
        smooth = np.sin(cols / (17 + band)) * np.cos(rows / (23 - band))
        planes.append(smooth + rng.normal(0, 0.3, (height, width)))
    values = np.stack(planes)
    if spec.is_float:
        pixels = (values * 1234.5 + 321.0).astype(spec.dtype)
    else:
        info = np.iinfo(spec.dtype)
        low = max(info.min, -20000)
        span = min(info.max, 60000) - low
        pixels = np.clip((values + 2) / 4 * span + low, low, low + span).astype(spec.dtype)
        pixels[:, 40:60, 50:90] = info.max  # saturated: kernels overshoot here
    ragged = (np.sin(cols / 31) + np.cos(rows / 29) + rng.normal(0, 0.2, cols.shape)) < -0.9
    mask = None
    if spec.source_alpha:
        largest = np.iinfo(spec.dtype).max
        alpha = np.where(ragged, 0, largest).astype(spec.dtype)
        alpha[100:180, 60:200] = largest // 3
        pixels = np.concatenate([pixels, alpha[np.newaxis]])
    elif spec.source_mask:
        mask = np.where(ragged, np.uint8(0), np.uint8(255))
    else:
        for plane, value in zip(pixels, spec.invalid(), strict=True):
            if value is not None:
                plane[ragged] = value
    if spec.is_float:
        pixels[:, 200:206, 210:230] = np.nan
        pixels[-1, 300:303, 20:22] = np.nan
    return HeldPixels(window=spec.source.window, pixels=np.ascontiguousarray(pixels), mask=mask)


def crop(held: HeldPixels, window: Window) -> HeldPixels:
    """Return a part of what is held, in arrays of its own."""
    rows, cols = window.shift(-held.window.col_off, -held.window.row_off).slices
    mask = None if held.mask is None else np.ascontiguousarray(held.mask[rows, cols])
    return HeldPixels(
        window=window, pixels=np.ascontiguousarray(held.pixels[:, rows, cols]), mask=mask
    )


def source_places(spec: WarpSpec) -> tuple[Array, Array]:
    """Return the source column and row of the centre of every target pixel."""
    cols, rows = np.meshgrid(
        np.arange(spec.target.width) + 0.5, np.arange(spec.target.height) + 0.5
    )
    xs, ys = spec.target.affine @ (cols, rows)
    if spec.source.crs != spec.target.crs:
        # Not the pipeline of the job: PROJ's own choice, x before y.
        back = Transformer.from_crs(spec.target.crs, spec.source.crs, always_xy=True)
        xs, ys = back.transform(xs, ys)
        by_transform = spec.source.control is None
        if by_transform and back.target_crs is not None and back.target_crs.is_geographic:
            # A source in degrees may begin or end beyond 180: a place is the same a turn further.
            turned = np.asarray(xs) < spec.source.bounds[0]
            xs = np.add(xs, np.where(turned, 360, 0))
    if spec.source.control is not None:
        return by_points(spec.source.control, np.asarray(xs), np.asarray(ys))
    with np.errstate(invalid="ignore"):
        src_cols, src_rows = ~spec.source.affine @ (np.asarray(xs), np.asarray(ys))
    return src_cols, src_rows


def by_points(control: Control, xs: Array, ys: Array) -> tuple[Array, Array]:
    """Return source columns and rows of coordinates by what places a raster without a transform.

    Polynomials by least squares here; splines and rational polynomials by rasterio's transformers.
    """
    if isinstance(control, Polynomial):
        known = np.array(control.points)
        powers = [(a, b) for a in range(control.order + 1) for b in range(control.order + 1 - a)]
        middle = known[:, 2:4].mean(axis=0)

        def terms(u: Array, v: Array) -> Array:
            u, v = u - middle[0], v - middle[1]
            return np.stack([u**a * v**b for a, b in powers], axis=-1)

        fitted = np.linalg.lstsq(terms(known[:, 2], known[:, 3]), known[:, :2], rcond=None)[0]
        found = terms(xs, ys) @ fitted
        return found[..., 0], found[..., 1]
    with transformer(control) as theirs:
        flat = xs.ravel(), ys.ravel()
        if isinstance(control, Spline):
            cols, rows = theirs.xy(flat[1], flat[0], offset="ul")
        else:
            rows, cols = theirs.rowcol(*flat, op=np.positive)
    return np.reshape(cols, xs.shape), np.reshape(rows, xs.shape)


def transformer(control: Control) -> Any:
    """Return GDAL's transformer; of a spline with pixels and coordinates exchanged.

    Rasterio has its splines reversed: it fits the way back and inverts that, where the warp fits
    the way there. Of polynomials it takes order 2 from six points on.
    """
    if isinstance(control, Rational):
        values = control.model_dump(exclude=NOT_COEFFICIENTS)
        if control.elevation is not None:
            return RPCTransformer(RPC(**values), rpc_dem=control.elevation.path)
        return RPCTransformer(RPC(**values), rpc_height=control.height)
    if isinstance(control, Spline):
        swapped = [GroundControlPoint(y, x, col, row, z) for col, row, x, y, z in control.points]
        return GCPTransformer(swapped, tps=True)
    listed = [GroundControlPoint(row, col, x, y, z) for col, row, x, y, z in control.points]
    return GCPTransformer(listed)


@dataclass(frozen=True)
class Reference:
    """What the reference makes of a band: values, where they are valid, where it cannot tell."""

    values: Array
    valid: Array
    undecided: Array


def validity(spec: WarpSpec, held: HeldPixels, band: int) -> Array:
    """Return which source pixels of a band are valid."""
    plane = held.pixels[band]
    if spec.source_mask:
        assert held.mask is not None
        valid = held.mask > 0
        if spec.is_float:
            valid = valid & ~np.isnan(held.pixels).any(axis=0)
        return valid
    value = spec.invalid()[band]
    valid = np.ones(plane.shape, bool)
    if spec.is_float:
        valid = ~np.isnan(plane)
    if value is not None:
        valid &= plane != value
    return valid


def reference_warp(spec: WarpSpec, held: HeldPixels, band: int, eps: float = 1e-6) -> Reference:
    """Warp one band of a whole source by nearest or bilinear.

    Undecided is a pixel within `eps` source pixels of where the answer jumps: the source's edge,
    for nearest the border of two pixels, for bilinear where an invalid neighbour begins to count.
    """
    plane, valid = held.pixels[band].astype(np.float64), validity(spec, held, band)
    cols, rows = source_places(spec)
    finite = np.isfinite(cols) & np.isfinite(rows)
    cols, rows = np.where(finite, cols, -9e9), np.where(finite, rows, -9e9)
    height, width = plane.shape
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    near = np.zeros(cols.shape, bool)
    for places, length in ((cols, width), (rows, height)):
        near |= (np.abs(places) < eps) | (np.abs(places - length) < eps)
    for places in (cols, rows):
        near |= np.abs(places - np.round(places)) < eps
    col = np.clip(np.floor(cols).astype(int), 0, width - 1)
    row = np.clip(np.floor(rows).astype(int), 0, height - 1)
    if spec.resampling == "nearest":
        return Reference(plane[row, col], inside & valid[row, col], near & finite)
    # Interpolation does not grow beyond the pixels that are valid in some band.
    some_band = np.any([validity(spec, held, each) for each in range(spec.bands)], axis=0)
    inside &= some_band[row, col]
    weights, total = np.zeros(cols.shape), np.zeros(cols.shape)
    left, top = np.floor(cols - 0.5).astype(int), np.floor(rows - 0.5).astype(int)
    for places in (cols, rows):
        near |= np.abs(places - 0.5 - np.round(places - 0.5)) < eps
    for down in (0, 1):
        for across in (0, 1):
            col, row = left + across, top + down
            weight = (1 - np.abs(cols - 0.5 - col)) * (1 - np.abs(rows - 0.5 - row))
            there = (col >= 0) & (col < width) & (row >= 0) & (row < height)
            col, row = np.clip(col, 0, width - 1), np.clip(row, 0, height - 1)
            weight = np.where(there & valid[row, col], weight, 0.0)
            weights += weight
            total += weight * np.where(valid[row, col], plane[row, col], 0.0)
    some = inside & (weights > 1e-5)
    values = np.divide(total, weights, out=np.zeros_like(total), where=some)
    # Under that little weight GDAL drops the pixel: about there the answer jumps as well.
    return Reference(values, some, (near | (np.abs(weights - 1e-5) < 1e-5)) & finite)


def rounded(values: Array, spec: WarpSpec) -> tuple[Array, Array]:
    """Return values as the job's type stores them, and where rounding could go either way."""
    if spec.is_float:
        return values.astype(spec.dtype), np.zeros(values.shape, bool)
    info = np.iinfo(spec.dtype)
    half = np.abs(values - np.floor(values) - 0.5) < 1e-6 * np.maximum(1, np.abs(values))
    return np.clip(np.floor(values + 0.5), info.min, info.max).astype(spec.dtype), half
