-- The fence: only the current (task, attempt, incarnation) ends an attempt.
UPDATE cogmill.task
SET status = %(status)s,
    failure = %(failure)s,
    failures = failures + %(charged)s,
    memory_failures = memory_failures + %(of_memory)s,
    due_at = cogmill.now() + make_interval(secs => %(delay)s),
    worker = NULL,
    deadline_at = NULL,
    finished_at = CASE WHEN %(status)s = 'ready' THEN NULL ELSE cogmill.now() END
WHERE id = %(task_id)s
  AND attempt = %(attempt)s
  AND worker = %(incarnation)s
  AND status = 'running'
