-- After a claim whose COMMIT got no reply: what this worker holds without knowing it goes back.
WITH unknown AS (
    SELECT id FROM cogmill.task
    WHERE worker = %(incarnation)s AND status = 'running' AND NOT (id = ANY (%(held)s::bigint[]))
    ORDER BY id
    FOR UPDATE
)
UPDATE cogmill.task
SET status = 'ready', worker = NULL, deadline_at = NULL, due_at = cogmill.now()
FROM unknown
WHERE task.id = unknown.id
