UPDATE cogmill.stage
SET remaining = remaining - 1
WHERE job_id = %(job_id)s AND position = %(position)s
RETURNING remaining
