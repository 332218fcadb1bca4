UPDATE cogmill.wakeup
SET sent = generation, sent_at = cogmill.now()
WHERE sent < generation AND due_at <= cogmill.now()
RETURNING job_id
