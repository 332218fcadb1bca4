"""cogmill turns huge rasters into reprojected Cloud Optimized GeoTIFFs and never loses a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cogmill.api import Job, submit

__all__ = ["Job", "submit"]


def __getattr__(name: str) -> Any:
    # Lazily: `import cogmill` must stay cheap for children and for the command line's help.
    if name in __all__:
        from cogmill import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
