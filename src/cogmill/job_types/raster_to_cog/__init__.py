"""raster-to-cog: one raster becomes one COG, or a mosaic of COG tiles.

Parents import `job_type`, `request`, `inputs`, `outputs` and `limits`, which load no
GDAL; the work is in the other modules, loaded in a child when it is called for.

Never: a decision about when work is done.
"""
