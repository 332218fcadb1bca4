"""Makes one file of each kind that users bring: by GDAL where it can, else by hand."""

from __future__ import annotations

import gzip
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import tifffile
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from tests.harness.placed_by_points import points, rational, write_dem
from tests.harness.rasters import HEIGHT, WIDTH, Case, content, write, write_twelve_bits

from cogmill.raster.geometry.control import NOT_COEFFICIENTS

Maker = Callable[[Path], Path]
Change = Callable[[Any], None]

STRIPS = {"tiled": False, "blockysize": 16}
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 48}
_SHORT, _LONG = 3, 4
_PLACE = Affine(10, 0, 500000, 0, -10, 5000000)
_POINTS = tuple(
    GroundControlPoint(row, col, 12 + col / 1e4, 47 - row / 1e4)
    for row, col in ((0, 0), (0, WIDTH), (HEIGHT, 0), (HEIGHT, WIDTH))
)
_LINEAR = [0.0, 0.0, 1.0, *[0.0] * 17]
_RPC = RPC(
    err_bias=0.0, err_rand=0.0, height_off=0.0, height_scale=500.0, lat_off=47.0, lat_scale=0.1,
    line_den_coeff=[1.0, *[0.0] * 19], line_num_coeff=_LINEAR, line_off=86.0, line_scale=86.0,
    long_off=12.0, long_scale=0.1, samp_den_coeff=[1.0, *[0.0] * 19],
    samp_num_coeff=[0.0, 1.0, *[0.0] * 18], samp_off=105.0, samp_scale=105.0,
)  # fmt: skip


def tiff(
    dtype: str = "uint8", bands: int = 1, *, change: Change | None = None, **options: Any
) -> Maker:
    """Return a maker of what GDAL writes, and `change` then changes in the opened dataset."""
    named = {
        key: options.pop(key) for key in ("mask", "nodata", "sparse", "smooth") if key in options
    }

    def make(folder: Path) -> Path:
        path = write(folder / "input.tif", Case(dtype, bands, {**STRIPS, **options}, **named))
        if change is not None:
            with rasterio.open(path, "r+") as dataset:
                change(dataset)
        return path

    return make


def tiled(dtype: str = "uint8", bands: int = 1, **options: Any) -> Maker:
    """Return a maker of tiles."""
    return tiff(dtype, bands, **{**TILES, **options})


def sized(width: int, height: int, **options: Any) -> Maker:
    """Return a maker of a raster of this size."""
    return lambda folder: write(folder / "input.tif", Case(options=options), height, width)


def placed(
    transform: Affine | None = _PLACE,
    crs: str | None = "EPSG:32633",
    change: Change | None = None,
    **options: Any,
) -> Maker:
    """Return a maker of a raster that lies here, in this system."""

    def make(folder: Path) -> Path:
        path = folder / "input.tif"
        if transform is not None:
            options["transform"] = transform
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(
                path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=1, dtype="uint8",
                crs=crs, **options,
            ) as dataset,
        ):  # fmt: skip
            dataset.write(content(Case()))
            if change is not None:
                change(dataset)
        return path

    return make


def values(pixels: Callable[[np.ndarray[Any, Any]], Any], maker: Maker) -> Maker:
    """Return a maker that then changes pixels, shape ``(band, row, col)``, in place."""

    def make(folder: Path) -> Path:
        path = maker(folder)
        with rasterio.open(path, "r+") as dataset:
            found = dataset.read()
            pixels(found)
            dataset.write(found)
        return path

    return make


def patched(maker: Maker, code: int, value: int) -> Maker:
    """Return a maker that sets a tag of one number, in all directories that have it."""

    def make(folder: Path) -> Path:
        path = maker(folder)
        with tifffile.TiffFile(path, mode="r+") as file:
            for page in file.pages:
                if isinstance(page, tifffile.TiffPage) and code in page.tags:
                    page.tags[code].overwrite(value)
        return path

    return make


def by_tifffile(
    dtype: str = "uint8", shape: tuple[int, ...] = (HEIGHT, WIDTH), **options: Any
) -> Maker:
    """Return a maker of what tifffile writes, placed like the others."""

    def make(folder: Path) -> Path:
        path = folder / "input.tif"
        pixels = np.random.default_rng(3).integers(0, 100, shape).astype(dtype)
        places = [
            (33550, "d", 3, (10.0, 10.0, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 5000000.0, 0.0), True),
            (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), True),
        ]
        extra = [*places, *options.get("extratags", [])]
        tifffile.imwrite(
            path,
            pixels,
            metadata=None,
            **{"photometric": "minisblack", **options, "extratags": extra},
        )
        return path

    return make


