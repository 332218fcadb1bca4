"""Submits many jobs by `cogmill.submit`: a script for the Python of the checkout that is measured.

It reads a JSON list of ``[source, destination, options]`` from standard input and prints a list of
``[job id, null]`` or ``[null, message]``. It knows nothing but what users know: `import cogmill`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import cogmill


def submitted(source: str, destination: str, options: dict[str, Any]) -> tuple[str | None, str]:
    """Return the id of the job; or None and the sentence that refuses it."""
    try:
        return cogmill.submit(source, destination, **options).id, ""
    except Exception as error:
        # Its name tells a refusal from a defect, and both are outcomes to compare.
        return None, f"{type(error).__name__}: {error}"


def main() -> None:
    json.dump([submitted(*asked) for asked in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
