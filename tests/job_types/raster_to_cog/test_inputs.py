"""Every row of the table of inputs: handled exactly, with these warnings, or refused so."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import tifffile
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning
from tests.harness import oracle
from tests.harness.reference import reference_warp
from tests.harness.whole_job import SMALL, WholeJob
from tests.job_types.raster_to_cog.inputs import CORPUS, PAGE, SECTIONS, Row, page

from cogmill.errors import Refused
from cogmill.raster.geometry.held_pixels import HeldPixels
from cogmill.raster.plan.raster_plan import RasterPlan
from cogmill.raster.tiff.nodata import EXACT_IN_FLOATS

Array = npt.NDArray[Any]
NEARLY_TRANSPARENT = 2e-4


def opened(path: Path | str, **options: Any) -> Any:
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
        return rasterio.open(path, **options)


def read(path: Path | str) -> tuple[Array, Array]:
    """Return what GDAL reads: pixels, and the mask of each band."""
    with (
        warnings.catch_warnings(action="ignore", category=NodataShadowWarning),
        opened(path) as file,
    ):
        return file.read(), file.read_masks()


def plan_of(job: WholeJob) -> RasterPlan:
    prepared: Any = job.found.prepared
    return RasterPlan.model_validate(prepared["plan"])


def job_of(row: Row, path: Path, folder: Path, **options: Any) -> WholeJob:
    folder.mkdir(exist_ok=True)
    small = SMALL if path.parent.name == "in" else {}
    asked = {
        name: value.replace("FOLDER", str(path.parent)) if isinstance(value, str) else value
        for name, value in {**small, **row.options, **options}.items()
    }
    return WholeJob(path, f"{folder}/one.tif", options=asked)


def shown(row: Row, path: Path) -> Path:
    """Return the file in which GDAL shows all of what is read of `path`."""
    return path.parent / row.alone if row.alone else path


def decoded(row: Row, path: Path) -> Array:
    if row.by_gdal:
        return read(path)[0]
    found: Array = np.atleast_3d(tifffile.imread(path))
    return np.moveaxis(found, 2, 0)


def copied(row: Row, path: Path, folder: Path) -> None:
    """Take the pixels over, and compare everything that GDAL says of both files."""
    job = job_of(row, path, folder).run()
    made = folder / "one.tif"
    plan = plan_of(job)
    path = shown(row, path)
    assert told(plan.warnings, row.warned)
    assert plan.validity.kind == row.invalid
    pixels, masks = read(made)
    expected = decoded(row, path)
    assert_same(plan, pixels, expected)
    if row.by_gdal:
        np.testing.assert_array_equal(masks > 0, expected_masks(plan, path, expected))
        assert_same_meaning(plan, path, made)


def assert_same(plan: RasterPlan, pixels: Array, expected: Array) -> None:
    """Compare values; libraries make the colours of a subsampled JPEG differently."""
    assert pixels.dtype == expected.dtype
    if not plan.structure.image.subsampled:
        np.testing.assert_array_equal(pixels, expected)
        return
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.mean() < 2
    assert difference.max() < 32


def expected_masks(plan: RasterPlan, path: Path, pixels: Array) -> Array:
    """Return where pixels are valid by what the plan says is used, shape ``(band, row, col)``."""
    if plan.validity.kind == "none":
        return np.ones(pixels.shape, bool)
    alpha = plan.validity.alpha_band
    if alpha is None or "not used" not in "".join(plan.warnings):
        return np.asarray(read(path)[1] > 0)
    # GDAL would heed nodata and masks too, which the plan says are not used.
    valid = np.repeat(pixels[alpha - 1][np.newaxis] > 0, len(pixels), axis=0)
    valid[alpha - 1] = True
    return valid


def assert_same_meaning(plan: RasterPlan, path: Path, made: Path) -> None:
    with opened(path) as one, opened(made) as two:
        assert two.colorinterp == one.colorinterp
        assert two.crs == one.crs or plan.options.src_crs
        assert two.transform == one.transform
        np.testing.assert_array_equal((two.scales, two.offsets), (one.scales, one.offsets))
        assert two.units == one.units
        assert two.descriptions == one.descriptions
        assert meaning(two.tags()) == meaning(one.tags())
        for band in one.indexes:
            assert meaning(two.tags(band)) == meaning(one.tags(band))
        if plan.structure.palette is not None:
            # TIFF wants an entry for each value of its type.
            assert two.colormap(1).items() >= one.colormap(1).items()
            return
        inverted = [each.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") for each in (one, two)]
        assert inverted[0] == inverted[1]


def meaning(tags: dict[str, str]) -> dict[str, str]:
    """Return tags without statistics and the program, and with what TIFF takes for granted."""
    left = {"TIFFTAG_SOFTWARE", "TIFFTAG_DATETIME", "TIFFTAG_HOSTCOMPUTER"}
    return {"AREA_OR_POINT": "Area"} | {
        key: value
        for key, value in tags.items()
        if key not in left and not key.startswith("STATISTICS_")
    }


def reprojected(row: Row, path: Path, folder: Path) -> None:
    """Reproject by the nearest neighbour; compare with the reference over GDAL's pixels."""
    asked = dict(row.target)
    job = job_of(row, path, folder, **asked)
    job.preflight()
    plan = plan_of(job)
    assert told(plan.warnings, row.warned + row.warped)
    assert plan.resampling == row.kernel
    job = job_of(row, path, folder, **asked, resampling="nearest").run()
    plan = plan_of(job)
    path = shown(row, path)
    assert plan.warp is not None
    pixels, masks = read(folder / "one.tif")
    if row.at_a_limb:
        prepared: Any = job.found.prepared
        expected = oracle.whole(path, prepared["plan"], folder)
        np.testing.assert_array_equal(masks[0], expected.mask)
        equal(plan, pixels[:, masks[0] > 0], expected.pixels[:, masks[0] > 0])
        return
    held = whole(row, plan, path)
    if plan.validity.alpha_band is not None:
        # GDAL takes an alpha band for a mask only where it is the last one.
        masks = np.broadcast_to(pixels[plan.validity.alpha_band - 1], pixels.shape)
    parts = (np.real, np.imag) if pixels.dtype.kind == "c" else (np.asarray,)
    for part in parts:
        one = HeldPixels(window=held.window, pixels=part(held.pixels), mask=held.mask)
        for place, band in enumerate(plan.held_bands):
            compare(plan, place, one, (part(pixels[band - 1]), masks[band - 1]))


