"""Fetching and decoding each block of a TIFF source once.

Never: asks GDAL.
"""
