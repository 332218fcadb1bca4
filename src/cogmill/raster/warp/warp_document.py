"""The two VRT documents of a warp: held pixels in the frame of the whole source, and the warp.

Measured with GDAL 3.10.3: only a hand-made warped VRT gives every pixel the same value however
the work is cut, because its destination coordinates are those of the whole grid, its kernel has
fixed scales, and no transformer approximates along the scan lines of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from cogmill.raster.arrays import Array
from cogmill.raster.geometry.control import (
    ControlPoint,
    Polynomial,
    Rational,
    Spline,
    rpc_metadata,
)
from cogmill.raster.geometry.grid import GeoTransform, Grid, Window
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.warp.warp_spec import GDAL_TYPES, KERNELS, WarpSpec

#: A source that no one can open: reading it fails, where a hole would read as valid zeros.
OUTSIDE = "/nonexistent/cogmill/outside-the-held-window"
#: Told apart by it, for GDAL may keep what it opened, and what it could not open, under a name: the
#: next that fails would read as 0 (see `vrt_document`).
_FRAMES = count()
#: GDAL must not split a region by itself: `footprint` has cut it, and knows what it takes.
_NO_LIMIT = "1e12"
#: What a valid pixel of the validity band holds: every type can.
VALID = 100
#: A float's opaque alpha.
_OPAQUE = 255


def frame_xml(spec: WarpSpec, held: HeldPixels) -> str:
    """Return the whole source as a VRT in which only the held window can be read.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    held : HeldPixels
        Its arrays are addressed, not copied: they must outlive every reading of the VRT.
    """
    size = f"rasterXSize={_quoted(spec.source.width)} rasterYSize={_quoted(spec.source.height)}"
    parts, frame = [f"<VRTDataset {size}>"], next(_FRAMES)
    for plane in range(spec.planes):
        parts += [
            _band(spec.dtype, plane + 1),
            *_sources(frame, (spec.source.window, held.window), held.pixels, plane),
            "</VRTRasterBand>",
        ]
    if spec.target_mask:
        # No source at all: it reads as its nodata value everywhere, hidden so that it is a value.
        parts += [
            _band(spec.dtype, spec.planes + 1),
            f"<NoDataValue>{VALID}</NoDataValue>",
            "<HideNoDataValue>1</HideNoDataValue></VRTRasterBand>",
        ]
    if spec.source_mask:
        if held.mask is None:
            raise ValueError("the source has a mask and none is held")
        parts += [
            '<MaskBand><VRTRasterBand dataType="Byte">',
            *_sources(frame, (spec.source.window, held.window), held.mask[np.newaxis], 0),
            "</VRTRasterBand></MaskBand>",
        ]
    return "".join([*parts, "</VRTDataset>"])


def _band(dtype: str, band: int, subclass: str = "") -> str:
    kind = f" subClass={quoteattr(subclass)}" if subclass else ""
    return f"<VRTRasterBand dataType={quoteattr(GDAL_TYPES[dtype])} band={_quoted(band)}{kind}>"


def _sources(frame: int, windows: tuple[Window, Window], array: Array, plane: int) -> Iterator[str]:
    """Yield the held window of one plane, and what surrounds it as sources nobody can open."""
    whole, window = windows
    planes, rows, cols = array.shape
    if (cols, rows) != (window.width, window.height):
        raise ValueError(f"{cols} x {rows} pixels are held for {window}")
    band, row, col = array.strides
    name = (
        f"MEM:::DATAPOINTER={array.ctypes.data},PIXELS={cols},LINES={rows},BANDS={planes},"
        f"DATATYPE={GDAL_TYPES[array.dtype.name]},PIXELOFFSET={col},LINEOFFSET={row},"
        f"BANDOFFSET={band},FRAME={frame}"
    )
    yield _source(name, plane + 1, array.dtype.name, window)
    for part in surroundings(whole, window):
        yield _source(f"{OUTSIDE}-{frame}", 1, array.dtype.name, part)


def surroundings(whole: Window, held: Window) -> list[Window]:
    """Return what of a raster lies outside a window: above, below, left and right of it."""
    found = (
        Window.spanning(0, 0, whole.width, held.row_off),
        Window.spanning(0, held.row_stop, whole.width, whole.height),
        Window.spanning(0, held.row_off, held.col_off, held.row_stop),
        Window.spanning(held.col_stop, held.row_off, whole.width, held.row_stop),
    )
    return [window for window in found if window is not None]


def _source(name: str, band: int, dtype: str, at: Window) -> str:
    # Its properties are said here so that nothing is opened before it is read.
    size = f"xSize={_quoted(at.width)} ySize={_quoted(at.height)}"
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="0" shared="0">{name}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand><SourceProperties RasterXSize={_quoted(at.width)} "
        f"RasterYSize={_quoted(at.height)} DataType={quoteattr(GDAL_TYPES[dtype])} "
        f'BlockXSize={_quoted(at.width)} BlockYSize="1"/><SrcRect xOff="0" yOff="0" {size}/>'
        f"<DstRect xOff={_quoted(at.col_off)} yOff={_quoted(at.row_off)} {size}/></SimpleSource>"
    )


def warped_xml(spec: WarpSpec, frame: str, source_extra: int, block: int) -> str:
    """Return the warp of a frame as a VRT with the whole target grid.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    frame : str
        Of `frame_xml`.
    source_extra : int
        Source pixels that GDAL reads beyond each side of what its own sampling finds: it samples
        a region's footprint at 21 x 21 points and does not know the kernel scales.
    block : int
        Side of the regions that are warped at a time where there is an alpha band; otherwise the
        region is what is read, and this is 1.
    """
    target = spec.target
    size = f"rasterXSize={_quoted(target.width)} rasterYSize={_quoted(target.height)}"
    warped = spec.bands + spec.target_mask
    planes = warped + spec.source_alpha
    parts = [
        f'<VRTDataset {size} subClass="VRTWarpedDataset">',
        f"<SRS>{escape(target.crs)}</SRS>{_transform('GeoTransform', target.transform)}",
        *(
            _band(spec.dtype, band + 1, "VRTWarpedRasterBand") + "</VRTRasterBand>"
            for band in range(planes)
        ),
        f"<BlockXSize>{block}</BlockXSize><BlockYSize>{block}</BlockYSize><GDALWarpOptions>",
        f"<WarpMemoryLimit>{_NO_LIMIT}</WarpMemoryLimit>",
        f"<ResampleAlg>{KERNELS[spec.resampling][0]}</ResampleAlg>",
        f"<WorkingDataType>{GDAL_TYPES[spec.dtype]}</WorkingDataType>",
        *(
            f'<Option name="{name}">{value}</Option>'
            for name, value in _options(spec, source_extra).items()
        ),
        f'<SourceDataset relativeToVRT="0">{escape(frame)}</SourceDataset>',
        _transformer(spec),
        "<BandList>",
        *_mappings(spec, warped),
        "</BandList>",
    ]
    if spec.source_alpha:
        parts.append(f"<SrcAlphaBand>{planes}</SrcAlphaBand><DstAlphaBand>{planes}</DstAlphaBand>")
    return "".join([*parts, "</GDALWarpOptions></VRTDataset>"])


def warp_options(spec: WarpSpec) -> dict[str, str]:
    """Return GDAL's warp options that decide the values of pixels, by name."""
    options = {
        "XSCALE": repr(spec.xscale),
        "YSCALE": repr(spec.yscale),
        "SAMPLE_GRID": "YES",
        # Each band for itself; and nothing where no band of the nearest pixel is valid, so that
        # interpolation does not eat into, or grow over, a collar.
        "UNIFIED_SRC_NODATA": "PARTIAL",
    }
    if spec.source_alpha:
        largest = np.iinfo(spec.dtype).max if not spec.is_float else _OPAQUE
        options |= {"SRC_ALPHA_MAX": str(largest), "DST_ALPHA_MAX": str(largest)}
    return options


