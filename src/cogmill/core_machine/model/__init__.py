"""The machine's values: what is recorded, how an attempt ends, who a job is.

Never: asks the database.
"""
