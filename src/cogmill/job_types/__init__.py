"""What work is done: the extension point, and the only place where machine and pixels meet.

Never: a connection, a thread, a decision about when work is done.
"""
