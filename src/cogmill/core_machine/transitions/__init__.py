"""The transitions that processors, workers and the reconciler share.

Never: holds a thread or a child of its own.
"""
