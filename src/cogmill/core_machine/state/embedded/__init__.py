"""The embedded PostgreSQL server: its files, its life and its keeper.

Never: runs a statement of the machine.
"""
