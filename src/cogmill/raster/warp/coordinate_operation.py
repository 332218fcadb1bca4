"""The choice of one coordinate operation for a whole raster.

PROJ left alone takes an operation for each point, so that one raster can tear where the area of
one ends (ED50 at 31.6 degrees east: 38 m). Here the candidates are listed for the footprint, the
most accurate one that holds over all of it is taken, and every transformer gets that one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from operator import or_
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from pyproj.transformer import AreaOfInterest, TransformerGroup

from cogmill.errors import Refused
from cogmill.raster.arrays import Floats
from cogmill.raster.geometry.crs import (
    LonLatArea,
    area_points,
    metres_per_unit,
    same_body,
    transform_points,
    transform_points_back,
    without_heights,
)
from cogmill.raster.geometry.datums import (
    NEGLIGIBLE_SHIFT,
    NO_SHIFT,
    alike,
    datum_is_unknown,
    ignored_shift,
    is_modern,
)
from cogmill.raster.warp.probing import proj_disagreement

#: Parts of a source pixel by which GDAL's PROJ and pyproj's may differ without a word, and at most.
SILENT_PIXELS: Final = 1e-3
MOST_PIXELS: Final = 0.5
#: No datum shift on the Earth is larger, in metres; swapped axes are.
_LARGEST_SHIFT: Final = 5e3
_CODE: Final = re.compile(r"^\s*(?:urn:ogc:def:coordinateOperation:)?([A-Za-z]+):+(\d+)\s*$")
_WRAPPED: Final = re.compile(r"^.*\(([^()]+)\)+$")
_MILLIMETRES: Final = 1000


class CoordinateOperation(BaseModel):
    """The operation from one coordinate system to another, the same for every pixel of a raster.

    Attributes
    ----------
    pipeline : str
        PROJ pipeline in the authorities' axis order, as GDAL's ``COORDINATE_OPERATION`` takes it.
    name : str
        What PROJ calls it.
    accuracy_m : float or None
        In metres; 0 where only the projection changes, None where it is not known.
    missing_grids : tuple of str
        Files without which the most accurate operation cannot be used here.
    loss_m : float or None
        How much accuracy that costs, in metres; None without `missing_grids`, or not known.
    warnings : tuple of str
        What a person should know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    name: str
    accuracy_m: float | None
    missing_grids: tuple[str, ...] = ()
    loss_m: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A candidate: what PROJ says of it."""

    pipeline: str
    name: str
    accuracy: float | None
    covers: bool
    codes: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()

    @property
    def ballpark(self) -> bool:
        return "ballpark" in self.name.lower()

    @property
    def rank(self) -> tuple[bool, float]:
        return (not self.covers, float("inf") if self.accuracy is None else self.accuracy)


@dataclass(frozen=True, slots=True)
class CrsPolicy:
    """What a user says about the way from one system to another.

    Attributes
    ----------
    operation : str or None
        A PROJ pipeline in the authorities' axis order, or an authority's code: that one is taken.
    strict : bool
        Whether a missing better grid, an unknown datum and a ballpark are refused, not warned of.
    allow_ballpark : bool
        Whether the difference between two datums may be ignored, however large it is.
    """

    operation: str | None = None
    strict: bool = False
    allow_ballpark: bool = False


@dataclass(frozen=True, slots=True)
class _Search:
    """From where to where, over which points, and how large a source pixel is in metres."""

    ends: tuple[str, str]
    area: LonLatArea
    points: tuple[Floats, Floats]
    pixel_m: float
    policy: CrsPolicy

    @property
    def names(self) -> tuple[str, str]:
        source, target = (CRS.from_user_input(crs).name for crs in self.ends)
        return source, target


def choose_operation(
    ends: tuple[str, str],
    area_lonlat: LonLatArea,
    pixel_m: float,
    policy: CrsPolicy = CrsPolicy(),  # frozen
) -> CoordinateOperation:
    """Choose the one operation of a raster, within `gdal.environment`.

    Parameters
    ----------
    ends : (str, str)
        The systems from which and to which, as WKT.
    area_lonlat : (float, float, float, float)
        West, south, east, north of the footprint in degrees; see `lonlat_area`.
    pixel_m : float
        Side of a source pixel in metres, by which differences are judged.
    policy : CrsPolicy, optional
        What the user says.

    Returns
    -------
    CoordinateOperation
        Probed: pyproj and GDAL agree on it within half a pixel, and where it is more than a
        thousandth, a warning says so.

    Raises
    ------
    Refused
        No operation; a ballpark that ignores more than a user would want; a better grid that is
        missing under `CrsPolicy.strict`; or the two PROJ disagree.
    """
    _refuse_other_body(*ends)
    task = _Search(ends, area_lonlat, area_points(ends[0], area_lonlat), pixel_m, policy)
    ways, unavailable = _candidates(task)
    if policy.operation is not None:
        chosen = _named(policy.operation, task, [*ways, *unavailable])
        return _probed(_operation(chosen, None), task)
    usable = _usable(ways, task)
    known = [way for way in usable if not way.ballpark]
    if not known:
        # What is made for another area is better than nothing, and PROJ left it out.
        elsewhere, _ = _candidates(task, everywhere=True)
        known = [way for way in _usable([*ways, *elsewhere], task) if not way.ballpark]
    if not known:
        return _probed(_ballpark(task, usable, unavailable), task)
    chosen = min(known, key=lambda way: way.rank)
    better = [way for way in unavailable if way.missing and way.covers and _better(way, chosen)]
    best = min(better, key=lambda way: way.rank) if better else None
    if best is not None and policy.strict:
        raise Refused(_loss_text(best, chosen), _grid_remedy(best))
    return _probed(_operation(chosen, best), task)


def _refuse_other_body(src_crs: str, dst_crs: str) -> None:
    source, target = (CRS.from_user_input(crs) for crs in (src_crs, dst_crs))
    if not same_body(source, target):
        radii = [
            "no ellipsoid" if each.ellipsoid is None else f"{each.ellipsoid.semi_major_metre:.0f} m"
            for each in (source, target)
        ]
        raise Refused(
            f"{source.name} and {target.name} are of two planets or moons: their radii are "
            f"{' and '.join(radii)}",
            "name a --dst-crs of the source's own, or correct the source's with --src-crs",
        )


def _operation(chosen: _Candidate, best: _Candidate | None) -> CoordinateOperation:
    notes = [_loss_text(best, chosen) + "; " + _grid_remedy(best)] if best is not None else []
    if not chosen.covers:
        notes.append(
            f"{chosen.name} is used beyond the area that it is made for, where its accuracy is "
            "not known"
        )
    return CoordinateOperation(
        pipeline=chosen.pipeline,
        name=chosen.name,
        accuracy_m=chosen.accuracy if chosen.covers else None,
        missing_grids=best.missing if best else (),
        loss_m=_loss(best, chosen) if best else None,
        warnings=tuple(notes),
    )


def _candidates(
    task: _Search, *, everywhere: bool = False
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Return the operations that PROJ can use here, or at all, and those that lack a grid."""
    west, south, east, north = task.area
    # A footprint of no size is no area of interest to PROJ.
    area = AreaOfInterest(west - 1e-9, max(south - 1e-9, -90), east + 1e-9, min(north + 1e-9, 90))
    source, target = (without_heights(CRS.from_user_input(crs)) for crs in task.ends)
    try:
        with warnings.catch_warnings():
            # It warns of a missing grid; so do we, with what that costs.
            warnings.simplefilter("ignore", UserWarning)
            group = TransformerGroup(
                source,
                target,
                always_xy=False,
                area_of_interest=None if everywhere else area,
            )
    except ProjError as error:
        raise Refused(
            f"PROJ knows no way from {source.name} to {target.name}: {error}",
            "name one with --coordinate-operation",
        ) from error
    ways = [_available(transformer, task.area) for transformer in group.transformers]
    return ways, [_unavailable(each, task.area) for each in group.unavailable_operations]


