"""The same pixels by GDAL's own tools, as commands that a person can run and compare."""

from __future__ import annotations

import shlex
from typing import Final
from xml.sax.saxutils import escape

from cogmill.raster.geometry.control import Polynomial, Rational, Spline
from cogmill.raster.warp.warp_document import number_text, warp_options
from cogmill.raster.warp.warp_spec import GDAL_TYPES, WarpSpec

#: gdalwarp's spelling where it differs from ours.
_NAMES: Final = {"nearest": "near", "cubic_spline": "cubicspline"}
GRID, RESULT = "grid.vrt", "warped.tif"


def gdalwarp_commands(
    spec: WarpSpec, source: str = "SOURCE.tif", overview: int | None = None
) -> tuple[str, ...]:
    """Return commands for a shell: make the file with the exact geotransform, then warp into it.

    ``-te`` and ``-ts`` do not give a geotransform to the last bit; a file that is there already
    does. Where the result has a mask, the file has one more band, which is 0 where it is invalid.

    Parameters
    ----------
    spec : WarpSpec
        The warp.
    source : str
        The source's path.
    overview : int or None
        The source's overview that is read in its place, as GDAL counts them.
    """
    kernel = _NAMES.get(spec.resampling, spec.resampling)
    words = ["gdalwarp", "-et", "0", "-r", kernel, "-s_srs", spec.source.crs]
    if spec.within_projection:
        words[1:1] = ["--config", "CHECK_WITH_INVERT_PROJ", "TRUE"]
    words += ["-ovr", "NONE" if overview is None else f"{overview}"]
    words += _placing(spec)
    if spec.coordinate_operation is not None:
        words += ["-ct", spec.coordinate_operation]
    for name, value in warp_options(spec).items():
        words += ["-wo", f"{name}={value}"]
    fill = [*spec.fill()[: spec.bands], *[0.0] * (spec.target_mask or spec.source_alpha)]
    words += ["-wo", f"INIT_DEST={','.join(number_text(value) for value in fill)}"]
    # What the file says of itself and the plan does not use must not be used here either.
    overruled = "None"
    if spec.source_nodata is not None:
        overruled = " ".join(number_text(value) for value in spec.source_nodata)
    words += ["-srcnodata", overruled]
    if not (spec.source_alpha or spec.target_mask):
        words.append("-nosrcalpha")
    if spec.target_nodata is not None:
        words += ["-dstnodata", " ".join(number_text(value) for value in spec.target_nodata)]
    return (
        f"cat > {GRID} <<'END'\n{_grid(spec)}\nEND",
        f"gdal_translate -of GTiff -co TILED=YES -co BIGTIFF=IF_SAFER {GRID} {RESULT}",
        shlex.join([*words, source, RESULT]),
    )


def _placing(spec: WarpSpec) -> list[str]:
    """Return what tells gdalwarp how the source is placed, where a transform does not."""
    match spec.source.control:
        case None:
            return []
        case Polynomial(order=order):
            # Named, for else a transform of the file would be taken.
            return ["-order", f"{order}", "-to", "SRC_METHOD=GCP_POLYNOMIAL"]
        case Spline():
            return ["-tps"]
        case Rational(height=height, elevation=elevation):
            ground = f"RPC_HEIGHT={height!r}"
            if elevation is not None:
                ground = f"RPC_DEM={elevation.path}"
            return ["-rpc", "-to", ground]


def _grid(spec: WarpSpec) -> str:
    grid = spec.target
    last = spec.target_mask or spec.source_alpha
    bands = [f'<VRTRasterBand dataType="{GDAL_TYPES[spec.dtype]}"/>'] * spec.bands
    if last:
        bands.append(
            f'<VRTRasterBand dataType="{GDAL_TYPES[spec.dtype]}">'
            "<ColorInterp>Alpha</ColorInterp></VRTRasterBand>"
        )
    return (
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">'
        f"<SRS>{escape(grid.crs)}</SRS>"
        f"<GeoTransform>{', '.join(map(repr, grid.transform))}</GeoTransform>"
        f"{''.join(bands)}</VRTDataset>"
    )
