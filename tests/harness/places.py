"""Where things lie that tests use."""

from __future__ import annotations

from pathlib import Path

#: The project.
ROOT = Path(__file__).resolve().parents[2]
#: Job types that no user has, each a package that children find by this path.
PACKAGES = str(ROOT / "tests" / "packages")
#: A ``sitecustomize.py`` for children that work on no raster: to load GDAL is most of their start.
NO_RASTER = """
from cogmill.job_types.raster_to_cog import job_type
job_type.RasterToCog.engine = lambda self: "none here"
"""
