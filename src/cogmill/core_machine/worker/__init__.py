"""A worker: its slots, its heartbeat, what is in flight, and how it starts and stops.

Never: decides what an outcome means.
"""
