UPDATE cogmill.stage
SET status = 'cancelled', finished_at = cogmill.now()
WHERE job_id = %(job_id)s AND status IN ('pending', 'planning', 'running')
