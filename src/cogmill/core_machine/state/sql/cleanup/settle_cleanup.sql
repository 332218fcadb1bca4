UPDATE cogmill.cleanup
SET worker = NULL,
    failure = %(failure)s,
    done_at = CASE WHEN %(failure)s::jsonb IS NULL THEN cogmill.now() END,
    due_at = cogmill.now() + make_interval(secs => %(delay)s)
WHERE job_id = %(job_id)s AND attempt = %(attempt)s AND worker = %(incarnation)s