def beside(maker: Maker, suffix: str, text: str) -> Maker:
    """Return a maker that puts a text file beside, named as the raster and `suffix`."""

    def make(folder: Path) -> Path:
        path = maker(folder)
        path.with_name(path.name + suffix).write_text(text)
        return path

    return make


WORLD_FILE = "10\n0\n0\n-10\n500005\n4999995\n"


def with_world_file(folder: Path) -> Path:
    """Place a raster by a ``.tfw`` alone."""
    path = placed(None, None)(folder)
    path.with_suffix(".tfw").write_text(WORLD_FILE)
    return path


def with_overviews(maker: Maker, *, external: bool = False, stale: bool = False) -> Maker:
    """Return a maker of overviews, within or beside, of other pixels where they are stale."""

    def make(folder: Path) -> Path:
        path = maker(folder)
        with rasterio.Env(TIFF_USE_OVR=external), rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4])
        if stale:
            with rasterio.open(path, "r+", OVERVIEW_LEVEL="NONE") as dataset:
                dataset.write(255 - dataset.read())
        return path

    return make


def gcps(*, transform: bool = False) -> Maker:
    """Return a maker of a raster with ground control points, and perhaps a transform too."""

    def make(folder: Path) -> Path:
        if not transform:
            crs = rasterio.crs.CRS.from_epsg(4326)
            return placed(None, None, lambda dataset: setattr(dataset, "gcps", (_POINTS, crs)))(
                folder
            )
        path = placed()(folder)
        points = "".join(
            f'<GCP Id="{n}" Pixel="{p.col}" Line="{p.row}" X="{p.x}" Y="{p.y}"/>'
            for n, p in enumerate(_POINTS)
        )
        path.with_name(path.name + ".aux.xml").write_text(
            f"<PAMDataset><GCPList Projection='EPSG:4326'>{points}</GCPList></PAMDataset>"
        )
        return path

    return make


def bent_gcps(folder: Path) -> Path:
    """Place a raster by 25 control points that no plane goes through."""
    bent = [GroundControlPoint(row, col, x, y, z) for col, row, x, y, z in points(WIDTH, HEIGHT)]
    crs = rasterio.crs.CRS.from_epsg(4326)
    return placed(None, None, lambda dataset: setattr(dataset, "gcps", (bent, crs)))(folder)


def rpcs(*, transform: bool = False) -> Maker:
    """Return a maker of a raster with rational polynomials, and perhaps a transform too."""
    if transform:
        return placed(rpcs=_RPC)
    return placed(None, None, rpcs=_RPC)


def with_dem(maker: Maker, **options: Any) -> Maker:
    """Return a maker that puts a DEM beside, which covers what `bent_rpcs` makes."""

    def make(folder: Path) -> Path:
        write_dem(folder / "dem.tif", **options)
        return maker(folder)

    return make


def bent_rpcs(folder: Path) -> Path:
    """Place a raster by rational polynomials as satellites have them, in a ``.RPB`` beside."""
    values = rational(WIDTH, HEIGHT).model_dump(exclude=NOT_COEFFICIENTS)
    return placed(None, None, rpcs=RPC(**values), RPB="YES", PROFILE="BASELINE")(folder)


def pages(*makers: Maker) -> Maker:
    """Return a maker of several images in one file; beside it lies each in a file of its own.

    The second is ``page_2/input.tif``: what GDAL does not show of a page (its mask) it shows there.
    """

    def make(folder: Path) -> Path:
        path = folder / "input.tif"
        for number, maker in enumerate(makers, start=1):
            alone = folder / f"page_{number}"
            alone.mkdir()
            _append(maker(alone), path)
        return path

    return make


