"""Every acceptance test leaves a line of the acceptance list."""

from __future__ import annotations

from tests.harness.command import mill as mill
from tests.harness.command import typed as typed
from tests.harness.figure import figure as figure
from tests.harness.figure import pytest_configure as pytest_configure
from tests.harness.figure import pytest_runtest_makereport as pytest_runtest_makereport
from tests.harness.figure import pytest_runtest_protocol as pytest_runtest_protocol
from tests.harness.fleet import fleet as fleet
from tests.harness.fleet import no_raster as no_raster
from tests.harness.matrix import shelf as shelf
