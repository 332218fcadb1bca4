"""One exact warp of held pixels, and what it needs of the source.

Never: opens the source.
"""
