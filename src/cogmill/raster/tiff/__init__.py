"""The tags and directories of any TIFF.

Never: touches a pixel.
"""
