"""Where things lie that tests use."""

from __future__ import annotations

from pathlib import Path

#: The project.
ROOT = Path(__file__).resolve().parents[2]
#: Job types that no user has, each a package that children find by this path.
PACKAGES = str(ROOT / "tests" / "packages")
