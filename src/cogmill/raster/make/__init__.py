"""Work tiles to rows of pixels of the target.

Never: a job, a file's name.
"""
