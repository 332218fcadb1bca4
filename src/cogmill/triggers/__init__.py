"""What begins work from outside: each trigger is a few lines over the core machine.

Never: a transition of its own.
"""
