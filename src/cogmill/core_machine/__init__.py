"""The core machine: jobs, stages, tasks; state in PostgreSQL; three triggers on the same contracts.

Never: pixels, buckets, an import of a job type.
"""