def _options(spec: WarpSpec, source_extra: int) -> dict[str, str]:
    fill = [*spec.fill()[: spec.bands], *[0.0] * spec.target_mask]
    return warp_options(spec) | {
        "INIT_DEST": ",".join(number_text(value) for value in fill),
        "SOURCE_EXTRA": str(source_extra),
        "NUM_THREADS": "1",
        "ERROR_OUT_IF_EMPTY_SOURCE_WINDOW": "NO",
    }


def _mappings(spec: WarpSpec, warped: int) -> Iterator[str]:
    invalid = [*spec.invalid(), *[None] * spec.target_mask]
    target = [*spec.fill()[: spec.bands], 0.0]
    # A band without nodata must not be given another's by a valid pixel that has that value.
    marked = [*(spec.target_nodata or ()), *[None] * (warped - len(spec.target_nodata or ()))]
    for band in range(warped):
        inner = ""
        if invalid[band] is not None:
            inner += f"<SrcNoDataReal>{number_text(invalid[band])}</SrcNoDataReal>"
        if invalid[band] is not None or marked[band] is not None:
            inner += f"<DstNoDataReal>{number_text(target[band])}</DstNoDataReal>"
        yield f'<BandMapping src="{band + 1}" dst="{band + 1}">{inner}</BandMapping>'


