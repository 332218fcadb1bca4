-- Due, and no attempt of the job can still write: a live worker that lists one, or that has not
-- beaten since the job was cut off, may still have a child at work. (After a success no task ran.)
-- Nor does a live job own the destination: it may be publishing, or it will know what lies there by
-- what this job has recorded. A worker of some jobs alone pays the debts of their
-- destinations too.
WITH me AS (
    SELECT * FROM cogmill.worker
    WHERE incarnation = %(incarnation)s AND status = 'live'
    FOR SHARE
), chosen AS (
    SELECT cleanup.job_id,
           job.status = 'successful' OR EXISTS (
               SELECT FROM cogmill.job AS later
               WHERE later.owns = job.owns AND later.id <> job.id
                 AND later.status = 'successful' AND later.created_at >= job.finished_at
           ) AS result_stays
    FROM me
    JOIN cogmill.cleanup ON cleanup.done_at IS NULL
        AND cleanup.worker IS NULL
        AND cleanup.due_at <= cogmill.now()
        AND cleanup.reach = ANY (me.reaches)
        AND cleanup.job_type || ':' || cleanup.job_version = ANY (me.job_types)
    JOIN cogmill.job ON job.id = cleanup.job_id
    WHERE (me.only_jobs IS NULL
           OR job.id = ANY (me.only_jobs)
           OR job.owns IN (SELECT owns FROM cogmill.job WHERE id = ANY (me.only_jobs)))
      AND NOT EXISTS (
        SELECT FROM cogmill.job AS owner
        WHERE owner.owns = job.owns AND owner.status IN ('accepted', 'running')
    ) AND NOT EXISTS (
        SELECT FROM cogmill.worker AS writer
        WHERE writer.status = 'live'
          AND ((job.status <> 'successful' AND writer.beat_at < job.finished_at)
               OR EXISTS (SELECT FROM jsonb_to_recordset(writer.progress) AS held (job_id text)
                          WHERE held.job_id = cleanup.job_id))
    )
    ORDER BY cleanup.due_at
    LIMIT 1
    FOR UPDATE OF cleanup SKIP LOCKED
)
UPDATE cogmill.cleanup
SET worker = %(incarnation)s, attempt = cleanup.attempt + 1, claimed_at = cogmill.now()
FROM chosen
WHERE cleanup.job_id = chosen.job_id
RETURNING cleanup.job_id, cleanup.job_type, cleanup.job_version, cleanup.attempt,
          chosen.result_stays
