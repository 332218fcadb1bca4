"""Judging whether a file that anybody made is a COG, all of it.

Never: writes; trusts a header.
"""