def _transformer(spec: WarpSpec) -> str:
    reproject = ""
    if spec.coordinate_operation is not None:
        reproject = (
            "<ReprojectTransformer><ReprojectionTransformer>"
            f"<SourceSRS>{escape(spec.source.crs)}</SourceSRS>"
            f"<TargetSRS>{escape(spec.target.crs)}</TargetSRS>"
            f'<Options><Option key="COORDINATE_OPERATION">{escape(spec.coordinate_operation)}'
            "</Option></Options></ReprojectionTransformer></ReprojectTransformer>"
        )
    return (
        f"<Transformer><GenImgProjTransformer>{_placed(spec.source)}"
        f"{_transform('DstGeoTransform', spec.target.transform)}"
        f"{_transform('DstInvGeoTransform', inverse_transform(spec.target.transform))}"
        f"{reproject}</GenImgProjTransformer></Transformer>"
    )


def _placed(source: Grid) -> str:
    """Return how GDAL places the source's pixels, by the names that its own documents have."""
    match source.control:
        case None:
            there = _transform("SrcGeoTransform", source.transform)
            return there + _transform("SrcInvGeoTransform", inverse_transform(source.transform))
        case Polynomial(order=order, points=points):
            inner = f"<Order>{order}</Order><Reversed>0</Reversed>{_points(points)}"
            return (
                f"<SrcGCPTransformer><GCPTransformer>{inner}</GCPTransformer></SrcGCPTransformer>"
            )
        case Spline(points=points):
            inner = f"<Reversed>0</Reversed>{_points(points)}"
            return (
                f"<SrcTPSTransformer><TPSTransformer>{inner}</TPSTransformer></SrcTPSTransformer>"
            )
        case Rational() as rational:
            inner = (
                f"<Reversed>0</Reversed>{_ground(rational)}"
                f"<Metadata>{_coefficients(rational)}</Metadata>"
            )
            return (
                f"<SrcRPCTransformer><RPCTransformer>{inner}</RPCTransformer></SrcRPCTransformer>"
            )


def _points(points: tuple[ControlPoint, ...]) -> str:
    listed = (
        f'<GCP Id="{number}" Pixel="{col!r}" Line="{row!r}" X="{x!r}" Y="{y!r}" Z="{z!r}"/>'
        for number, (col, row, x, y, z) in enumerate(points)
    )
    return f"<GCPList>{''.join(listed)}</GCPList>"


def _ground(rational: Rational) -> str:
    if rational.elevation is None:
        return f"<HeightOffset>{rational.height!r}</HeightOffset>"
    return f"<DEMPath>{escape(rational.elevation.path)}</DEMPath>"


def _coefficients(rational: Rational) -> str:
    return "".join(f'<MDI key="{key}">{text}</MDI>' for key, text in rpc_metadata(rational).items())


def inverse_transform(transform: GeoTransform) -> GeoTransform:
    """Return the transform from coordinates to pixels, rounded as GDAL rounds its own."""
    x0, dx, rx, y0, ry, dy = transform
    if rx == 0 and ry == 0:
        return -x0 / dx, 1 / dx, 0.0, -y0 / dy, 0.0, 1 / dy
    scale = 1 / (dx * dy - rx * ry)
    return (
        (rx * y0 - x0 * dy) * scale,
        dy * scale,
        -rx * scale,
        (-dx * y0 + x0 * ry) * scale,
        -ry * scale,
        dx * scale,
    )


def _transform(name: str, transform: GeoTransform) -> str:
    return f"<{name}>{','.join(map(repr, transform))}</{name}>"


def number_text(value: float | None) -> str:
    """Return a value as GDAL reads it back to the last bit."""
    if value is None:
        return "none"
    return "nan" if math.isnan(value) else repr(float(value))


def _quoted(value: int) -> str:
    return quoteattr(str(value))
