"""Bytes: the one way to any file or object. Knows no pixels and no jobs."""
