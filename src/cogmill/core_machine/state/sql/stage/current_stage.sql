-- The first stage that is not closed, with the proof that no task of it is open; and what cannot be:
-- a stage without its plan, a closed one with an open task, live parts of a job that has ended.
SELECT job.status AS job_status,
       stage.position,
       stage.name,
       stage.status,
       EXISTS (SELECT FROM cogmill.task
               WHERE task.job_id = stage.job_id AND task.position = stage.position
                 AND task.status IN ('ready', 'running')) AS has_open,
       EXISTS (SELECT FROM cogmill.task
               WHERE task.job_id = stage.job_id AND task.position = stage.position
                 AND task.status = 'failed') AS has_failed,
       (SELECT task.status FROM cogmill.task
        WHERE task.job_id = stage.job_id AND task.position = stage.position
          AND task.kind = 'plan') AS plan_status,
       EXISTS (SELECT FROM cogmill.stage AS early
               JOIN cogmill.task ON task.job_id = early.job_id AND task.position = early.position
                AND task.status IN ('ready', 'running')
               WHERE early.job_id = job.id AND early.status IN ('closed', 'cancelled')
              ) AS has_stray
FROM cogmill.job
LEFT JOIN LATERAL (
    SELECT * FROM cogmill.stage
    WHERE stage.job_id = job.id AND stage.status IN ('pending', 'planning', 'running')
    ORDER BY stage.position
    LIMIT 1
) AS stage ON true
WHERE job.id = %(job_id)s
