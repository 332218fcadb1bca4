-- Never below zero: a count that drifted refuses no result, and the probe of an advance is the proof.
UPDATE cogmill.stage
SET remaining = greatest(remaining - 1, 0)
WHERE job_id = %(job_id)s AND position = %(position)s
RETURNING remaining
