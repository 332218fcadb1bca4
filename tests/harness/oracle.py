"""What the pixels must be, by GDAL itself over the whole image at once, and by none of our code.

The whole source is written plainly to one file; one warped VRT with the plan's grid, scales and
operation is read in one go. No window, no frame, no piece.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from tests.harness.picture import Picture

Array = npt.NDArray[Any]

_GDAL_NAMES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}
_KERNELS = {
    "nearest": "NearestNeighbour",
    "bilinear": "Bilinear",
    "cubic": "Cubic",
    "lanczos": "Lanczos",
    "average": "Average",
}


def whole(source: Path, plan: dict[str, Any], folder: Path) -> Picture:
    """Return the whole target as GDAL warps it exactly, by what ``--json`` said of the plan.

    Parameters
    ----------
    source : Path
        What the job read.
    plan : dict
        Of ``--json``.
    folder : Path
        For the plain copy.
    """
    validity = plan["validity"]
    with rasterio.open(source) as dataset:
        pixels = dataset.read()
        mask = dataset.dataset_mask() if validity["kind"] == "mask" else None
        source_transform, source_crs = dataset.transform, dataset.crs.to_wkt()
    nodata = _values(validity["source_nodata"])
    if pixels.dtype.kind == "f" and nodata is not None:
        for band, value in zip(pixels, nodata, strict=True):
            band[np.isnan(band)] = np.nan if value is None else value
    plain = _plain(folder / f"{source.stem}-plain.tif", pixels, mask)
    xml = _warped(plain, pixels, plan, (source_transform, source_crs))
    with rasterio.Env(GDAL_CACHEMAX=256 << 20), rasterio.open(xml) as warped:
        found = warped.read()
    if validity["target_mask"]:
        return Picture(found[:-1], np.where(found[-1] > 0, 255, 0).astype(np.uint8))
    return Picture(found, None)


def _plain(path: Path, pixels: Array, mask: Array | None) -> Path:
    bands, height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": bands}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", width=width, height=height, transform=Affine.scale(2), **profile
        ) as out,
    ):
        out.write(pixels)
        if mask is not None:
            out.write_mask(mask)
    return path


def _warped(plain: Path, pixels: Array, plan: dict[str, Any], source: tuple[Affine, str]) -> str:
    grid, warp, validity = plan["target_grid"], plan["warp"], plan["validity"]
    kind = _GDAL_NAMES[pixels.dtype.name]
    alpha = validity["alpha_band"]
    # Where the result has a mask, GDAL writes what it covered to one more band: its alpha.
    colors = len(pixels) - (1 if alpha else 0)
    planes = colors + (1 if alpha or validity["target_mask"] else 0)
    nodata, target = (_values(validity[f"{end}_nodata"]) for end in ("source", "target"))
    floats = pixels.dtype.kind == "f"
    fill = [0.0 if value is None else value for value in target or [None] * colors]
    options = {
        "XSCALE": repr(warp["xscale"]),
        "YSCALE": repr(warp["yscale"]),
        "SAMPLE_GRID": "YES",
        "SOURCE_EXTRA": "50",
        # What gdalwarp does too: each band for itself, and no pixel where none is valid.
        "UNIFIED_SRC_NODATA": "PARTIAL",
        "INIT_DEST": ",".join(_text(value) for value in [*fill, *[0.0] * (planes - colors)]),
    }
    mappings = ""
    for band in range(colors):
        values = ""
        if nodata is not None and (nodata[band] is not None or floats):
            marked = nodata[band]
            value = math.nan if marked is None else marked
            values = (
                f"<SrcNoDataReal>{_text(value)}</SrcNoDataReal>"
                f"<DstNoDataReal>{_text(fill[band])}</DstNoDataReal>"
            )
        mappings += f'<BandMapping src="{band + 1}" dst="{band + 1}">{values}</BandMapping>'
    alphas = f"<SrcAlphaBand>{alpha}</SrcAlphaBand>" if alpha else ""
    if planes > colors:
        alphas += f"<DstAlphaBand>{planes}</DstAlphaBand>"
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band + 1}" subClass="VRTWarpedRasterBand"/>'
        for band in range(planes)
    )
    named = "".join(f'<Option name="{name}">{value}</Option>' for name, value in options.items())
    return (
        f'<VRTDataset rasterXSize="{grid["width"]}" rasterYSize="{grid["height"]}" '
        f'subClass="VRTWarpedDataset"><SRS>{escape(grid["crs"])}</SRS>'
        f"{_transform('GeoTransform', grid['transform'])}{bands}<GDALWarpOptions>"
        f"<WarpMemoryLimit>2000000000</WarpMemoryLimit>"
        f"<ResampleAlg>{_KERNELS[warp['resampling']]}</ResampleAlg>"
        f"<WorkingDataType>{kind}</WorkingDataType>{named}"
        f'<SourceDataset relativeToVRT="0">{escape(str(plain))}</SourceDataset>'
        f"{_transformer(source, plan)}<BandList>{mappings}</BandList>{alphas}"
        "</GDALWarpOptions></VRTDataset>"
    )


def _transformer(source: tuple[Affine, str], plan: dict[str, Any]) -> str:
    grid, operation = plan["target_grid"], plan["warp"]["coordinate_operation"]
    affine = Affine.from_gdal(*grid["transform"])
    reproject = "" if operation is None else (
        "<ReprojectTransformer><ReprojectionTransformer>"
        f"<SourceSRS>{escape(source[1])}</SourceSRS><TargetSRS>{escape(grid['crs'])}</TargetSRS>"
        f'<Options><Option key="COORDINATE_OPERATION">{escape(operation)}</Option></Options>'
        "</ReprojectionTransformer></ReprojectTransformer>"
    )  # fmt: skip
    return (
        "<Transformer><GenImgProjTransformer>"
        f"{_transform('SrcGeoTransform', source[0].to_gdal())}"
        f"{_transform('SrcInvGeoTransform', inverse(source[0]))}"
        f"{_transform('DstGeoTransform', affine.to_gdal())}"
        f"{_transform('DstInvGeoTransform', inverse(affine))}"
        f"{reproject}</GenImgProjTransformer></Transformer>"
    )


def inverse(affine: Affine) -> tuple[float, ...]:
    """Return a north-up transform's inverse as GDAL's own function gives it."""
    assert affine.b == 0 and affine.d == 0
    return -affine.c / affine.a, 1 / affine.a, 0.0, -affine.f / affine.e, 0.0, 1 / affine.e


def _transform(name: str, values: Any) -> str:
    return f"<{name}>{','.join(repr(float(value)) for value in values)}</{name}>"


def _values(given: Any) -> list[float | None] | None:
    """Return nodata of JSON as numbers: NaN travels as text."""
    if given is None:
        return None
    return [None if value is None else float(value) for value in given]


def _text(value: float) -> str:
    return "nan" if math.isnan(value) else repr(float(value))
