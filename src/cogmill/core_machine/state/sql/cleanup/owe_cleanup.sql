INSERT INTO cogmill.cleanup (job_id, job_type, job_version, reach, due_at)
SELECT id, type, version, reach, cogmill.now() + make_interval(secs => %(delay)s)
FROM cogmill.job
WHERE id = %(job_id)s
ON CONFLICT (job_id) DO NOTHING
