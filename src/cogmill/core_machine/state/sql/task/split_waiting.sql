-- A task that waits for a worker that does not live becomes the one that plans it again smaller; one
-- that is that already is to do with less.
UPDATE cogmill.task
SET kind = 'split',
    split_budget = least(task.split_budget, %(budget)s),
    split_memory = CASE task.kind WHEN 'work' THEN task.memory ELSE task.split_memory END,
    memory = least(stage.plan_memory, %(budget)s),
    seconds = stage.plan_seconds,
    still_seconds = NULL,
    due_at = cogmill.now(),
    failures = 0
FROM cogmill.stage
WHERE task.id = %(task_id)s
  AND task.attempt = %(attempt)s
  AND task.status = 'ready'
  AND task.kind IN ('work', 'split')
  AND task.memory > %(budget)s
  AND stage.job_id = task.job_id
  AND stage.position = task.position
RETURNING task.job_id, task.key
