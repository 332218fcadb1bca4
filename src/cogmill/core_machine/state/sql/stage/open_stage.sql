UPDATE cogmill.stage
SET status = 'planning', started_at = cogmill.now()
WHERE job_id = %(job_id)s AND position = %(position)s AND status = 'pending'
