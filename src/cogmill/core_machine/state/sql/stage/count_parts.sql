-- Never below zero, as a count-down.
UPDATE cogmill.stage
SET remaining = greatest(remaining - 1 + %(open)s, 0), planned = planned - 1 + %(parts)s
WHERE job_id = %(job_id)s AND position = %(position)s
RETURNING remaining
