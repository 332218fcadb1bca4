WITH held AS (
    SELECT id FROM cogmill.task
    WHERE worker = %(incarnation)s AND status = 'running'
    ORDER BY id
    FOR UPDATE
)
UPDATE cogmill.task
SET deadline_at = deadline_at + make_interval(secs => %(seconds)s)
FROM held
WHERE task.id = held.id
