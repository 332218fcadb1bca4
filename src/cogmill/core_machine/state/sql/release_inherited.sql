UPDATE cogmill.cleanup
SET due_at = cogmill.now() + make_interval(secs => %(delay)s)
WHERE heir = %(job_id)s AND done_at IS NULL AND due_at = 'infinity'
