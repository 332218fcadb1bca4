"""Makes the input rasters of the baseline; the same call writes the same pixels every time."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

Array = npt.NDArray[Any]
Maker = Callable[[Path], Path]
Change = Callable[[Any], None]

#: Large enough for 3 x 3 output tiles of 512 pixels, and no multiple of anything.
SIZE = (1103, 1051)
PLACE = Affine(10, 0, 400000, 0, -10, 5650000)
UTM = "EPSG:32633"


def strips(rows: int, **options: Any) -> dict[str, Any]:
    return {"tiled": False, "blockysize": rows, **options}


def tiles(width: int, height: int = 0, **options: Any) -> dict[str, Any]:
    return {"tiled": True, "blockxsize": width, "blockysize": height or width, **options}


@dataclass(frozen=True)
class Raster:
    """A raster that GDAL writes, and the maker of it.

    Attributes
    ----------
    dtype, bands, size : str, int, tuple of int
        What its pixels are; the size is width and height.
    options : dict
        Creation options of GDAL's GeoTIFF driver.
    nodata : float or None
        What the file says, and what its holes hold.
    mask : str
        ``internal`` or ``sidecar``: where its mask lies; empty for none.
    smooth : bool
        True: waves without noise, as suits a codec that loses.
    sparse : bool
        True: only a part is written.
    crs, place : str or None, Affine or None
        Where it lies.
    change : callable or None
        Changes the written dataset.
    """

    dtype: str = "uint8"
    bands: int = 1
    options: dict[str, Any] = field(default_factory=lambda: strips(16))
    nodata: float | None = None
    mask: str = ""
    smooth: bool = False
    sparse: bool = False
    crs: str | None = UTM
    place: Affine | None = PLACE
    size: tuple[int, int] = SIZE
    change: Change | None = None

    def __call__(self, folder: Path, name: str = "input.tif") -> Path:
        """Write it into a folder, whose own name is the seed, and return its path."""
        path = folder / name
        seed = zlib.crc32(f"{folder.name}/{name}".encode())
        # A profile may say that the transform is None, and rasterio does not take that.
        placed = {} if self.place is None else {"transform": self.place}
        profile = {
            "driver": "GTiff", "dtype": self.dtype, "count": self.bands, "width": self.size[0],
            "height": self.size[1], "crs": self.crs, "nodata": self.nodata,
            **placed, **self.options,
        }  # fmt: skip
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=self.mask == "internal"),
        ):
            with rasterio.open(path, "w", **profile) as dataset:
                self._fill(dataset, pixels(self, seed))
            if self.change is not None:
                with rasterio.open(path, "r+") as dataset:
                    self.change(dataset)
        return path

    def _fill(self, dataset: Any, found: Array) -> None:
        if self.sparse:
            window = rasterio.windows.Window(300, 280, 470, 390)
            dataset.write(found[:, 280:670, 300:770], window=window)
        else:
            dataset.write(found)
        if self.mask:
            dataset.write_mask(~holes(*self.size))


def holes(width: int, height: int) -> npt.NDArray[np.bool_]:
    """Return which pixels mean nothing: a ragged collar, and bands that cross every seam."""
    rows, cols = np.mgrid[:height, :width]
    ragged = 9 + 5 * np.sin(rows / 17) + 4 * np.cos(cols / 23)
    collar = np.minimum.reduce([rows, cols, height - 1 - rows, width - 1 - cols]) < ragged
    return collar | ((rows * 3 + cols * 2) % 700 < 60)


def pixels(raster: Raster, seed: int) -> Array:
    """Return pixels, (band, row, col): waves under noise, with holes where there is nodata."""
    random = np.random.default_rng(seed)
    width, height = raster.size
    rows, cols = np.mgrid[:height, :width]
    low, high = _range(raster)
    noise = 0.0 if raster.smooth else 0.1
    bands = []
    for band in range(raster.bands):
        wave = np.sin(rows / (31 + band)) * np.cos(cols / (43 - band % 40)) / 2 + 0.5
        share = (1 - noise) * wave + noise * random.random(wave.shape)
        bands.append(_typed(low + (high - low) * share, raster.dtype))
    found = np.stack(bands)
    if raster.nodata is not None:
        for band in range(raster.bands):
            # Each band has holes of its own too.
            own = holes(width, height) | ((rows + 5 * band - cols) % 211 < 2)
            found[band][own] = raster.nodata
    return found


def _typed(values: Array, dtype: str) -> Array:
    kind = np.dtype(dtype).kind
    if kind == "c":
        return np.asarray(values + 1j * values[::-1, ::-1]).astype(dtype)
    return (np.rint(values) if kind in "iu" else values).astype(dtype)


def _range(raster: Raster) -> tuple[float, float]:
    if np.dtype(raster.dtype).kind in "fc":
        return -500.0, 3000.0
    bits = raster.options.get("nbits")
    if bits:
        return 0, 2**bits - 1
    info = np.iinfo(raster.dtype)
    # One value stays free at the lower end for nodata; wider ones would be mostly noise.
    return max(info.min, -30000) + 1, min(info.max, 60000)


def both(*changes: Change) -> Change:
    """Return a change that is several, one after the other."""

    def change(dataset: Any) -> None:
        for each in changes:
            each(dataset)

    return change


def alpha(dataset: Any) -> None:
    """Make the last band an alpha band with holes and half-transparent places."""
    missing = holes(dataset.width, dataset.height)
    most = np.iinfo(dataset.dtypes[-1]).max
    first = dataset.read(1)
    opaque = np.where(first > most * 0.8, most // 2, most)
    dataset.write(np.where(missing, 0, opaque).astype(dataset.dtypes[-1]), dataset.count)


def palette(dataset: Any) -> None:
    """Make it classes of 32 values with a palette."""
    dataset.write(dataset.read() // 8)
    dataset.write_colormap(1, {n: (n * 8, 255 - n * 8, n * 5 % 256, 255) for n in range(32)})


def rich(dataset: Any) -> None:
    """Give two bands scales, offsets, units, descriptions and tags."""
    dataset.scales, dataset.offsets = (0.5, 2.0), (1.0, -3.25)
    dataset.units, dataset.descriptions = ("m", "K"), ("height", "heat of the day")
    dataset.update_tags(season="dry", TIFFTAG_IMAGEDESCRIPTION="a <b> & c")
    dataset.update_tags(2, sensor="x")


def colours(*names: str) -> Change:
    """Return a change of the bands' colour interpretation."""

    def change(dataset: Any) -> None:
        dataset.colorinterp = [ColorInterp[name] for name in names]

    return change


