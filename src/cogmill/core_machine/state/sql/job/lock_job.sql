-- First in the lock order: advance, cancel and fail-fast of one job never interleave.
SELECT pg_advisory_xact_lock(hashtextextended('cogmill.job:' || %(job_id)s, 0))
