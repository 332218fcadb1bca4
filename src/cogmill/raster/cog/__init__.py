"""Pixels to encoded blocks, blocks to one file, and the proof of it.

Never: reads a source.
"""
