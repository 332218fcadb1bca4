"""`cogmill validate`: exit codes, JSON, mosaics, and files that kill or hang whoever reads them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.harness.cogs import cog, flip, gtiff
from tests.harness.figure import Figure
from tests.harness.matrix import Shelf, row

from cogmill.catalogue.manifest import MANIFEST_NAME, Manifest, ManifestFile, ResultGrid
from cogmill.cli import validate as command
from cogmill.cli.main import call

Said = tuple[int, dict[str, Any], str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process; its reader is a child of its own all the same."""

    def run(*arguments: object) -> Said:
        code = call(["validate", *map(str, arguments), "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out.splitlines()[-1]), captured.err

    return run


def listed(path: Path) -> ManifestFile:
    data = path.read_bytes()
    window = (0, 0, 300, 200) if path.suffix == ".tif" else None
    return ManifestFile(
        name=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest(), window=window
    )


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    folder = tmp_path / "mosaic"
    folder.mkdir()
    tiles = [cog(folder / f"tile_{number}.tif", (300, 200)) for number in range(3)]
    (folder / "mosaic.vrt").write_text("<VRTDataset/>")
    manifest = Manifest(
        kind="mosaic",
        grid=ResultGrid(crs=None, transform=(0, 1, 0, 0, 0, -1), width=300, height=200),
        tile_size=1024,
        files=tuple(listed(path) for path in [*tiles, folder / "mosaic.vrt"]),
    )
    (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return folder


def test_a_valid_cog_is_0_and_its_json_shows_the_levels(say: Any, tmp_path: Path) -> None:
    path = cog(tmp_path / "cog.tif", mask=True)
    code, document, said = say(path, "--strict")
    assert code == 0
    assert (document["valid"], document["strict"], document["errors"]) == (True, True, [])
    assert document["source"] == str(path)
    assert document["blocks_decoded"] == sum(level["blocks"] for level in document["levels"])
    assert f"{path} is a valid COG" in said


def test_warnings_are_0_and_1_when_strict(say: Any, tmp_path: Path) -> None:
    path = cog(tmp_path / "cog.tif", OVERVIEWS="NONE")
    assert say(path)[0] == 0
    code, document, said = say(path, "--strict")
    assert (code, document["valid"]) == (1, False)
    assert [found["rule"] for found in document["warnings"]] == ["overviews"]
    assert "is NOT a valid COG: 0 errors, 1 warnings" in said


def test_findings_say_what_where_and_what_to_do(say: Any, tmp_path: Path) -> None:
    path = gtiff(tmp_path / "plain.tif", (1100, 600))
    code, document, said = say(path)
    assert code == 1
    assert {"rule", "where", "message", "remedy"} == set(document["errors"][0])
    assert f"error: {path}: main image: it is 1100 x 600 pixels and not tiled" in said
    assert "write it anew as a COG: cogmill run INPUT OUTPUT.tif" in said


@pytest.mark.parametrize("name", ["missing.tif", "folder", "folder/"])
def test_what_is_no_file_is_2(name: str, say: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    code, document, said = say(f"{tmp_path}/{name}")
    assert (code, document["status"]) == (2, "refused")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("action", ["kill", "hang"])
def test_a_file_that_kills_or_hangs_its_reader_is_not_valid_and_the_next_is_read(
    action: str, say: Any, mosaic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGMILL_FAILPOINTS", f"child.begin={action}@{mosaic.parent}/struck")
    monkeypatch.setattr(command, "QUIET_SECONDS", 5.0)
    code, document, said = say(mosaic)
    first, *others = document["files"]
    assert (code, first["errors"][0]["rule"]) == (1, "readable")
    assert all(each["valid"] for each in others)
    assert "Traceback" not in said


def test_a_mosaic_is_valid_when_every_file_is_as_listed(say: Any, mosaic: Path) -> None:
    code, document, said = say(mosaic)
    assert (code, document["valid"]) == (0, True)
    assert [each["name"] for each in document["files"]] == [
        "mosaic.vrt", "tile_0.tif", "tile_1.tif", "tile_2.tif",
    ]  # fmt: skip
    assert "4 files as listed" in said


def test_a_mosaic_names_every_file_that_is_not_as_listed(say: Any, mosaic: Path) -> None:
    (mosaic / "tile_0.tif").unlink()
    flip(mosaic / "tile_1.tif", (mosaic / "tile_1.tif").stat().st_size - 40)
    (mosaic / "mosaic.vrt").write_text("<VRTDataset></VRTDataset>")
    code, document, said = say(mosaic)
    wrong = {
        each["name"]: {found["rule"] for found in each["errors"]}
        for each in document["files"]
        if not each["valid"]
    }
    assert code == 1
    assert wrong == {
        "tile_0.tif": {"as-listed"},
        "tile_1.tif": {"as-listed", "undecodable"},
        "mosaic.vrt": {"as-listed"},
    }
    assert "is NOT valid: 3 of 4 files are wrong" in said


@pytest.mark.parametrize("manifest", ["{}", "[" * 100_000, '{"version": 99}'])
def test_a_manifest_that_cannot_be_read_is_a_finding(manifest: str, say: Any, mosaic: Path) -> None:
    (mosaic / MANIFEST_NAME).write_text(manifest)
    code, document, _ = say(mosaic)
    assert code == 1
    assert [each["errors"][0]["rule"] for each in document["files"]] == ["manifest"]


@pytest.mark.parametrize("kind", ["mosaic", "one COG"])
def test_what_cogmill_makes_is_valid_strictly(
    kind: str, say: Any, shelf: Shelf, figure: Figure
) -> None:
    made = shelf.made(*row(kind=kind))
    code, document, said = say(made.destination, "--strict")
    figure.command = "cogmill validate --strict"
    figure.measured(f"{document['blocks_decoded']} blocks decoded")
    assert code == 0, said
    assert document["blocks_decoded"] > 20