def overviews(dataset: Any) -> None:
    """Build overviews inside the file."""
    dataset.build_overviews([2, 4], rasterio.enums.Resampling.average)


def some_nan(dataset: Any) -> None:
    """Make some of it NaN, in one band more than in the others."""
    found = dataset.read()
    found[:, 140:360, 150:390] = np.nan
    found[0, 600:710, 520:730] = np.nan
    dataset.write(found)


def nodata_by_band(*values: float) -> Change:
    """Return a change that fills holes with another value for each band; the tag names none."""

    def change(dataset: Any) -> None:
        found = dataset.read()
        for band, value in enumerate(values):
            found[band][holes(dataset.width, dataset.height)] = value
        dataset.write(found)

    return change


def beside(maker: Maker, suffix: str, text: str) -> Maker:
    """Return a maker that puts a text file beside, named as the raster and `suffix`."""

    def make(folder: Path) -> Path:
        path = maker(folder)
        path.with_name(path.name + suffix).write_text(text)
        return path

    return make


def pam_nodata(*values: float) -> str:
    """Return an ``.aux.xml`` that names a nodata value for each band."""
    bands = "".join(
        f"<PAMRasterBand band='{band}'><NoDataValue>{value}</NoDataValue></PAMRasterBand>"
        for band, value in enumerate(values, start=1)
    )
    return f"<PAMDataset>{bands}</PAMDataset>"


