"""What the baseline says of records that differ; making them is not tested here."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.baseline.outputs import DESTINATIONS, MODES, STRATEGIES, combinations, compared

SAME = "one-bit/copy/direct/cog/one.tif"
CHANGED = "alpha/warp/direct/mosaic/cogmill.json"
REFUSED = "no-system/warp/direct/cog"


def a_record() -> dict[str, Any]:
    return {
        "engine": "gdal 3.10.3",
        "inputs": {"one-bit/input.tif": "1"},
        "jobs": ["one-bit/copy/direct/cog", "alpha/warp/direct/mosaic", REFUSED],
        "outputs": {SAME: "aa", CHANGED: "bb", REFUSED: "Refused: it has no system"},
    }


def test_a_record_is_the_same_as_itself() -> None:
    lines, same = compared(a_record(), a_record())
    assert same
    assert lines == ["3 of 3 outputs are the same; 0 differ, 0 are missing, 0 are new"]


def test_what_differs_is_missing_or_is_new_is_named_and_makes_the_records_differ() -> None:
    now = a_record()
    now["outputs"][CHANGED] = "cc"
    now["outputs"][f"{REFUSED}/one.tif"] = "dd"
    del now["outputs"][REFUSED]
    lines, same = compared(a_record(), now)
    assert not same
    assert lines == [
        f"  differs: {CHANGED}: bb was, cc is",
        f"  missing: {REFUSED}",
        f"  new: {REFUSED}/one.tif",
        "1 of 3 outputs are the same; 1 differ, 1 are missing, 1 are new",
    ]


@pytest.mark.parametrize("part", ["changed", "missing", "new"])
def test_one_difference_of_any_sort_is_enough(part: str) -> None:
    now = a_record()
    outputs = {
        "changed": {**now["outputs"], SAME: "another"},
        "missing": {SAME: "aa", CHANGED: "bb"},
        "new": {**now["outputs"], "more": "ee"},
    }
    _, same = compared(a_record(), {**now, "outputs": outputs[part]})
    assert not same


def test_another_engine_and_another_input_are_said_and_outputs_are_compared_all_the_same() -> None:
    now = {**a_record(), "engine": "gdal 3.11.0", "inputs": {"one-bit/input.tif": "2"}}
    lines, same = compared(a_record(), now)
    assert same
    assert lines[0].startswith("the engines differ")
    assert "  now:    gdal 3.11.0" in lines
    assert "  differs: one-bit/input.tif: 1 was, 2 is" in lines
    now["outputs"] = {**now["outputs"], SAME: "another"}
    assert not compared(a_record(), now)[1]


def test_outputs_of_jobs_that_were_not_run_this_time_are_left_out_and_that_is_said() -> None:
    now = a_record()
    now["jobs"] = now["jobs"][1:]
    del now["outputs"][SAME]
    lines, same = compared(a_record(), now)
    assert same
    assert lines == [
        "1 of 3 jobs were not run this time",
        "2 of 2 outputs are the same; 0 differ, 0 are missing, 0 are new",
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_four_jobs_of_a_kind_have_every_pair_of_mode_strategy_and_destination(number: int) -> None:
    found = combinations(number, half=True)
    assert len(found) == 4
    for axes in itertools.combinations((MODES, STRATEGIES, DESTINATIONS), 2):
        pairs = {pair for job in found for pair in itertools.combinations(job, 2)}
        assert set(itertools.product(*axes)) <= pairs


def test_the_kinds_take_halves_in_turn_that_are_together_all_eight_jobs() -> None:
    halves = {*combinations(0, half=True), *combinations(1, half=True)}
    assert halves == set(combinations(0, half=False))
    assert len(halves) == 8
