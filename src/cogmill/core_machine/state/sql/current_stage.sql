-- The first stage that is not closed, with the proof that no task of it is open.
SELECT job.status AS job_status,
       stage.position,
       stage.name,
       stage.status,
       EXISTS (SELECT FROM cogmill.task
               WHERE task.job_id = stage.job_id AND task.position = stage.position
                 AND task.status IN ('ready', 'running')) AS has_open,
       EXISTS (SELECT FROM cogmill.task
               WHERE task.job_id = stage.job_id AND task.position = stage.position
                 AND task.status = 'failed') AS has_failed
FROM cogmill.job
LEFT JOIN LATERAL (
    SELECT * FROM cogmill.stage
    WHERE stage.job_id = job.id AND stage.status IN ('pending', 'planning', 'running')
    ORDER BY stage.position
    LIMIT 1
) AS stage ON true
WHERE job.id = %(job_id)s
