-- After a claim whose COMMIT got no reply: what this worker holds without knowing it goes back.
UPDATE cogmill.task
SET status = 'ready', worker = NULL, deadline_at = NULL, due_at = cogmill.now()
WHERE worker = %(incarnation)s AND status = 'running' AND NOT (id = ANY (%(held)s::bigint[]))
