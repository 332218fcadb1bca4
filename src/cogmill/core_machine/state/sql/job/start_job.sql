-- Only the end of a job locks its row, and then its start no longer matters: a claim never waits.
UPDATE cogmill.job
SET status = 'running', started_at = cogmill.now()
WHERE id = (SELECT id FROM cogmill.job
            WHERE id = %(job_id)s AND status = 'accepted'
            FOR NO KEY UPDATE SKIP LOCKED)