def _available(transformer: Transformer, area: LonLatArea) -> _Candidate:
    steps = transformer.operations or ()
    accuracy = transformer.accuracy
    areas = [step.area_of_use for step in steps if step.type_name != "Conversion"]
    if not steps and accuracy != 0:
        areas = [transformer.area_of_use]
    return _Candidate(
        pipeline=transformer.definition,
        name=transformer.description,
        accuracy=accuracy if accuracy >= 0 else None,
        covers=all(_covers(each, area) for each in areas),
        codes=_codes(transformer.to_json_dict()),
    )


def _unavailable(operation: Any, area: LonLatArea) -> _Candidate:
    steps = [step for step in operation.operations or () if step.type_name != "Conversion"]
    areas = [step.area_of_use for step in steps] or [operation.area_of_use]
    return _Candidate(
        pipeline="",
        name=operation.name,
        accuracy=operation.accuracy if operation.accuracy >= 0 else None,
        covers=all(_covers(each, area) for each in areas),
        codes=_codes(operation.to_json_dict()),
        missing=tuple(grid.short_name for grid in operation.grids if not grid.available),
    )


def _codes(found: Any) -> frozenset[str]:
    """Return all codes in a description of an operation, as ``EPSG:1133``."""
    return frozenset(_ids(found))


