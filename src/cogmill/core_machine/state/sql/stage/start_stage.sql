UPDATE cogmill.stage
SET status = 'running', planned = %(planned)s, remaining = %(remaining)s, shared = %(shared)s
WHERE job_id = %(job_id)s AND position = %(position)s AND status = 'planning'
