-- A task that waits for a time that never comes; the longest back-off is a quarter of an hour.
UPDATE cogmill.task
SET due_at = cogmill.now()
WHERE job_id = %(job_id)s AND position = %(position)s AND status = 'ready'
  AND due_at > cogmill.now() + interval '25 hours'
