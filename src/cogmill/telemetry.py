"""Logs: set up once, written as text for people or as JSON lines for machines.

A structured event is a log record with `event` and its fields in `extra`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

_logger = logging.getLogger("cogmill")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        rest = " ".join(f"{key}={value}" for key, value in fields.items() if key != "event")
        return super().format(record) + (f" {rest}" if rest else "")


def set_up(level: str, form: str) -> None:
    """Send the package's logs to standard error in the given form (``text`` or ``json``)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    _logger.handlers = [handler]
    _logger.setLevel(level)
    _logger.propagate = False


def event(name: str, **fields: Any) -> None:
    """Log one structured event at level INFO."""
    _logger.info(name, extra={"fields": {"event": name, **fields}})
