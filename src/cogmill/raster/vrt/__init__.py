"""A source that is a VRT: checked, understood, and read through GDAL.

Never: is called within a warp.
"""
