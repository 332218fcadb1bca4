"""What is done with a raster, how the work is cut, what it costs; said to people too.

Never: reads a pixel.
"""
