-- After a claim whose COMMIT got no reply: what this worker holds without knowing it goes back.
UPDATE cogmill.cleanup
SET worker = NULL
WHERE worker = %(incarnation)s AND done_at IS NULL AND NOT (job_id = ANY (%(held)s::text[]))
