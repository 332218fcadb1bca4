-- Run twice by its caller: the second look sees what a plan committed while the first one waited.
WITH locked AS (
    SELECT id FROM cogmill.task
    WHERE job_id = %(job_id)s AND status IN ('ready', 'running')
    ORDER BY id
    FOR UPDATE
)
UPDATE cogmill.task
SET status = 'cancelled', worker = NULL, deadline_at = NULL, finished_at = cogmill.now()
FROM locked
WHERE task.id = locked.id
