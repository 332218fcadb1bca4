UPDATE cogmill.stage
SET remaining = remaining - 1 + %(parts)s, planned = planned - 1 + %(parts)s
WHERE job_id = %(job_id)s AND position = %(position)s
RETURNING remaining
