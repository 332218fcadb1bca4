"""GDAL's own validator of COGs, run as a program of Debian's Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

COMMAND = (
    "/usr/bin/python3", "-m", "osgeo_utils.samples.validate_cloud_optimized_geotiff",
    "--full-check=yes",
)  # fmt: skip


def assert_valid(path: Path) -> None:
    """Assert that it takes a file for a COG, without a warning."""
    done = subprocess.run(
        [*COMMAND, str(path)],
        capture_output=True,
        text=True,
        check=False,
        # This Python finds its own PROJ, not the one of a wheel.
        env={"PATH": "/usr/bin:/bin", "LANG": "C"},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "is a valid cloud optimized GeoTIFF" in said
    assert "warning" not in said.lower()
