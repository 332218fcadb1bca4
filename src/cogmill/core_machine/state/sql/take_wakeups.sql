UPDATE cogmill.wakeup
SET sent = generation
WHERE sent < generation AND due_at <= cogmill.now()
RETURNING job_id
