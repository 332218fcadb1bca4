"""The parent's side of a child process: its life, and the frames on its pipes.

Never: touches the database.
"""
