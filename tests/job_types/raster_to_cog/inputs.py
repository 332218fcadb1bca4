"""The table of input kinds and what a user gets of each: `docs/inputs.md` is made from it.

``python -m tests.job_types.raster_to_cog.inputs`` writes that page again; `test_inputs` proves
every row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from affine import Affine
from tests.harness import input_makers as make
from tests.harness import vrt_makers as virtual
from tests.harness.input_makers import Maker, by_tifffile, placed, tiff, tiled
from tests.harness.places import ROOT

PAGE = ROOT / "docs" / "inputs.md"
MERCATOR = {"dst_crs": "EPSG:3857"}
DEGREES = {"dst_crs": "EPSG:4326"}
#: Sentences that several rows share; ... stands for names and figures.
SUBSAMPLED = (
    "the JPEG's subsampled colours are made whole by libjpeg-turbo; other decoders differ "
    "by a few levels"
)
MASK_USED = "the mask says which pixels are valid; the source's nodata is not used"
ALPHA_NO_NODATA = "the alpha band says which pixels are valid; the source's nodata is not used"
ALPHA_NO_MASK = "the alpha band says which pixels are valid; the source's mask is not used"
POINTS_LEFT = "ground control points and rational polynomials are not carried over"
WIDE = "GDAL warps 64-bit integers as floats: those beyond 2^52 are rounded"
LABELS = "category names and attributes of values are not carried over"
NO_SYSTEM = (
    "INPUT has no coordinate system, so it cannot be placed on another grid; say which "
    "one it has with --src-crs, for example --src-crs EPSG:32633"
)
NO_TRANSFORM = (
    "nothing in or beside INPUT says where its pixels lie, so they cannot be placed on another "
    "grid; give it a geotransform first (gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM INPUT), or a "
    "world file beside it (INPUT.tfw, .tifw or .wld; GDAL does not read .tfwx)"
)
UNKNOWN_DATUM = (
    "the datum of ... is not known, so latitudes and longitudes are taken over as they are"
)
BEYOND_SEAM = (
    "the target grid goes on beyond the antimeridian (180 degrees) so that it is in one piece; "
    "make one output for each side with --bounds where a reader does not take that"
)
LESS_EXACT = "without the grid ... the coordinate operation loses ... of accuracy ... projsync ..."
RIO = "metadata of rio_creation_kwds is not carried over"
NO_CODEC = (
    "write it with one of ccittfax3, ccittfax4, ccittrle, deflate, jpeg, lerc, lzma, lzw, "
    "none, packbits, webp, zstd"
)
NO_TIFF = "INPUT is not a TIFF; convert it first: gdal_translate INPUT OUTPUT.tif"
CHOOSE = "gdalinfo lists what it holds; take one out first: gdal_translate SUBDATASET OUTPUT.tif"
CONVERT = "convert it first: gdal_translate INPUT OUTPUT.tif"
TRANSLATE = "make one raster of it first: gdal_translate INPUT OUTPUT.tif"
REMADE = "fetch it, or make the VRT again without it: gdalbuildvrt"
OUT_OF_REACH = "copy it beside the VRT and name it there, or make one raster first: gdal_translate"


@dataclass(frozen=True)
class Row:
    """One kind of input and its outcome.

    Attributes
    ----------
    kind : str
        In a user's words.
    source : Maker or str
        Makes it; or the name of a file of the corpus.
    refused : str
        The sentence, where it is refused whatever is asked for; ``...`` stands for any words.
    uncopied : str
        The sentence, where pixels are reprojected and copying them is refused.
    unplaced : str
        The sentence, where pixels are copied and reprojecting is refused.
    warned : tuple of str
        Warnings of a copy.
    warped : tuple of str
        Warnings that reprojecting adds.
    invalid : str
        What says which pixels mean nothing: ``none``, ``nodata``, ``mask`` or ``alpha``.
    kernel : str
        The default one.
    options : mapping
        What is asked for in every case; ``FOLDER`` stands for the file's.
    target : mapping
        What is asked for to reproject.
    by_gdal : bool
        Whether the wheel's GDAL decodes it; else tifffile is the oracle.
    at_a_limb : bool
        Whether it is compared with GDAL's warp of the whole image alone: near a planet's limb GDAL
        3.10 makes pixels valid beside masked ones, which GDAL 3.6 and the reference do not.
    moved : bool
        Whether its pixels are never copied: the options themselves ask for another grid.
    alone : str
        The file beside that holds the chosen image alone: what it is compared with.
    """

    kind: str
    source: Maker | str
    refused: str = ""
    uncopied: str = ""
    unplaced: str = ""
    warned: tuple[str, ...] = ()
    warped: tuple[str, ...] = ()
    invalid: str = "none"
    kernel: str = "bilinear"
    options: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=lambda: MERCATOR)
    by_gdal: bool = True
    at_a_limb: bool = False
    moved: bool = False
    alone: str = ""


INTRODUCTION = """# What becomes of an input

Every row is a test (`tests/job_types/raster_to_cog/test_inputs.py`), and this page is made of the tests' table: `python -m tests.job_types.raster_to_cog.inputs`.

