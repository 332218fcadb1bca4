-- Live jobs whose current stage has no open task, or a failed one: somebody settled and died.
-- Two seconds' grace: whoever settled the last task is usually just about to advance.
SELECT job.id
FROM cogmill.job
JOIN LATERAL (
    SELECT * FROM cogmill.stage
    WHERE stage.job_id = job.id AND stage.status IN ('pending', 'planning', 'running')
    ORDER BY stage.position
    LIMIT 1
) AS stage ON true
WHERE job.status IN ('accepted', 'running')
  AND NOT EXISTS (SELECT FROM cogmill.task
                  WHERE task.job_id = job.id AND task.position = stage.position
                    AND task.finished_at > cogmill.now() - interval '2 seconds')
  AND (NOT EXISTS (SELECT FROM cogmill.task
                   WHERE task.job_id = job.id AND task.position = stage.position
                     AND task.status IN ('ready', 'running'))
       OR EXISTS (SELECT FROM cogmill.task
                  WHERE task.job_id = job.id AND task.position = stage.position
                    AND task.status = 'failed'))
UNION ALL
SELECT job.id
FROM cogmill.job
WHERE job.status IN ('accepted', 'running')
  AND NOT EXISTS (SELECT FROM cogmill.stage
                  WHERE stage.job_id = job.id AND stage.status IN ('pending', 'planning', 'running'))
ORDER BY 1