def _append(alone: Path, path: Path) -> None:
    """Write an image behind those that a file holds, with its mask behind it."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(alone) as dataset:
        more = {"APPEND_SUBDATASET": "YES"} if path.exists() else {}
        with rasterio.open(path, "w", **{**dataset.profile, **more}) as out:
            out.write(dataset.read())
            out.update_tags(**dataset.tags())
            if MaskFlags.per_dataset in dataset.mask_flag_enums[0]:
                out.write_mask(dataset.read_masks(1))


def with_thumbnail(folder: Path) -> Path:
    """Put a page that says it is a reduced image behind the raster."""
    path = by_tifffile()(folder)
    small = np.zeros((20, 24), np.uint8)
    tifffile.imwrite(path, small, append=True, subfiletype=1, metadata=None)
    return path


def content_of(data: bytes) -> Maker:
    """Return a maker of a file of these bytes."""

    def make(folder: Path) -> Path:
        path = folder / "input.tif"
        path.write_bytes(data)
        return path

    return make


def edited(maker: Maker, edit: Callable[[bytes], bytes]) -> Maker:
    """Return a maker of other bytes."""

    def make(folder: Path) -> Path:
        path = maker(folder)
        path.write_bytes(edit(path.read_bytes()))
        return path

    return make


def endless(data: bytes) -> bytes:
    """Let the chain of directories of a classic little-endian TIFF lead back to its first."""
    (at,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, at)
    changed = bytearray(data)
    struct.pack_into("<I", changed, at + 2 + 12 * tags, at)
    return bytes(changed)


def other_driver(driver: str, **options: Any) -> Maker:
    """Return a maker of another format under a GeoTIFF's name."""

    def make(folder: Path) -> Path:
        path = folder / "input.tif"
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(
                path, "w", driver=driver, width=WIDTH, height=HEIGHT, count=1, dtype="uint8",
                **options,
            ) as dataset,
        ):  # fmt: skip
            dataset.write(content(Case(smooth=True)))
        return path

    return make


def zipped(folder: Path) -> Path:
    """Put a GeoTIFF in a zip archive."""
    path = tiff()(folder)
    with zipfile.ZipFile(folder / "input.zip", "w") as archive:
        archive.write(path, path.name)
    path.unlink()
    return folder / "input.zip"


def vrt(folder: Path) -> Path:
    """Make a VRT of a GeoTIFF."""
    source = tiff()(folder)
    rasterio.shutil.copy(source, folder / "input.vrt", driver="VRT")
    return folder / "input.vrt"


def mask_for_each_band(folder: Path) -> Path:
    """Put a mask file of three bands beside a raster of three."""
    path = tiff(bands=3)(folder)
    with rasterio.open(
        path.with_name("input.tif.msk"), "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=3,
        dtype="uint8", crs="EPSG:32633", transform=Affine(10, 0, 500000, 0, -10, 5000000),
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, HEIGHT, WIDTH), 255, np.uint8))
        dataset.update_tags(
            INTERNAL_MASK_FLAGS_1="0", INTERNAL_MASK_FLAGS_2="0", INTERNAL_MASK_FLAGS_3="0"
        )
    return path


def mask_of_another_size(folder: Path) -> Path:
    """Put the mask of a taller raster beside a raster."""
    path = tiff(mask="sidecar")(folder)
    other = write(folder / "other.tif", Case(mask="sidecar"), height=HEIGHT + 16)
    other.with_name("other.tif.msk").replace(path.with_name("input.tif.msk"))
    return path


def colours(*names: str) -> Change:
    """Return a change of the bands' colour interpretation."""

    def change(dataset: Any) -> None:
        dataset.colorinterp = [ColorInterp[name] for name in names]

    return change


def palette(entries: dict[int, tuple[int, int, int, int]]) -> Change:
    """Return a change that gives a palette."""
    return lambda dataset: dataset.write_colormap(1, entries)


def rich(dataset: Any) -> None:
    """Give two bands scales, offsets, units, descriptions and tags."""
    dataset.scales, dataset.offsets = (0.5, 2.0), (1.0, -3.25)
    dataset.units, dataset.descriptions = ("m", "K"), ("height", "heat of the day")
    dataset.update_tags(season="dry", TIFFTAG_IMAGEDESCRIPTION="a <b> & c")
    dataset.update_tags(2, sensor="x")


def scaled(scale: float, offset: float) -> Change:
    """Return what gives a band a scale and an offset, as a failed conversion may leave them."""

    def change(dataset: Any) -> None:
        dataset.scales, dataset.offsets = (float(scale),), (float(offset),)

    return change


def patched_bits(folder: Path) -> Path:
    """Say of three bands that one of them has 4 bits."""
    path = tiff(bands=3)(folder)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[258].overwrite((8, 4, 8))
    return path


def patched_scale(value: float) -> Maker:
    """Return a maker of a raster whose pixels have this width and height."""

    def make(folder: Path) -> Path:
        path = placed()(folder)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages.first.tags[33550].overwrite((value, value, 0.0))
        return path

    return make


