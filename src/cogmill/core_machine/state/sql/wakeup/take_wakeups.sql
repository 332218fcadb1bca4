-- Past one that is just being owed or taken: whoever does so sends it, or a reconciler.
WITH due AS (
    SELECT job_id FROM cogmill.wakeup
    WHERE sent < generation AND due_at <= cogmill.now()
    ORDER BY job_id
    FOR UPDATE SKIP LOCKED
)
UPDATE cogmill.wakeup
SET sent = generation, sent_at = cogmill.now()
FROM due
WHERE wakeup.job_id = due.job_id
RETURNING wakeup.job_id