def whole(row: Row, plan: RasterPlan, path: Path) -> HeldPixels:
    """Return all of a source as GDAL reads it, in the order of the warp."""
    pixels = decoded(row, path)
    mask = None
    if plan.validity.kind == "mask":
        mask = read(path)[1][0]
    ordered = pixels[[band - 1 for band in plan.held_bands]]
    for plane, own, one in zip(ordered, plan.validity.source_nodata or (),
                               plan.validity.target_nodata or (), strict=False):  # fmt: skip
        if own != one and plane.dtype.kind in "iu":
            plane[plane == one] -= 1  # as GDAL keeps valid pixels apart from the one nodata
    return HeldPixels(
        window=plan.source_grid.window, pixels=np.ascontiguousarray(ordered), mask=mask
    )


def compare(plan: RasterPlan, place: int, held: HeldPixels, found: tuple[Array, Array]) -> None:
    """Compare one band with the reference where that can tell."""
    spec, (values, mask) = plan.warp, found
    assert spec is not None
    every = spec.model_copy(update={"source_alpha": False, "bands": spec.planes})
    plain = every if spec.source_alpha else spec
    reference = reference_warp(plain, held, place)
    valid, sure = reference.valid, ~reference.undecided
    assert plan.structure.image.width < 2 or sure.mean() > 0.5
    if spec.source_alpha:
        alpha = reference_warp(plain, held, spec.bands)
        opaque = alpha.values / (255 if spec.is_float else np.iinfo(spec.dtype).max)
        # GDAL drops what is nearly transparent.
        sure &= (opaque <= 0) | (opaque > NEARLY_TRANSPARENT)
        valid = valid & alpha.valid & (opaque > 0)
        if place == spec.bands:
            np.testing.assert_array_equal(values[sure], np.where(valid, alpha.values, 0)[sure])
            return
    equal(plan, values[sure & valid], reference.values[sure & valid])
    marked = (mask > 0) & ~np.isnan(values)
    np.testing.assert_array_equal(marked[sure], valid[sure])


def equal(plan: RasterPlan, values: Array, expected: Array) -> None:
    """Compare valid values, as far as both can tell."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        exact = np.abs(expected) <= EXACT_IN_FLOATS
        values, expected = values[exact], expected[exact]
    expected = expected.astype(values.dtype)
    if plan.structure.image.subsampled:
        difference = np.abs(values.astype(int) - expected.astype(int))
        assert np.percentile(difference, 99) < 32
        return
    np.testing.assert_array_equal(values, expected)


ROWS = [row for rows in SECTIONS.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=[row.kind for row in ROWS])
def test_each_kind_has_the_outcome_that_the_table_says(row: Row, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    assert callable(row.source)
    check(row, row.source(folder), tmp_path)


def check(row: Row, path: Path, folder: Path) -> None:
    if row.refused:
        for options in ({}, dict(row.target)):
            assert said(row, path, folder, options, row.refused)
        return
    if row.uncopied:
        assert said(row, path, folder, {}, row.uncopied)
    elif not row.moved:
        copied(row, path, folder / "copy")
    if row.unplaced:
        assert said(row, path, folder, dict(row.target), row.unplaced)
    else:
        reprojected(row, path, folder / "warp")


def said(row: Row, path: Path, folder: Path, options: dict[str, Any], sentence: str) -> bool:
    """Whether it is refused in these words, before anything is made."""
    with pytest.raises(Refused) as refusal:
        job_of(row, path, folder / "refused", **options).run()
    assert not list((folder / "refused").iterdir())
    return told((str(refusal.value).replace(str(path), "INPUT"),), (sentence,))


def told(found: tuple[str, ...], sentences: tuple[str, ...]) -> bool:
    """Whether these are the sentences, in any order, each on one line."""
    patterns = ["[^\n]*".join(map(re.escape, text.split("..."))) for text in sentences]
    for text in found:
        assert any(re.fullmatch(pattern, text) for pattern in patterns), text
    assert len(found) == len(sentences), found
    return True


@pytest.mark.external
@pytest.mark.parametrize("row", CORPUS, ids=[str(row.source) for row in CORPUS])
def test_each_real_file_has_the_outcome_that_the_table_says(
    row: Row, corpus: Path, tmp_path: Path
) -> None:
    check(row, corpus / str(row.source), tmp_path)


@pytest.mark.external
def test_every_file_of_the_corpus_is_in_the_table(corpus: Path) -> None:
    found = {path.name for path in corpus.iterdir()} - {"README.md"}
    assert found == {row.source for row in CORPUS}


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), (
        "write it again: python -m tests.job_types.raster_to_cog.inputs"
    )
