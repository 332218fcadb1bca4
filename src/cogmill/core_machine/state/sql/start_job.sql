UPDATE cogmill.job
SET status = 'running', started_at = cogmill.now()
WHERE id = %(job_id)s AND status = 'accepted'
