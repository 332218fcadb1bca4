"""Writes VRTs over rasters, as GDAL's tools write them or as people do by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.harness.rasters import HEIGHT, WIDTH, Case, write

Maker = Callable[[Path], Path]
STRIPS = {"tiled": False, "blockysize": 16}
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 48, "compress": "deflate"}
#: Two members beside each other and one below, with a gap: what a mosaic looks like.
MOSAIC = {"a.tif": (0, 0), "b.tif": (WIDTH, 0), "c.tif": (60, HEIGHT + 20)}
MOSAIC_SIZE = (2 * WIDTH, 2 * HEIGHT + 20)
ONE = (WIDTH, HEIGHT)


def source(name: str, band: str = "1", kind: str = "SimpleSource", **parts: Any) -> str:
    """Return a source; `at` and `size` place it, `inner` is written into it as it is."""
    x, y = parts.get("at", (0, 0))
    width, height = parts.get("size", ONE)
    relative = parts.get("relative", 1)
    return (
        f'<{kind}><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{WIDTH}" ySize="{HEIGHT}"/>'
        f'<DstRect xOff="{x}" yOff="{y}" xSize="{width}" ySize="{height}"/>'
        f"{parts.get('inner', '')}</{kind}>"
    )


def band(inner: str, dtype: str = "Byte", subclass: str = "") -> str:
    """Return a band of these sources, properties before them."""
    kind = f' subClass="{subclass}"' if subclass else ""
    return f'<VRTRasterBand dataType="{dtype}"{kind}>{inner}</VRTRasterBand>'


def document(
    path: Path, bands: Sequence[str], size: tuple[int, int] = ONE, extra: str = ""
) -> Path:
    """Write a VRT in UTM, whose first band is gray as in every TIFF."""
    head, end, rest = bands[0].partition(">")
    bands = [f"{head}{end}<ColorInterp>Gray</ColorInterp>{rest}", *bands[1:]]
    path.write_text(
        f'<VRTDataset rasterXSize="{size[0]}" rasterYSize="{size[1]}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>{''.join(bands)}{extra}"
        "</VRTDataset>"
    )
    return path


def members(folder: Path, *names: str, **case: Any) -> None:
    """Write rasters of the same kind and other pixels each."""
    options = case.pop("options", TILES)
    for number, name in enumerate(names):
        write(folder / name, Case(options=options, seed=number, **case))


def mosaic(name: str = "input.vrt", nodata: str = "", **case: Any) -> Maker:
    """Return a maker of a mosaic of three."""

    def make(folder: Path) -> Path:
        members(folder, *MOSAIC, **case)
        count = case.get("bands", 1)
        said = f"<NoDataValue>{nodata}</NoDataValue>" if nodata else ""
        dtype = {"uint8": "Byte", "int16": "Int16", "uint16": "UInt16"}[case.get("dtype", "uint8")]
        bands = [
            band(said + "".join(source(n, str(b), at=at) for n, at in MOSAIC.items()), dtype)
            for b in range(1, count + 1)
        ]
        return document(folder / name, bands, MOSAIC_SIZE)

    return make


def nested(**case: Any) -> Maker:
    """Return a maker of a VRT in a VRT in a VRT, each in a folder of its own."""

    def make(folder: Path) -> Path:
        inner = folder / "deep" / "deeper"
        inner.mkdir(parents=True)
        mosaic("mosaic.vrt", **case)(inner)
        outer = [
            band(_sized(source("deeper/mosaic.vrt", str(b), size=MOSAIC_SIZE)))
            for b in range(1, case.get("bands", 1) + 1)
        ]
        document(inner.parent / "middle.vrt", outer, MOSAIC_SIZE)
        named = [text.replace("deeper/mosaic.vrt", "deep/middle.vrt") for text in outer]
        return document(folder / "input.vrt", named, MOSAIC_SIZE)

    return make


def _sized(text: str) -> str:
    """Return a source that reads a whole mosaic."""
    return text.replace(
        f'xSize="{WIDTH}" ySize="{HEIGHT}"', f'xSize="{MOSAIC_SIZE[0]}" ySize="{MOSAIC_SIZE[1]}"'
    )


def of(*bands: str, extra: str = "", **case: Any) -> Maker:
    """Return a maker of a VRT of these bands over ``a.tif`` and ``b.tif``."""

    def make(folder: Path) -> Path:
        members(folder, "a.tif", "b.tif", **case)
        return document(folder / "input.vrt", bands, extra=extra)

    return make


def masked(folder: Path) -> Path:
    """Make a VRT whose mask is that of its member."""
    members(folder, "a.tif", mask="internal", bands=2)
    bands = [band(source("a.tif", str(number))) for number in (1, 2)]
    inner = band(source("a.tif", "mask,1"))
    return document(folder / "input.vrt", bands, extra=f"<MaskBand>{inner}</MaskBand>")


def warped(folder: Path) -> Path:
    """Make a VRT that warps."""
    import rasterio
    import rasterio.shutil
    from rasterio.vrt import WarpedVRT

    members(folder, "a.tif")
    with (
        rasterio.open(folder / "a.tif") as dataset,
        WarpedVRT(dataset, crs="EPSG:3857") as virtual,
    ):
        rasterio.shutil.copy(virtual, folder / "input.vrt", driver="VRT")
    return folder / "input.vrt"
