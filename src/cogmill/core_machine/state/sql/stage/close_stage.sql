UPDATE cogmill.stage
SET status = 'closed', remaining = 0, finished_at = cogmill.now()
WHERE job_id = %(job_id)s AND position = %(position)s AND status = 'running'
