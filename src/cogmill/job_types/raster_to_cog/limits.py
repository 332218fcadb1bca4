"""How long the tasks of raster-to-cog may take, and what memory publishing asks for."""

from __future__ import annotations

TASK_SECONDS = 3600


STILL_SECONDS = 1200
"""A tile reports every row of blocks: none for so long, and its attempt hangs."""


PUBLISH_SECONDS = 6 * 3600


PUBLISH_MEMORY = 256 * 2**20
"""Publishing streams a few blocks; this is the process itself and its indexes."""
