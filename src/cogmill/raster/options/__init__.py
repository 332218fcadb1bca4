"""What a user may ask of a plan.

Never: imports NumPy or GDAL: parents import it.
"""
