"""The version of cogmill, which is part of every job's engine."""

from typing import Final

VERSION: Final = "0.1.0"