- *exact*: copied pixels, masks, colours, names and tags are those that GDAL reads in the source; reprojected pixels are those of an exact warp. A refusal is one sentence, exit code 2, and nothing is written.
- *invalid by*: what says which pixels mean nothing; where there is nothing (`none`), reprojecting gives floats NaN and all else a mask for the corners.
- *kernel*: the default of `--resampling`. `...` stands for names and figures of the file.
- Statistics, the program, the host and the time are never copied; overviews beside the file (`.ovr`) are never read, those inside only where the target is coarser, as by gdalwarp: where they are stale, say `--ovr none`."""
ONE_NODATA = (
    "bands with different nodata values (-7.0, 9.0); choose one for all with --nodata; "
    "a GeoTIFF can hold no more"
)
STRUCTURE = (
    Row("strips of 16 rows", tiff(bands=3, compress="deflate")),
    Row("strips of one row", tiff(bands=3, blockysize=1)),
    Row("one strip that is the whole image", tiff(bands=3, blockysize=173, compress="lzw")),
    Row("tiles", tiled(bands=3)),
    Row("one tile as wide as the image", tiff(tiled=True, blockxsize=224, blockysize=16)),
    Row("one tile larger than the image", tiff(tiled=True, blockxsize=256, blockysize=256)),
    Row("strips, each band apart (planar separate)", tiff("int16", 3, interleave="band")),
    Row("tiles, each band apart (planar separate)", tiled("uint16", 4, interleave="band")),
    Row("120 bands", tiff("uint16", 120, blockysize=4, compress="deflate")),
    Row("blocks that were never written, read as 0", tiled(bands=3, sparse=True, sparse_ok=True)),
    Row(
        "blocks that were never written, read as nodata",
        tiled("int16", 2, sparse=True, sparse_ok=True, nodata=-7),
        invalid="nodata",
    ),
    Row("BigTIFF", tiled("uint16", bigtiff="yes")),
    Row("big-endian", tiff("int16", 2, endianness="big", compress="lzw", predictor=2)),
    Row("big-endian BigTIFF", tiled("float32", endianness="big", bigtiff="yes")),
    Row("one pixel", make.sized(1, 1)),
    Row("one row", make.sized(211, 1)),
    Row("one column", make.sized(1, 173)),
    Row(
        "bits of a byte in reversed order (FillOrder 2)",
        make.patched(tiff(nbits=1), 266, 2),
        kernel="nearest",
    ),
    Row("a COG with overviews", make.with_overviews(tiled(bands=3))),
    Row("overviews inside that are stale", make.with_overviews(tiled(bands=3), stale=True)),
    Row(
        "overviews beside (.ovr) that are stale",
        make.with_overviews(tiled(bands=3), external=True, stale=True),
    ),
    Row("a thumbnail behind the image", make.with_thumbnail),
    Row(
        "several images (multi-page)",
        make.pages(tiff(), tiff(), tiff()),
        refused="INPUT holds 3 images (1: 211 x 173, 2: 211 x 173, 3: 211 x 173), and one must be chosen; name it, such as --page 1",
    ),
    Row(
        "several images, with --page 2",
        make.pages(tiff(bands=3), make.values(make.turned, tiff(bands=3))),
        options={"page": 2},
        alone="page_2/input.tif",
    ),
    Row(
        "several images of tiles, each with its mask, with --page 3",
        make.pages(
            tiled("uint16", mask="internal"),
            make.values(make.turned, tiled("uint16", mask="internal", nodata=9)),
            tiff(),
        ),
        options={"page": 3},
        warned=(MASK_USED,),
        invalid="mask",
        alone="page_2/input.tif",
    ),
    Row(
        "several images, of which only the second has nodata and tags, with --page 2",
        make.pages(
            tiff("int16"), tiled("int16", nodata=-7, change=lambda d: d.update_tags(season="dry"))
        ),
        options={"page": 2},
        invalid="nodata",
        alone="page_2/input.tif",
    ),
    Row(
        "several images, with --page of none",
        make.pages(tiff(mask="internal"), tiff()),
        options={"page": 2},
        refused="INPUT holds 2 images (1: 211 x 173, 3: 211 x 173), and none is page 2; name one of these, such as --page 1",
    ),
    Row("one image, with --page 1", tiff(), options={"page": 1}),
    Row(
        "one image, with --page 2",
        tiff(),
        options={"page": 2},
        refused="INPUT holds one image (1: 211 x 173), and none is page 2; name one of these, such as --page 1",
    ),
)
TYPES = (
    Row("uint8", tiff()),
    Row("int8", tiff("int8")),
    Row("uint16", tiff("uint16")),
    Row("int16", tiff("int16")),
    Row("uint32", tiff("uint32")),
    Row("int32", tiff("int32")),
    Row("uint64", tiff("uint64"), warped=(WIDE,)),
    Row("int64", tiff("int64"), warped=(WIDE,)),
    Row("16-bit floats", tiff("float32", nbits=16)),
    Row("24-bit floats", tiff("float32", nbits=24)),
    Row("float32", tiff("float32")),
    Row("float64", tiff("float64")),
    Row("complex64", tiff("complex64"), kernel="nearest"),
    Row("complex128", tiff("complex128"), kernel="nearest"),
    Row(
        "complex, with --resampling bilinear",
        tiff("complex64"),
        options={"resampling": "bilinear"},
        warned=("--resampling is not used, for pixels are copied where they are",),
        unplaced="--resampling bilinear is not offered for complex pixels; leave it out: they are taken by nearest",
    ),
    Row(
        "complex integers",
        make.complex_integers,
        refused="INPUT: its pixels are complex integers, for which NumPy has no type; convert it first: gdal_translate -ot CFloat32 INPUT OUTPUT.tif",
    ),
    Row("1 bit", tiff(nbits=1), kernel="nearest"),
    Row("2 bits", tiff(nbits=2)),
    Row("4 bits", tiff(nbits=4)),
    Row("10 bits", tiff("uint16", nbits=10)),
    Row("12 bits", tiled("uint16", nbits=12, compress="deflate")),
    Row("20 bits", tiff("uint32", nbits=20)),
    Row(
        "bands of unlike bits",
        make.patched_bits,
        refused="INPUT: its bands differ in their bits; convert it first: gdal_translate -ot Float32 INPUT OUTPUT.tif",
    ),
    Row(
        "a third dimension (ImageDepth)",
        by_tifffile(shape=(4, 64, 64), tile=(2, 32, 32), volumetric=True),
        refused=f"INPUT: its image has a third dimension; {CONVERT}",
    ),
)
COMPRESSION = (
    Row("LZW, predictor 2", tiff("uint16", 3, compress="lzw", predictor=2)),
    Row("deflate, predictor 3", tiled("float32", compress="deflate", predictor=3)),
    Row("deflate by its old number", make.patched(tiff(compress="deflate"), 259, 32946)),
    Row("PackBits", tiff(compress="packbits")),
    Row("Zstandard", tiled("float64", compress="zstd", predictor=3)),
    Row("LZMA", tiled(compress="lzma")),
    Row("LERC", tiled("float32", compress="lerc")),
    Row("LERC and deflate", tiff("int16", 3, compress="lerc_deflate")),
    Row(
        "LERC and Zstandard, with errors up to 1",
        tiled("uint16", compress="lerc_zstd", max_z_error=1),
    ),
    Row("WebP", tiled(bands=3, compress="webp", smooth=True)),
    Row(
        "WebP, lossless, with alpha",
        tiled(bands=4, compress="webp", webp_lossless=True, photometric="rgb", alpha="yes"),
        invalid="alpha",
    ),
    Row("JPEG, gray", tiff(compress="jpeg", smooth=True)),
    Row(
        "JPEG, YCbCr",
        tiled(bands=3, compress="jpeg", photometric="ycbcr", smooth=True),
        warned=(SUBSAMPLED,),
    ),
    Row("JPEG, RGB", tiled(bands=3, compress="jpeg", photometric="rgb", smooth=True)),
    Row(
        "JPEG, RGB and alpha",
        tiled(bands=4, compress="jpeg", photometric="rgb", alpha="yes", smooth=True),
        invalid="alpha",
    ),
    Row(
        "JPEG, YCbCr, with an internal mask",
        tiled(bands=3, compress="jpeg", photometric="ycbcr", smooth=True, mask="internal"),
        warned=(SUBSAMPLED,),
        invalid="mask",
    ),
    Row(
        "JPEG, CMYK",
        tiled(bands=4, compress="jpeg", photometric="cmyk", smooth=True),
        refused=f"INPUT: its colours are CMYK, of which GDAL makes red, green, blue and alpha; {CONVERT}",
    ),
    Row("JPEG, each band apart", tiled(bands=3, compress="jpeg", interleave="band", smooth=True)),
    Row("JPEG of 12 bits", make.twelve_bit_jpeg, by_gdal=False, unplaced=NO_TRANSFORM),
    Row("CCITT group 3", tiff(nbits=1, compress="ccittfax3"), kernel="nearest"),
    Row("CCITT group 4", tiff(nbits=1, compress="ccittfax4"), kernel="nearest"),
    Row("CCITT RLE", tiff(nbits=1, compress="ccittrle"), kernel="nearest"),
    Row(
        "JPEG 2000 in TIFF",
        make.patched(tiff(), 259, 34712),
        refused=f"INPUT is compressed with jpeg2000, which is not decoded; {NO_CODEC}",
    ),
    Row(
        "JPEG XL in TIFF",
        make.patched(tiff(), 259, 50002),
        refused=f"INPUT is compressed with jpegxl, which is not decoded; {NO_CODEC}",
    ),
    Row(
        "old-style JPEG",
        make.patched(tiff(), 259, 6),
        refused=f"INPUT is compressed with ojpeg, which is not decoded; {NO_CODEC}",
    ),
    Row(
        "an unknown compression",
        make.patched(tiff(), 259, 4711),
        refused=f"INPUT is compressed with 4711, which is not decoded; {NO_CODEC}",
    ),
)
VALIDITY = (
    Row("nodata 0", tiff(bands=3, nodata=0), invalid="nodata"),
    Row("nodata of negative integers", tiff("int16", nodata=-9999), invalid="nodata"),
    Row("nodata NaN", make.values(make.some_nan, tiff("float32", nodata=np.nan)), invalid="nodata"),
    Row("NaN without nodata", make.values(make.some_nan, tiff("float32", 2))),
    Row(
        "NaN beside a sentinel",
        make.values(make.some_nan_and_sentinel, tiff("float32", nodata=-9999)),
        invalid="nodata",
    ),
    Row(
        "nodata -3.4028234663852886e+38",
        make.values(make.some_lowest, tiff("float32", nodata=-3.4028234663852886e38)),
        invalid="nodata",
    ),
    Row(
        "nodata that pixels cannot have (-9999 in uint8)",
        make.nodata_text(tiff(), "-9999"),
        warned=("nodata -9999 is not a value of uint8 pixels, so no pixel has it; it is left out",),
    ),
    Row(
        "nodata that pixels cannot have, and blocks that were never written",
        make.never_written("300"),
        warned=("nodata 300 is not a value of uint8 pixels, so no pixel has it; it is left out",),
    ),
    Row(
        "nodata that is a fraction, of integers",
        make.nodata_text(tiff("int16"), "0.5"),
        warned=("nodata 0.5 is not a value of int16 pixels, so no pixel has it; it is left out",),
    ),
    Row(
        "nodata that is NaN, of integers",
        make.nodata_text(tiff("int16"), "nan"),
        warned=("nodata nan is not a value of int16 pixels, so no pixel has it; it is left out",),
    ),
    Row(
        "nodata that is no number",
        make.nodata_text(tiff("int16"), "none"),
        refused="INPUT has the nodata value 'none', which is no number; correct it: gdal_edit.py -a_nodata VALUE INPUT, or -unsetnodata",
    ),
    Row(
        "nodata that differs by band (.aux.xml)",
        make.beside(tiff("int16", 2), ".aux.xml", make.PER_BAND),
        uncopied=ONE_NODATA,
        warped=(
            "nodata differs by band (-7, 9), and becomes -7 in all of them; a pixel that has this value by itself becomes its neighbour",
        ),
        invalid="nodata",
    ),
    Row(
        "nodata of one band alone (.aux.xml)",
        make.beside(tiff("int16", 2), ".aux.xml", make.SECOND_BAND),
        uncopied="bands with different nodata values (9.0, None); choose one for all with --nodata; a GeoTIFF can hold no more",
        warped=(
            "nodata differs by band (none, 9), and becomes 9 in all of them; a pixel that has this value by itself becomes its neighbour",
        ),
        invalid="nodata",
    ),
    Row(
        "nodata that differs by band, of floats (.aux.xml)",
        make.beside(tiff("float32", 2), ".aux.xml", make.PER_BAND),
        uncopied=ONE_NODATA,
        warped=("nodata differs by band (-7, 9), and becomes nan in all of them",),
        invalid="nodata",
    ),
    Row(
        "nodata of 64 bits beyond 2^52",
        make.nodata_text(tiff("int64"), str(-(2**53) - 1)),
        refused="INPUT has the nodata value -9007199254740993, beyond what can be kept exactly; choose one within 4503599627370496: gdal_calc.py, then gdal_edit.py -a_nodata",
    ),
    Row(
        "values of all bands together (NODATA_VALUES)",
        tiff(bands=3, change=lambda d: d.update_tags(NODATA_VALUES="1 2 3")),
        refused="INPUT marks invalid pixels by values of all bands together (NODATA_VALUES); make a mask of them first: gdal_translate -b mask, or gdalwarp -dstalpha",
    ),
    Row("no valid pixel at all", make.values(make.all_of(0), tiff(nodata=0)), invalid="nodata"),
    Row("alpha last", tiff(bands=4, photometric="rgb", alpha="yes"), invalid="alpha"),
    Row("gray and alpha", tiff("uint16", 2, alpha="yes"), invalid="alpha"),
    Row(
        "alpha of floats",
        make.values(make.opaque_or_not, tiff("float32", 2, alpha="yes")),
        invalid="alpha",
    ),
    Row("alpha first", tiff(bands=2, change=make.colours("alpha", "gray")), invalid="alpha"),
    Row(
        "two alpha bands",
        tiff(bands=3, change=make.colours("gray", "alpha", "alpha")),
        warned=("of several alpha bands, band 2 says what is valid",),
        invalid="alpha",
    ),
    Row(
        "premultiplied alpha",
        tiff(bands=4, photometric="rgb", alpha="premultiplied"),
        warned=("colours are multiplied by the alpha band, and the output will not say so",),
        invalid="alpha",
    ),
    Row(
        "alpha and nodata",
        tiff(bands=4, photometric="rgb", alpha="yes", nodata=0),
        warned=(ALPHA_NO_NODATA,),
        invalid="alpha",
    ),
    Row(
        "alpha and a mask",
        tiff(bands=4, photometric="rgb", alpha="yes", mask="internal"),
        warned=(ALPHA_NO_MASK,),
        invalid="alpha",
    ),
    Row("internal mask", tiled(bands=3, mask="internal"), invalid="mask"),
    Row(
        "internal mask of blocks that were never written",
        tiled(mask="internal", sparse=True, sparse_ok=True),
        invalid="mask",
    ),
    Row("sidecar mask (.msk)", tiled(bands=2, mask="sidecar"), invalid="mask"),
    Row("mask and nodata", tiff(mask="internal", nodata=0), warned=(MASK_USED,), invalid="mask"),
    Row(
        "mask of another size",
        make.mask_of_another_size,
        refused="the mask of INPUT is 1 x 211 x 189 for pixels of 211 x 173; give the raster one mask of its own size",
    ),
    Row(
        "a mask for each band",
        make.mask_for_each_band,
        refused="INPUT has a mask for each band; give the raster one mask for all bands",
    ),
)
COLOURS = (
    Row(
        "palette",
        tiff(change=make.palette({0: (1, 2, 3, 255), 7: (9, 8, 7, 255)})),
        kernel="nearest",
    ),
    Row(
        "palette of 4 bits",
        tiff(nbits=4, photometric="palette", change=make.palette({0: (1, 2, 3, 255)})),
        kernel="nearest",
    ),
    Row(
        "palette of uint16",
        tiff("uint16", change=make.palette({0: (1, 2, 3, 255)})),
        kernel="nearest",
    ),
    Row(
        "palette with a transparent entry",
        tiff(nodata=0, change=make.palette({0: (0, 0, 0, 0), 1: (9, 9, 9, 255)})),
        invalid="nodata",
        kernel="nearest",
    ),
    Row(
        "white is 0 (MinIsWhite)",
        tiff(photometric="miniswhite"),
        warned=("0 is white (MinIsWhite): the COGs say so, the index of a mosaic cannot",),
    ),
    Row(
        "white is 0 (MinIsWhite), 1 bit",
        tiff(nbits=1, photometric="miniswhite", compress="ccittfax4"),
        kernel="nearest",
    ),
    Row("red, green, blue and near infrared", tiff("uint16", 4, photometric="rgb", alpha="no")),
    Row(
        "bands in the order blue, green, red",
        tiff(bands=3, change=make.colours("blue", "green", "red")),
    ),
    Row(
        "YCbCr without JPEG",
        make.patched(tiff(bands=3, photometric="rgb"), 262, 6),
        refused=f"INPUT: its colours are YCbCr without JPEG; {CONVERT}",
    ),
    Row(
        "CIELab",
        make.patched(tiff(bands=3, photometric="rgb"), 262, 8),
        refused=f"INPUT: its colours are CIELab; {CONVERT}",
    ),
    Row("scale, offset, units, descriptions and tags", tiff("int16", 2, change=make.rich)),
    Row("a scale that is no number", tiff("int16", change=make.scaled(math.nan, 0))),
    Row("a scale without end", tiff("int16", change=make.scaled(math.inf, 1))),
    Row("an offset that is no number", tiff("int16", change=make.scaled(1, math.nan))),
    Row("an offset without end", tiff("int16", change=make.scaled(1, -math.inf))),
    Row("a scale of zero", tiff("int16", change=make.scaled(0, 0))),
    Row(
        "metadata in a domain of its own",
        tiff(change=lambda d: d.update_tags(ns="private", a="1")),
        warned=("metadata of private is not carried over",),
    ),
    Row(
        "an ICC profile",
        by_tifffile(iccprofile=b"\0" * 200),
        warned=("metadata of COLOR_PROFILE is not carried over",),
    ),
    Row(
        "names of values (.aux.xml)",
        make.beside(tiff(), ".aux.xml", make.NAMES),
        warned=(LABELS,),
        kernel="nearest",
    ),
    Row("statistics that are wrong (.aux.xml)", make.beside(tiff(), ".aux.xml", make.STATISTICS)),
)
PLACES = (
    Row("pixel is point", placed(change=lambda d: d.update_tags(AREA_OR_POINT="Point"))),
    Row("south up", placed(Affine(10, 0, 500000, 0, 10, 5000000))),
    Row("east to west", placed(Affine(-10, 0, 500000, 0, -10, 5000000))),
    Row("rotated", placed(Affine(10, 3, 500000, 4, -10, 5000000))),
    Row("no coordinate system", placed(crs=None), unplaced=NO_SYSTEM),
    Row(
        "no coordinate system, with --src-crs", placed(crs=None), options={"src_crs": "EPSG:32633"}
    ),
    Row("neither coordinate system nor transform", placed(None, None), unplaced=NO_TRANSFORM),
    Row("a coordinate system and no transform", placed(None), unplaced=NO_TRANSFORM),
    Row(
        "neither, with --src-crs",
        placed(None, None),
        options={"src_crs": "EPSG:32633"},
        unplaced=NO_TRANSFORM,
    ),
    Row(
        "a world file of a name that GDAL does not read (.tfwx), with --src-crs",
        make.beside(placed(None, None), "wx", make.WORLD_FILE),
        options={"src_crs": "EPSG:32633"},
        unplaced=NO_TRANSFORM,
    ),
    Row(
        "a world file alone, with --src-crs",
        make.with_world_file,
        options={"src_crs": "EPSG:32633"},
    ),
    Row(
        "coordinate system beside (.aux.xml)",
        make.beside(placed(crs=None), ".aux.xml", make.SYSTEM),
    ),
    Row(
        "a transform of zeros",
        make.patched_scale(0.0),
        refused="INPUT has no size of its pixels, and of tie points no more than 1; give it a transform first: gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM INPUT",
    ),
    Row(
        "a transform of NaN",
        make.patched_scale(float("nan")),
        refused="the geotransform of INPUT places no pixels: (nan, nan, 0.0, nan, 0.0, nan); correct it first, for example with gdal_edit.py -a_ullr, or -unsetgt",
    ),
    Row(
        "a system of one site (local)",
        placed(crs='LOCAL_CS["site",UNIT["metre",1]]'),
        unplaced="site (Engineering CRS) has no place on a map of the Earth; name a geographic or projected one with --src-crs",
    ),
    Row(
        "another planet",
        placed(Affine(0.1, 0, 0, 0, -0.1, 40), crs=make.MARS),
        target={"dst_crs": make.MARS_EQUAL},
    ),
    Row(
        "another planet, to a system of the Earth",
        placed(Affine(0.1, 0, 0, 0, -0.1, 40), crs=make.MARS),
        unplaced="Mars and WGS 84 / Pseudo-Mercator are of two planets or moons: their radii are 3396190 m and 6378137 m; name a --dst-crs of the source's own, or correct the source's with --src-crs",
    ),
    Row(
        "heights in the system (compound)",
        placed(crs="EPSG:32633+5773"),
        warped=("values stay as they are (EGM96 height), and the output's system has no heights",),
    ),
    Row(
        "longitudes from 0 to 360",
        placed(Affine(360 / 211, 0, 0, 0, -1, 85), crs="EPSG:4326"),
        warped=(
            "3 rows beyond 85.05 degrees of latitude are left out, for Mercator's projection puts the poles at infinity",
        ),
    ),
    Row(
        "across the antimeridian",
        placed(Affine(0.05, 0, 175, 0, -0.05, 5), crs="EPSG:4326"),
        warped=(BEYOND_SEAM,),
    ),
    Row(
        "over a pole",
        placed(Affine(5000, 0, -500000, 0, -5000, 400000), crs="EPSG:3413"),
        target={"dst_crs": "EPSG:3995"},
    ),
    Row(
        "ground control points alone",
        make.gcps(),
        refused="INPUT is placed by 4 ground control points alone, and it must be chosen what is made of them; add --gcps 1 (or 2, 3: polynomials of that order), or --gcps tps (a thin-plate spline)",
    ),
    *(
        Row(
            f"ground control points alone, with --gcps {how}",
            make.bent_gcps,
            options={"gcps": how},
            moved=True,
        )
        for how in ("1", "2", "3", "tps")
    ),
    Row(
        "too few ground control points for --gcps 3",
        make.gcps(),
        options={"gcps": "3"},
        refused="INPUT has 4 ground control points, and --gcps 3 needs 10; use --gcps 1, or give it more points: gdal_translate -gcp",
    ),
    Row(
        "no ground control points, with --gcps 1",
        placed(),
        options={"gcps": "1"},
        refused="INPUT has no ground control points, of which --gcps speaks; leave out --gcps",
    ),
    Row(
        "ground control points beside a transform, with --gcps tps",
        make.gcps(transform=True),
        options={"gcps": "tps"},
        moved=True,
    ),
    Row(
        "ground control points beside a transform",
        make.gcps(transform=True),
        warned=(POINTS_LEFT,),
        unplaced=NO_SYSTEM,
    ),
    Row(
        "rational polynomials alone (RPC)",
        make.rpcs(),
        refused="INPUT is placed by rational polynomials alone, and the heights of the ground are not known; add --rpc-dem DEM.tif, or --rpc-height METRES (above the ellipsoid)",
    ),
    Row(
        "rational polynomials alone (.RPB), with --rpc-height",
        make.bent_rpcs,
        options={"rpc_height": 250},
        moved=True,
    ),
    Row(
        "rational polynomials alone (.RPB), with --rpc-dem",
        make.with_dem(make.bent_rpcs),
        options={"rpc_dem": "FOLDER/dem.tif"},
        moved=True,
    ),
    Row(
        "rational polynomials alone, with --rpc-dem of a DEM that has holes",
        make.with_dem(make.bent_rpcs, hole=True),
        options={"rpc_dem": "FOLDER/dem.tif"},
        refused="the DEM ... has 1 cells without a height under the raster; fill them first: gdal_fillnodata.py ... DEM.tif",
    ),
    Row(
        "rational polynomials beside a transform, with --rpc-height",
        make.rpcs(transform=True),
        options={"rpc_height": 250},
        moved=True,
    ),
    Row(
        "rational polynomials of 19 coefficients, or of text, beside a transform",
        make.beside(placed(), ".aux.xml", make.NOT_WHOLE),
    ),
    Row(
        "no rational polynomials, with --rpc-height",
        placed(),
        options={"rpc_height": 250},
        refused="INPUT has no whole rational polynomials, of which --rpc-height speaks; leave out --rpc-height",
    ),
    Row(
        "rational polynomials beside a transform (RPC)",
        make.rpcs(transform=True),
        warned=(POINTS_LEFT,),
    ),
)
FILES = (
    Row(
        "missing",
        lambda folder: folder / "input.tif",
        refused="INPUT does not exist; check the name",
    ),
    Row("a folder", lambda folder: folder, refused="INPUT is a folder; name one raster file in it"),
    Row(
        "empty",
        make.content_of(b""),
        refused="INPUT is empty; name a GeoTIFF; an upload may not have finished",
    ),
    Row("two bytes", make.content_of(b"II"), refused=NO_TIFF),
    Row(
        "a TIFF's first eight bytes and nothing else",
        make.content_of(b"II*\0\x08\0\0\0"),
        refused="INPUT holds no image of full size; name a GeoTIFF",
    ),
    Row(
        "an offset of its directory beyond the end",
        make.content_of(b"II*\0\xff\xff\xff\x7f" + bytes(64)),
        refused="INPUT holds no image of full size; name a GeoTIFF",
    ),
    Row(
        "cut off within its pixels",
        make.edited(tiff(bands=3), lambda data: data[:-9000]),
        refused="2 of 11 blocks of INPUT lie past the end of the file (... bytes; block 9 is 10128 bytes at ...); the file was cut off; copy or fetch it again",
    ),
    Row(
        "cut off within its header",
        make.edited(tiff(bands=3), lambda data: data[:60]),
        refused="the header of INPUT cannot be read (corrupted IFD structure); the file is damaged or cut off; copy or fetch it again",
    ),
    Row("a chain of directories without end", make.edited(tiff(), make.endless)),
    Row(
        "fewer blocks than its size wants",
        make.patched(tiff(), 257, 2000),
        refused="INPUT lists 11 blocks where its size wants 125; the file is damaged; write it again, or fetch it again",
    ),
    Row("text", make.content_of(b"a,b\n1,2\n" * 9), refused=NO_TIFF),
    Row(
        "a web page saved as .tif",
        make.content_of(b"<!DOCTYPE html><html><body>Sign in</body></html>"),
        refused="INPUT is not a TIFF but a web page; fetch the raster itself; the address may want a login or another path",
    ),
    Row(
        "a PNG named .tif",
        make.other_driver("PNG"),
        refused=f"INPUT is not a TIFF but a PNG image; {CONVERT}",
    ),
    Row(
        "a JPEG named .tif",
        make.other_driver("JPEG"),
        refused=f"INPUT is not a TIFF but a JPEG image; {CONVERT}",
    ),
    Row(
        "a JPEG 2000 named .tif",
        make.other_driver("JP2OpenJPEG"),
        refused=f"INPUT is not a TIFF but a JPEG 2000 image; {CONVERT}",
    ),
    Row(
        "a netCDF file named .tif",
        make.content_of(b"CDF\x01" + bytes(99)),
        refused=f"INPUT is not a TIFF but a netCDF file; {CHOOSE}",
    ),
    Row(
        "an HDF5 file named .tif",
        make.content_of(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        refused=f"INPUT is not a TIFF but an HDF5 or netCDF file; {CHOOSE}",
    ),
    Row(
        "a GeoPackage named .tif",
        make.content_of(b"SQLite format 3\0" + bytes(99)),
        refused=f"INPUT is not a TIFF but a GeoPackage or another SQLite file; {CHOOSE}",
    ),
    Row(
        "a GeoTIFF in a zip archive",
        make.zipped,
        refused="INPUT is not a TIFF but a zip archive; unpack it first: unzip INPUT",
    ),
    Row(
        "a GeoTIFF packed by gzip",
        make.gzipped,
        refused="INPUT is not a TIFF but packed by gzip; unpack it first: gunzip INPUT",
    ),
    Row(
        "a pointer of Git LFS",
        make.content_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        refused="INPUT is not a TIFF but a pointer of Git LFS; fetch the raster itself: git lfs pull",
    ),
)
A, B = virtual.source("a.tif"), virtual.source("b.tif")
VIRTUAL = (
    Row("a VRT of one GeoTIFF", make.vrt),
    Row("a mosaic of tiles, with a gap", virtual.mosaic(bands=3)),
    Row(
        "a mosaic of strips, with nodata",
        virtual.mosaic(dtype="int16", nodata="-7", options=virtual.STRIPS),
        invalid="nodata",
    ),
    Row("a mosaic in a VRT in a VRT", virtual.nested(bands=2)),
    Row("a VRT with a mask of its members'", virtual.masked, invalid="mask"),
    Row(
        "each band from another file",
        virtual.of(virtual.band(A), virtual.band(B), options=virtual.STRIPS),
    ),
    Row(
        "members whose own nodata lets others through (ComplexSource)",
        virtual.of(
            virtual.band(
                A + virtual.source("b.tif", kind="ComplexSource", inner="<NODATA>7</NODATA>")
            )
        ),
    ),
    Row(
        "members that are scaled (ComplexSource)",
        virtual.of(
            virtual.band(
                "<NoDataValue>0</NoDataValue>"
                + virtual.source(
                    "a.tif",
                    kind="ComplexSource",
                    inner="<ScaleOffset>3</ScaleOffset><ScaleRatio>0.25</ScaleRatio>",
                ),
                "Float32",
            )
        ),
        invalid="nodata",
    ),
    Row(
        "a band that GDAL computes of others (pixel function)",
        virtual.of(
            virtual.band(
                "<PixelFunctionType>diff</PixelFunctionType>" + A + B,
                "Int16",
                "VRTDerivedRasterBand",
            )
        ),
    ),
    Row(
        "offsets with noise in their last digits",
        virtual.of(virtual.band(virtual.source("a.tif", at=("0.0000000012", "-0.0000000003")))),
    ),
    Row(
        "a member that is missing",
        virtual.of(virtual.band(A + virtual.source("c.tif"))),
        refused=f"INPUT names ...c.tif, which does not exist; {REMADE}",
    ),
    Row(
        "a member in a bucket",
        virtual.of(virtual.band(virtual.source("/vsis3/bucket/a.tif", relative=0))),
        refused=f"INPUT names /vsis3/bucket/a.tif, which is out of reach; {OUT_OF_REACH}",
    ),
    Row(
        "a member named from the folder that GDAL is started in",
        virtual.of(virtual.band(virtual.source("a.tif", relative=0))),
        refused="INPUT names a.tif from whatever folder GDAL is started in; make it again from absolute names: gdalbuildvrt OUTPUT.vrt /FOLDER/*.tif",
    ),
    Row(
        "a member that is no GeoTIFF",
        make.beside(virtual.of(virtual.band(virtual.source("input.vrt.txt"))), ".txt", "any"),
        refused=f"INPUT.txt is not a TIFF; {CONVERT}",
    ),
    Row(
        "a function in Python",
        virtual.of(
            virtual.band(
                "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>"
                "Python</PixelFunctionLanguage>" + A,
                subclass="VRTDerivedRasterBand",
            )
        ),
        refused=f"INPUT computes its pixels by a function in Python, which is not run; {TRANSLATE}",
    ),
    Row(
        "members of another resolution",
        virtual.of(virtual.band(virtual.source("a.tif", size=(2 * 211, 2 * 173)))),
        refused=f"INPUT resamples ...a.tif, and its pixels may depend on how it is read; {TRANSLATE}",
    ),
    Row(
        "members between the pixels",
        virtual.of(virtual.band(virtual.source("a.tif", at=(0.5, 0)))),
        refused=f"INPUT resamples ...a.tif, and its pixels may depend on how it is read; {TRANSLATE}",
    ),
    Row(
        "a band that the member does not have",
        virtual.of(virtual.band(virtual.source("a.tif", "2"))),
        refused="INPUT reads band 2 of ...a.tif, which has 1 bands of 211 x 173; make the VRT again from its members: gdalbuildvrt",
    ),
    Row(
        "a VRT that warps",
        virtual.warped,
        refused=f"INPUT is a VRT with a VRTWarpedDataset, whose pixels may depend on how it is read; {TRANSLATE}",
    ),
    Row(
        "a VRT that filters",
        virtual.of(virtual.band(virtual.source("a.tif", kind="KernelFilteredSource"))),
        refused=f"INPUT is a VRT with KernelFilteredSource, whose pixels may depend on how it is read; {TRANSLATE}",
    ),
    Row(
        "bands of unlike types",
        virtual.of(virtual.band(A), virtual.band(B, "Int16")),
        refused="the bands of INPUT are of several types (Byte, Int16); make one raster of one type first: gdal_translate -ot TYPE INPUT OUTPUT.tif",
    ),
    Row(
        "a mask beside a VRT (.msk)",
        make.beside(virtual.of(virtual.band(A)), ".msk", "any"),
        refused="INPUT.msk masks a VRT from outside; make one raster first: gdal_translate",
    ),
    Row(
        "a VRT of itself",
        virtual.of(virtual.band(virtual.source("input.vrt"))),
        refused=f"INPUT is a VRT 3 VRTs deep in another; {TRANSLATE}",
    ),
    Row(
        "a VRT that is cut off",
        make.edited(virtual.of(virtual.band(A)), lambda data: data[:-20]),
        refused="the VRT INPUT is no XML (unclosed token: ...); write it again: gdalbuildvrt or gdal_translate -of VRT",
    ),
    Row(
        "a VRT, with --page 1",
        virtual.of(virtual.band(A)),
        options={"page": 1},
        refused="--page 1 chooses an image of a TIFF, and INPUT is a VRT; leave it out",
    ),
)
CORPUS = (
    Row("strips, nodata 0", "RGB.byte.tif", invalid="nodata"),
    Row("a sidecar mask", "RGB2.byte.tif", invalid="mask", warped=(UNKNOWN_DATUM,)),
    Row("that sidecar mask itself", "RGB2.byte.tif.msk", unplaced=NO_TRANSFORM),
    Row("red, green, blue, alpha", "RGBA.byte.tif", invalid="alpha"),
    Row("the same of uint16", "RGBA.uint16.tif", invalid="alpha"),
    Row("no valid pixel", "all-nodata.tif", invalid="nodata"),
    Row("JPEG with alpha", "alpha.tif", target=DEGREES, warned=(RIO,), invalid="alpha"),
    Row("a huge, odd extent", "bad_output_vrt.tif", warped=(LESS_EXACT,), kernel="nearest"),
    Row(
        "four bands and a mask",
        "band4mask.tif",
        warned=(ALPHA_NO_MASK,),
        invalid="alpha",
        unplaced=NO_TRANSFORM,
    ),
    Row("a small gray one", "byte.tif", warped=(LESS_EXACT,)),
    Row(
        "a COG of JPEG, cut off",
        "corrupt.tif",
        refused="1 of 4 blocks of INPUT lie past the end of the file (298232 bytes; block 3 is 47086 bytes at 260000); the file was cut off; copy or fetch it again",
    ),
    Row("south up, NaN, no system", "float_nan.tif", invalid="nodata", unplaced=NO_SYSTEM),
    Row(
        "nodata -3.4e38",
        "float_raster_with_extra_nodata.tif",
        invalid="nodata",
        warped=(UNKNOWN_DATUM,),
    ),
    Row(
        "geostationary",
        "goes.tif",
        target=DEGREES,
        warned=(SUBSAMPLED,),
        invalid="mask",
        at_a_limb=True,
    ),
    Row("gray with an internal mask", "graymask.tif", invalid="mask", unplaced=NO_TRANSFORM),
    Row("51 pixels", "image_51px.tif"),
    Row("a palette", "image_colormap.tif", kernel="nearest"),
    Row("floats", "image_float.tif"),
    Row(
        "geostationary, JPEG and a mask",
        "image_geos.tif",
        target=DEGREES,
        warned=(SUBSAMPLED, MASK_USED),
        invalid="mask",
        warped=(UNKNOWN_DATUM, BEYOND_SEAM),
        at_a_limb=True,
    ),
    Row(
        "ghost headers that no longer hold",
        "image_known_incompatible_ghost_headers.tif",
        warped=(LESS_EXACT,),
    ),
    Row("nodata that is not said", "image_missing_nodata.tif"),
    Row("NaN", "image_nan.tif", invalid="nodata"),
    Row("far in the north", "image_north.tif"),
    Row(
        "colours with an internal mask",
        "image_rgb_mask.tif",
        target=DEGREES,
        invalid="mask",
    ),
    Row(
        "alpha and nodata",
        "image_rgba_nodata.tif",
        target=DEGREES,
        warned=(ALPHA_NO_NODATA,),
        invalid="alpha",
    ),
    Row(
        "tags",
        "image_tags.tif",
        target=DEGREES,
    ),
    Row(
        "WebP",
        "image_webp.tif",
        target=DEGREES,
    ),
    Row("scale and offset", "image_with_offsets.tif", invalid="nodata", warped=(UNKNOWN_DATUM,)),
    Row("one of four neighbours", "rgb1.tif", invalid="nodata", warped=(UNKNOWN_DATUM,)),
    Row("one of four neighbours", "rgb2.tif", invalid="nodata", warped=(UNKNOWN_DATUM,)),
    Row("one of four neighbours", "rgb3.tif", invalid="nodata", warped=(UNKNOWN_DATUM,)),
    Row("one of four neighbours", "rgb4.tif", invalid="nodata", warped=(UNKNOWN_DATUM,)),
    Row("deflate", "rgb_deflate.tif", warned=(RIO,), invalid="nodata"),
    Row("colours with a mask, not placed", "rgbmask.tif", invalid="mask", unplaced=NO_TRANSFORM),
    Row("rotated, no system", "rotated.tif", warned=(RIO,), unplaced=NO_SYSTEM),
    Row(
        "shaded relief",
        "shade.tif",
        target=DEGREES,
        warned=(RIO,),
        invalid="nodata",
    ),
    Row(
        "complex integers, control points",
        "slc.tif",
        refused="INPUT: its pixels are complex integers, for which NumPy has no type; convert it first: gdal_translate -ot CFloat32 INPUT OUTPUT.tif",
    ),
    Row("a system as ESRI writes it", "test_esri_wkt.tif", warped=(LESS_EXACT,)),
    Row("the whole world", "world.byte.tif"),
    Row(
        "a VRT with control points",
        "RGB.byte.gcp.vrt",
        refused="INPUT is placed by ... ground control points alone, ...",
    ),
    Row(
        "a VRT with control points, with --gcps 1",
        "RGB.byte.gcp.vrt",
        options={"gcps": "1"},
        moved=True,
        invalid="nodata",
    ),
    Row(
        "a VRT with rational polynomials",
        "RGB.byte.rpc.vrt",
        refused="INPUT is placed by rational polynomials alone, ...",
    ),
)
SECTIONS = {
    "Structure": STRUCTURE,
    "Types of pixels": TYPES,
    "Compression": COMPRESSION,
    "Nodata, masks and alpha": VALIDITY,
    "Colours and meaning": COLOURS,
    "Place": PLACES,
    "VRTs": VIRTUAL,
    "Files that are something else, or damaged": FILES,
}


def page() -> str:
    """Return the text of the page."""
    parts = [INTRODUCTION]
    for title, rows in (*SECTIONS.items(), ("Real files of other projects' tests", CORPUS)):
        parts.append(f"\n## {title}\n\n| input | copied | reprojected | invalid by | kernel |")
        parts.append("| --- | --- | --- | --- | --- |")
        parts += [_line(row) for row in rows]
    return "\n".join(parts) + "\n"


def _line(row: Row) -> str:
    kind = row.kind if callable(row.source) else f"{row.kind} (`{row.source}`)"
    if row.refused:
        return f"| {kind} | refused: {row.refused} | as copied | | |"
    copied = "; ".join(["exact", *(f"warns: {text}" for text in row.warned)])
    if row.moved:
        copied = "never: to the points' own system, as reprojected"
    elif row.uncopied:
        copied = f"refused: {row.uncopied}"
    moved = "; ".join(["exact", *(f"warns: {text}" for text in (*row.warned, *row.warped))])
    if row.unplaced:
        moved = f"refused: {row.unplaced}"
    elif row.warned and not row.warped:
        moved = "as copied"
    return f"| {kind} | {copied} | {moved} | {row.invalid} | {'' if row.unplaced else row.kernel} |"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
