"""What every test may ask for; what it is stands in tests/harness."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.harness")
pytest_plugins = (
    "tests.harness.plugin",
    "tests.harness.durations",
    "tests.harness.clock",
    "tests.harness.server",
    "tests.harness.nursery",
    "tests.harness.site",
)
