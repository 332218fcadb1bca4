"""Files of every profile decode to the same pixels in readers that are not GDAL, or it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.readers.comparing import INSTALLED, READERS, Made, make_all, outcome
from tests.raster.cog.readers import PAGE, expected, page


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Give a file of each kind with each profile that holds it; most are exactly the pixels."""
    return make_all(tmp_path_factory.mktemp("files"))


@pytest.mark.external("node", "vips")
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_makes_of_every_file_what_the_page_says(
    reader: str, files: list[Made], tmp_path: Path
) -> None:
    assert (INSTALLED / "installed").exists(), "scripts/readers puts the readers there"
    READERS[reader](tmp_path, files)
    found = {each.path.stem: outcome(each, tmp_path) for each in files}
    assert found == {each.path.stem: expected(reader, each.profile, each.kind) for each in files}


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text() == page(), "python -m tests.raster.cog.readers"
