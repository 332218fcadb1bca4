-- Due, and no attempt of the job can still write.
WITH me AS (
    SELECT * FROM cogmill.worker
    WHERE incarnation = %(incarnation)s AND status = 'live'
    FOR SHARE
), chosen AS (
    SELECT cleanup.job_id
    FROM me
    JOIN cogmill.cleanup ON cleanup.done_at IS NULL
        AND cleanup.worker IS NULL
        AND cleanup.due_at <= cogmill.now()
        AND cleanup.reach = ANY (me.reaches)
        AND cleanup.job_type || ':' || cleanup.job_version = ANY (me.job_types)
        AND (me.only_job IS NULL OR cleanup.job_id = me.only_job)
    WHERE NOT EXISTS (
        SELECT FROM cogmill.worker AS writer, jsonb_to_recordset(writer.progress) AS held (job_id text)
        WHERE writer.status = 'live' AND held.job_id = cleanup.job_id
    )
    ORDER BY cleanup.due_at
    LIMIT 1
    FOR UPDATE OF cleanup SKIP LOCKED
)
UPDATE cogmill.cleanup
SET worker = %(incarnation)s, attempt = cleanup.attempt + 1
FROM chosen
WHERE cleanup.job_id = chosen.job_id
RETURNING cleanup.job_id, cleanup.job_type, cleanup.job_version, cleanup.attempt
