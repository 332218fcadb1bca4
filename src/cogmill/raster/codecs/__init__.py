"""One block: bytes to pixels and back.

Never: knows where a block lies.
"""