def _ids(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        kind = str(found.get("type", ""))
        identity = found.get("id")
        if isinstance(identity, dict) and kind.endswith("Transformation"):
            # An inverted or adapted one says so: INVERSE(EPSG), DERIVED_FROM(EPSG).
            authority = _WRAPPED.sub(r"\1", str(identity["authority"]))
            yield f"{authority}:{identity['code']}".upper()
        for value in found.values():
            yield from _ids(value)
    elif isinstance(found, list):
        for value in found:
            yield from _ids(value)


def _covers(use: Any, area: LonLatArea) -> bool:
    """Whether an operation is made for all of an area; True where it does not say."""
    if use is None:
        return True
    west, south, east, north = area
    slack = 1e-6
    if south < use.south - slack or north > use.north + slack:
        return False
    width = (use.east - use.west) % 360 or 360.0
    start = (west - use.west + slack) % 360 - slack
    return bool(start + (east - west) % 360 <= width + slack)


def _points_held(way: _Candidate, task: _Search) -> int:
    """Return how many points of the footprint an operation takes there and back."""
    there = transform_points(task.ends, way.pipeline, *task.points)
    back = transform_points_back(task.ends, way.pipeline, *there)
    return int(np.logical_and.reduce([np.isfinite(each) for each in (*there, *back)]).sum())


def _usable(ways: list[_Candidate], task: _Search) -> list[_Candidate]:
    """Return the operations that hold over all of the footprint that any of them can hold.

    A pole, say, has no place in Mercator's projection whatever the datum; a hole in a grid is a
    hole of one operation.
    """
    held = [_points_held(way, task) for way in ways]
    most = max(held, default=0)
    return [way for way, points in zip(ways, held, strict=True) if points == most > 0]


def _better(way: _Candidate, than: _Candidate) -> bool:
    if way.accuracy is None:
        return False
    return than.accuracy is None or not than.covers or way.accuracy < than.accuracy


def _loss(best: _Candidate, chosen: _Candidate) -> float | None:
    if best.accuracy is None or chosen.accuracy is None:
        return None
    return round(chosen.accuracy - best.accuracy, 6)


def _loss_text(best: _Candidate, chosen: _Candidate) -> str:
    loss = _loss(best, chosen)
    cost = "accuracy that is not known" if loss is None else f"{loss:g} m of accuracy"
    has = "unknown accuracy" if chosen.accuracy is None else f"{chosen.accuracy:g} m"
    return (
        f"without the grid {', '.join(best.missing)} the coordinate operation loses {cost} "
        f"({chosen.name}: {has}; {best.name}: {best.accuracy:g} m)"
    )


def _grid_remedy(best: _Candidate) -> str:
    files = " ".join(f"--file {name}" for name in best.missing)
    return f"fetch it into PROJ's data folders of both pyproj and rasterio: projsync {files}"


def _ballpark(
    task: _Search, usable: list[_Candidate], unavailable: list[_Candidate]
) -> CoordinateOperation:
    """Return the operation that ignores the difference between two datums, where that is right."""
    source, target = task.names
    grids = sorted({grid for way in unavailable for grid in way.missing})
    fetch = [f"fetch {', '.join(grids)} with projsync"] if grids else []
    if not usable:
        raise Refused(
            f"from {source} to {target} no coordinate operation holds over all of the raster",
            ", or ".join([*(fetch or ["check --src-crs"]), "name one with --coordinate-operation"]),
        )
    chosen = usable[0]
    told, allowed = _what_is_ignored(task)
    if told is None:
        return CoordinateOperation(pipeline=chosen.pipeline, name=chosen.name, accuracy_m=None)
    pipeline = f"give the way yourself: --coordinate-operation '{chosen.pipeline}'"
    if task.policy.strict:
        raise Refused(told, ", or ".join([*fetch, "leave out --strict-crs", pipeline]))
    if not (allowed or task.policy.allow_ballpark):
        raise Refused(told, ", or ".join(["add --allow-ballpark", *fetch, pipeline]))
    return CoordinateOperation(
        pipeline=chosen.pipeline, name=chosen.name, accuracy_m=None, warnings=(told,)
    )


def _what_is_ignored(task: _Search) -> tuple[str | None, bool]:
    """Return what a ballpark ignores, None for nothing, and whether an expert would ignore it."""
    source, target = task.names
    unknown = [datum_is_unknown(crs) for crs in task.ends]
    if any(unknown):
        whose = " and ".join(
            name for name, nothing in zip(task.names, unknown, strict=True) if nothing
        )
        modern = [is_modern(crs) for crs in task.ends]
        allowed = all(map(or_, modern, unknown)) and (any(modern) or alike(*task.ends))
        shift = "" if allowed else ", though the other datum is far from those of today"
        return (
            f"the datum of {whose} is not known, so latitudes and longitudes are taken over as "
            f"they are{shift}",
            allowed,
        )
    shift_m = ignored_shift(*task.ends, task.area)
    if shift_m is not None and shift_m <= NO_SHIFT:
        return None, True
    cost = "by how much is not known"
    if shift_m is not None:
        cost = f"up to {shift_m:.2g} m, {shift_m / task.pixel_m:.2g} pixels"
    return (
        f"no coordinate operation is registered that leads from {source} to {target} all over the "
        f"raster, so the difference between their datums is ignored ({cost})",
        shift_m is not None and shift_m <= NEGLIGIBLE_SHIFT,
    )


def _named(text: str, task: _Search, ways: list[_Candidate]) -> _Candidate:
    """Return the operation that the user named."""
    code = _CODE.match(text)
    if code is None:
        return _own_pipeline(text.strip(), task, ways)
    wanted = f"{code[1]}:{code[2]}".upper()
    matching = [way for way in ways if wanted in way.codes]
    if not matching:
        known = sorted({each for way in ways if not way.ballpark for each in way.codes})
        raise Refused(
            f"{wanted} does not lead from one coordinate system of this job to the other here",
            f"use one of {', '.join(known)}" if known else "give a PROJ pipeline",
        )
    chosen = min(matching, key=lambda way: (bool(way.missing), way.rank))
    if chosen.missing:
        raise Refused(
            f"{wanted} needs the grid {', '.join(chosen.missing)}, which is not there",
            _grid_remedy(chosen),
        )
    return chosen


def _own_pipeline(text: str, task: _Search, ways: list[_Candidate]) -> _Candidate:
    remedy = (
        "give a PROJ pipeline from source to target in the authorities' axis order "
        "(EPSG:4326 is latitude, longitude), or a code such as EPSG:1133"
    )
    own = _Candidate(pipeline=text, name="as given", accuracy=None, covers=True)
    try:
        held = _points_held(own, task)
    except ProjError as error:
        raise Refused(
            f"--coordinate-operation is nothing that PROJ takes: {error}", remedy
        ) from None
    if not held:
        raise Refused("--coordinate-operation takes no point of the raster anywhere", remedy)
    for way in _usable([way for way in ways if not way.missing], task)[:1]:
        there = transform_points(task.ends, text, *task.points)
        shift = _apart(task, transform_points_back(task.ends, way.pipeline, *there))
        if not shift <= _LARGEST_SHIFT:
            raise Refused(
                f"--coordinate-operation puts the raster {shift / 1000:.0f} km off its place",
                remedy,
            )
    return own


def _apart(task: _Search, others: tuple[Floats, Floats]) -> float:
    """Return the largest distance between the footprint's points and others, in metres."""
    unit = metres_per_unit(task.ends[0])
    steps = [one - other for one, other in zip(task.points, others, strict=True)]
    apart = np.hypot(*steps)
    apart = apart[np.isfinite(apart)]
    return float(apart.max()) * unit if len(apart) else float("inf")


def _probed(operation: CoordinateOperation, task: _Search) -> CoordinateOperation:
    """Return an operation that GDAL and pyproj agree on, with a warning where it is worth one."""
    apart = proj_disagreement(task.ends, operation.pipeline, task.points)
    pixels = apart / task.pixel_m
    if pixels <= SILENT_PIXELS:
        return operation
    what = f"{apart * _MILLIMETRES:.3g} mm, {pixels:.2g} pixels"
    if pixels <= MOST_PIXELS:
        note = f"GDAL and pyproj differ by up to {what} about {operation.name}; GDAL's is taken"
        return operation.model_copy(update={"warnings": (*operation.warnings, note)})
    raise Refused(
        f"GDAL and pyproj disagree by {what} about {operation.name}",
        "give both the same PROJ grids (cogmill doctor shows where each looks), or name an "
        "operation with --coordinate-operation",
    )
