"""What a TIFF source is: its structure and what its pixels mean.

Never: decodes a block.
"""
