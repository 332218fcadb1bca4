"""The pieces of the source that stages hand on: written and read.

Never: holds a TIFF.
"""
