"""How long the tasks of raster-to-cog may take, and what memory publishing asks for."""

from __future__ import annotations

TASK_SECONDS = 3600
"""Seconds that any task but publishing may take."""
STILL_SECONDS = 1200
"""Seconds without a reported row of blocks after which a tile's attempt is taken to hang."""
PUBLISH_SECONDS = 6 * 3600
"""Seconds that publishing may take, which copies the whole result where a store cannot rename."""
PUBLISH_MEMORY = 256 * 2**20
"""Publishing streams a few blocks; this is the process itself and its indexes."""
