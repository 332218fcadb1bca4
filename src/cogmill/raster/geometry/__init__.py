"""Grids, coordinate systems, control points, seams.

Never: opens a file, except a DEM and a reference raster.
"""
