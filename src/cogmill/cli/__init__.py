"""The command line: what a person types, sees, and gets as an exit code.

Never: a decision about work, a statement of SQL, a pixel.
"""