def pages(*rasters: Raster) -> Maker:
    """Return a maker of several images in one file."""

    def make(folder: Path) -> Path:
        path = folder / "input.tif"
        for number, raster in enumerate(rasters, start=1):
            alone = raster(folder, f"page_{number}.tif")
            more = {"APPEND_SUBDATASET": "YES"} if path.exists() else {}
            with (
                rasterio.open(alone) as dataset,
                rasterio.open(path, "w", **{**dataset.profile, **more}) as out,
            ):
                out.write(dataset.read())
                out.update_tags(**dataset.tags())
            alone.unlink()
        return path

    return make


def _control_points(width: int, height: int) -> list[GroundControlPoint]:
    """Return 25 points in degrees: rotated, bent, and a little wrong."""
    random = np.random.default_rng(25)
    found = []
    for row in np.linspace(0, height, 5):
        for col in np.linspace(0, width, 5):
            u, v = col / 1e3, row / 1e3
            x = 12.0 + 0.95 * u + 0.3 * v + 0.12 * u * v - 0.05 * v * v + 0.04 * u**3
            y = 47.0 - 0.9 * v + 0.25 * u + 0.1 * u * u - 0.03 * u * v * v
            x, y = (float(each + random.normal(0, 2e-5)) for each in (x, y))
            found.append(GroundControlPoint(float(row), float(col), x, y, 0.0))
    return found


def control_points(dataset: Any) -> None:
    """Place it by ground control points alone."""
    dataset.gcps = (_control_points(dataset.width, dataset.height), CRS.from_epsg(4326))


def _polynomials(width: int, height: int) -> RPC:
    """Return polynomials as real satellites have them: about 40 km wide, seen aslant."""
    return RPC(
        err_bias=0.0, err_rand=0.0, line_off=height / 2 - 0.5, samp_off=width / 2 - 0.5,
        lat_off=49.2, long_off=-123.2, height_off=89.0, line_scale=height / 2,
        samp_scale=width / 2, lat_scale=0.31, long_scale=0.45, height_scale=701.0,
        line_num_coeff=[
            2.0e-3, -0.186, -1.128, -4.6e-3, 1.0e-3, 5.7e-6, -8.7e-6, -3.2e-3, -1.3e-3, 0.0,
            1.2e-6, -7.1e-5, 2.0e-5, 8.3e-6, -1.2e-4, -1.1e-5, 5.0e-6, 0.0, 1.7e-6, 0.0,
        ],
        line_den_coeff=[1.0, 9.2e-4, 9.4e-4, 0.0, 3.2e-5, 0.0, -1.2e-6, 1.8e-4, *[0.0] * 12],
        samp_num_coeff=[
            2.2e-2, 1.186, -0.215, 3.0e-2, 2.4e-3, -4.4e-5, 5.9e-4, -2.2e-2, -4.2e-4, -2.8e-5,
            -7.1e-6, -1.1e-4, -1.1e-4, -1.1e-4, 1.2e-4, 1.4e-5, 2.0e-5, 2.7e-5, -1.2e-6, -3.0e-6,
        ],
        samp_den_coeff=[1.0, 9.3e-5, 1.8e-3, -6.5e-4, -2.2e-4, *[0.0] * 15],
    )  # fmt: skip


def polynomials(maker: Raster) -> Maker:
    """Return a maker of a raster placed by rational polynomials, with a DEM beside it."""

    def make(folder: Path) -> Path:
        path = maker(folder)
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path, "r+") as dataset,
        ):
            dataset.rpcs = _polynomials(*maker.size)
        _ground(folder / "dem.tif")
        return path

    return make


