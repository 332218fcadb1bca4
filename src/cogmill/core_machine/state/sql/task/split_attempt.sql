-- The fence again: the attempt ends, and its task becomes the one that plans it again smaller. What
-- it said that it needs was too little: as a whole it may need twice as much.
UPDATE cogmill.task
SET kind = 'split',
    split_budget = %(budget)s,
    split_memory = 2 * task.memory,
    memory = least(stage.plan_memory, %(budget)s),
    seconds = stage.plan_seconds,
    still_seconds = NULL,
    status = 'ready',
    worker = NULL,
    deadline_at = NULL,
    due_at = cogmill.now(),
    failure = %(failure)s,
    failures = 0,
    memory_failures = memory_failures + 1
FROM cogmill.stage
WHERE task.id = %(task_id)s
  AND task.attempt = %(attempt)s
  AND task.worker = %(incarnation)s
  AND task.status = 'running'
  AND task.kind = 'work'
  AND stage.job_id = task.job_id
  AND stage.position = task.position
