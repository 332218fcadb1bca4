"""Who a job is: hashes of canonical JSON (RFC 8785), the same in every process and version."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import rfc8785
from pydantic import BaseModel


def lineage(type_id: str, inputs: BaseModel, hints: Collection[str]) -> str:
    """Return the lineage of a request, 64 hex digits: its type, and its inputs but for hints.

    Fields at their default are left out, so that a new option changes no old lineage.
    """
    identity = inputs.model_dump(mode="json", exclude_defaults=True, exclude=set(hints))
    return _digest({"type": type_id, "inputs": identity})


def job_id(lineage: str, version: int, source_identity: str, engine: str, generation: int) -> str:
    """Return the id of a generation of a lineage, 32 hex digits."""
    parts = {
        "lineage": lineage,
        "version": version,
        "source": source_identity,
        "engine": engine,
        "generation": generation,
    }
    return _digest(parts)[:32]


def _digest(value: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()
