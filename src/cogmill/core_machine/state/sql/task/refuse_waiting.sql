-- A plan that waits for a worker that does not live: it cannot be cut, so its job is to fail.
UPDATE cogmill.task
SET status = 'failed', failure = %(failure)s, finished_at = cogmill.now()
WHERE id = %(task_id)s
  AND attempt = %(attempt)s
  AND status = 'ready'
  AND kind = 'plan'
  AND memory > %(budget)s