def nodata_text(maker: Maker, text: str) -> Maker:
    """Return a maker of a raster whose tag for nodata is this text."""

    def make(folder: Path) -> Path:
        path = folder / "input.tif"
        written = maker(folder).rename(folder / "plain.tif")
        with tifffile.TiffFile(written) as file:
            page = file.pages.first
            places = [(code, page.tags[code]) for code in (33550, 33922, 34735, 34737)]
            tags = [(code, tag.dtype, tag.count, tag.value, True) for code, tag in places]
            tifffile.imwrite(
                path,
                page.asarray(),
                metadata=None,
                extratags=[*tags, (42113, "s", 0, text, True)],
            )
        return path

    return make


def twelve_bit_jpeg(folder: Path) -> Path:
    """Write 12-bit JPEG, which GDAL's wheel cannot, with the blocks of imagecodecs."""
    rows, cols = np.mgrid[:64, :128]
    pixels = (2000 + 1500 * np.sin(rows / 9) * np.cos(cols / 17)).astype(np.uint16)
    return write_twelve_bits(folder / "input.tif", pixels)


def some_nan(pixels: np.ndarray[Any, Any]) -> None:
    """Make some of it NaN, in one band more than in the others."""
    pixels[:, 40:60, 50:90] = np.nan
    pixels[0, 100:110, 20:30] = np.nan


def some_nan_and_sentinel(pixels: np.ndarray[Any, Any]) -> None:
    """Make some of it NaN and some of it -9999."""
    some_nan(pixels)
    pixels[:, 55:80, 80:120] = -9999


def some_lowest(pixels: np.ndarray[Any, Any]) -> None:
    """Make some of it the lowest number."""
    pixels[:, 40:60, 50:90] = np.finfo(pixels.dtype).min


def turned(pixels: np.ndarray[Any, Any]) -> None:
    """Turn it by half a turn."""
    pixels[:] = pixels[:, ::-1, ::-1].copy()


def opaque_or_not(pixels: np.ndarray[Any, Any]) -> None:
    """Make the last band 0 or 255."""
    pixels[-1] = 255
    pixels[-1, 40:60, 50:90] = 0


def all_of(value: float) -> Callable[[np.ndarray[Any, Any]], None]:
    """Return what makes all pixels this value."""
    return lambda pixels: pixels.fill(value)


def gzipped(folder: Path) -> Path:
    """Pack a GeoTIFF by gzip and leave its name."""
    path = tiff()(folder)
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def _pam(inner: str) -> str:
    return f"<PAMDataset>{inner}</PAMDataset>"


PER_BAND = _pam(
    "<PAMRasterBand band='1'><NoDataValue>-7</NoDataValue></PAMRasterBand>"
    "<PAMRasterBand band='2'><NoDataValue>9</NoDataValue></PAMRasterBand>"
)
SECOND_BAND = _pam("<PAMRasterBand band='2'><NoDataValue>9</NoDataValue></PAMRasterBand>")
NAMES = _pam(
    "<PAMRasterBand band='1'><CategoryNames><Category>sea</Category></CategoryNames>"
    "</PAMRasterBand>"
)
STATISTICS = _pam(
    "<PAMRasterBand band='1'><Metadata><MDI key='STATISTICS_MINIMUM'>-5</MDI>"
    "<MDI key='STATISTICS_MAXIMUM'>99999</MDI></Metadata></PAMRasterBand>"
)
SYSTEM = _pam("<SRS>EPSG:32633</SRS>")
NOT_WHOLE = _pam(
    "<Metadata domain='RPC'><MDI key='LINE_OFF'>first</MDI>"
    f"<MDI key='LINE_NUM_COEFF'>{'1 ' * 19}</MDI></Metadata>"
)
MARS = (
    'GEOGCS["Mars",DATUM["D_Mars",SPHEROID["Mars",3396190,169.894447223612]],PRIMEM["0",0],'
    'UNIT["degree",0.0174532925199433]]'
)
MARS_EQUAL = (
    f'PROJCS["Mars, equal",{MARS},PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],'
    'PARAMETER["central_meridian",0],UNIT["metre",1]]'
)


def complex_integers(folder: Path) -> Path:
    """Write pairs of 16-bit integers, for which NumPy has no type."""
    path = folder / "input.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="complex_int16", count=1, width=8, height=8,
        transform=Affine(1, 0, 5, 0, -1, 5),
    ) as dataset:  # fmt: skip
        dataset.write(np.zeros((1, 8, 8), np.complex64))
    return path


def never_written(nodata: str) -> Maker:
    """Return a maker of a raster of uint8 with holes, whose tag for nodata is this text."""

    def make(folder: Path) -> Path:
        path = tiled(sparse=True, sparse_ok=True, nodata=77)(folder)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages.first.tags[42113].overwrite(nodata)
        return path

    return make
