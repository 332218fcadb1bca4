"""What a whole job leaves in its destination: indexes, and nothing of an older result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.raster.whole_job import WholeJob, write_raster

MOON = (
    'GEOGCS["Moon",DATUM["D_Moon",SPHEROID["Moon",1737400,0]],PRIMEM["0",0],'
    'UNIT["degree",0.0174532925199433]]'
)
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
#: The whole disc that a satellite sees: no pixel on the raster's edge lies on Earth.
DISC = "+proj=geos +lon_0=-75 +h=35786023 +sweep=x +ellps=GRS80 +units=m"


def ramp(height: int = 700, width: int = 1100, dtype: str = "uint8") -> np.ndarray[Any, Any]:
    rows, cols = np.mgrid[:height, :width]
    return (1 + (rows + cols) % 200).astype(dtype)[np.newaxis]


@pytest.mark.parametrize("crs", [MOON, LOCAL, DISC], ids=["the Moon", "local", "a whole disc"])
def test_pixels_without_an_outline_on_earth_are_copied_and_indexed(tmp_path: Path, crs: str):
    transform = rasterio.Affine(10000, 0, -5500000, 0, -15700, 5500000)
    if crs == MOON:
        transform = rasterio.Affine(0.1, 0, 0, 0, -0.1, 40)
    source = write_raster(tmp_path / "in.tif", ramp(), crs=crs, transform=transform)
    job = WholeJob(source, f"{tmp_path}/out/").run()
    with rasterio.open(job.outputs.main) as file:
        assert np.array_equal(file.read(), ramp())
    index = json.loads((tmp_path / "out" / "mosaic.geojson").read_bytes())
    assert len(index["features"]) == 6
    assert any(each["geometry"] is None for each in index["features"])
