"""What the environment says is what is in force; what is nearly a setting is refused."""

from __future__ import annotations

import pytest

from cogmill.errors import Refused
from cogmill.settings import Settings


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("COGMILL_DATABASE", "COGMILL_DATABASE_URL"),
        ("COGMILL_WORKER", "COGMILL_WORKERS"),
        ("COGMILL_MEMROY", "COGMILL_MEMORY"),
        ("COGMILL_PACES__BEAT", "COGMILL_PACE"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_refused_with_the_one_that_was_meant(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(Refused, match=f"no setting {variable}") as refused:
        Settings.load()
    assert meant in refused.value.remedy


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGMILL_LANDSAT_ARCHIVE", "x")
    monkeypatch.setenv("COGMILL_TEST_CORPUS", "x")
    Settings.load()
