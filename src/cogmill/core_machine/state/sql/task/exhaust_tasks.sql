-- A task that has used up its attempts and waits for one more has failed.
UPDATE cogmill.task
SET status = 'failed', finished_at = cogmill.now()
WHERE job_id = %(job_id)s AND position = %(position)s AND status = 'ready'
  AND failures >= max_failures
RETURNING key
