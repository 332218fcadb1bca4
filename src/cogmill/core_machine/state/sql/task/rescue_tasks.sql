-- Charged as lost; the first retry is due at once, the next ones wait their turn.
WITH held AS (
    SELECT id FROM cogmill.task
    WHERE worker = %(incarnation)s AND status = 'running'
    ORDER BY id
    FOR UPDATE
)
UPDATE cogmill.task
SET status = CASE WHEN failures + 1 >= max_failures THEN 'failed' ELSE 'ready' END,
    failures = failures + 1,
    failure = %(failure)s,
    worker = NULL,
    deadline_at = NULL,
    due_at = cogmill.now() + make_interval(secs => CASE WHEN failures = 0 THEN 0 ELSE %(delay)s END),
    finished_at = CASE WHEN failures + 1 >= max_failures THEN cogmill.now() END
FROM held
WHERE task.id = held.id
RETURNING task.id, task.job_id, task.key, task.status
