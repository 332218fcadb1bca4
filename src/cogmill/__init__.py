"""cogmill turns huge rasters into reprojected Cloud Optimized GeoTIFFs and never loses a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogmill.version import VERSION

if TYPE_CHECKING:
    from cogmill.api import Job, submit

__all__ = ["Job", "__version__", "submit"]

__version__ = VERSION


def __getattr__(name: str) -> Any:
    # Lazily: `import cogmill` must stay cheap for children and for the command line's help.
    if name in ("Job", "submit"):
        from cogmill import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