def _ground(path: Path) -> None:
    """Write a DEM of rough ground, around what `polynomials` places."""
    random = np.random.default_rng(5)
    rows, cols = np.mgrid[:700, :1000]
    heights = 400 + 300 * np.sin(cols / 40) * np.cos(rows / 55) + random.normal(0, 9, cols.shape)
    with rasterio.open(
        path, "w", driver="GTiff", width=1000, height=700, count=1, dtype="float32", nodata=-9999,
        crs="EPSG:4326", transform=Affine(0.00131, 0, -123.85, 0, -0.00131, 49.66),
    ) as file:  # fmt: skip
        file.write(heights.astype("float32"), 1)


def grid_like(maker: Maker) -> Maker:
    """Return a maker that puts ``like.tif`` beside, whose grid others are to take."""

    def make(folder: Path) -> Path:
        place = Affine(11, 0, 396000, 0, -11, 5652000)
        Raster(crs="EPSG:25833", place=place, size=(1201, 1153))(folder, "like.tif")
        return maker(folder)

    return make


#: Two members beside each other and one below, with a gap: what a mosaic looks like.
_MEMBER = (561, 497)
_MEMBERS = {"a.tif": (0, 0), "b.tif": (561, 0), "c.tif": (160, 560)}
_MOSAIC = (1122, 1057)


def _source(name: str, band: int, at: tuple[int, int], size: tuple[int, int]) -> str:
    width, height = size
    return (
        f'<SourceFilename relativeToVRT="1">{name}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="{at[0]}" yOff="{at[1]}" xSize="{width}" ySize="{height}"/>'
    )


def _document(path: Path, bands: Sequence[str], size: tuple[int, int]) -> Path:
    transform = ", ".join(str(each) for each in PLACE.to_gdal())
    path.write_text(
        f'<VRTDataset rasterXSize="{size[0]}" rasterYSize="{size[1]}"><SRS>{UTM}</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path


def virtual_mosaic(folder: Path) -> Path:
    """Make a VRT of three GeoTIFFs with a gap between them, in a VRT."""
    inner = folder / "deep"
    inner.mkdir()
    for name in _MEMBERS:
        Raster("int16", 2, tiles(64, 48, compress="deflate"), nodata=-7, size=_MEMBER)(inner, name)
    said = "<NoDataValue>-7</NoDataValue>"
    first, outer = [], []
    for band in (1, 2):
        parts = "".join(
            f"<SimpleSource>{_source(name, band, at, _MEMBER)}</SimpleSource>"
            for name, at in _MEMBERS.items()
        )
        first.append(f'<VRTRasterBand dataType="Int16">{said}{parts}</VRTRasterBand>')
        whole = _source("deep/mosaic.vrt", band, (0, 0), _MOSAIC)
        outer.append(
            f'<VRTRasterBand dataType="Int16">{said}<SimpleSource>{whole}</SimpleSource>'
            "</VRTRasterBand>"
        )
    _document(inner / "mosaic.vrt", first, _MOSAIC)
    return _document(folder / "input.vrt", outer, _MOSAIC)


def virtual_sums(folder: Path) -> Path:
    """Make a VRT whose bands GDAL computes: one is scaled, one is a difference of two files."""
    for name in ("a.tif", "b.tif"):
        Raster(options=strips(16, compress="lzw"))(folder, name)
    scaled = _source("a.tif", 1, (0, 0), SIZE)
    parts = "".join(
        f"<SimpleSource>{_source(name, 1, (0, 0), SIZE)}</SimpleSource>"
        for name in ("a.tif", "b.tif")
    )
    bands = (
        f'<VRTRasterBand dataType="Float32"><ComplexSource>{scaled}<ScaleOffset>3</ScaleOffset>'
        "<ScaleRatio>0.25</ScaleRatio></ComplexSource></VRTRasterBand>",
        '<VRTRasterBand dataType="Float32" subClass="VRTDerivedRasterBand">'
        f"<PixelFunctionType>diff</PixelFunctionType>{parts}</VRTRasterBand>",
    )
    return _document(folder / "input.vrt", bands, SIZE)
