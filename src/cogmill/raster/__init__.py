"""Pixels: inspect, plan, read, warp, reduce, encode, lay out. Knows no jobs and no buckets."""
