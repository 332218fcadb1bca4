-- Live jobs whose current stage has no open task, or a failed one: somebody settled and died.
-- Two seconds' grace, asked for last since it looks at every task of the stage: whoever settled the
-- last task is usually just about to advance.
SELECT job.id
FROM cogmill.job
LEFT JOIN LATERAL (
    SELECT * FROM cogmill.stage
    WHERE stage.job_id = job.id AND stage.status IN ('pending', 'planning', 'running')
    ORDER BY stage.position
    LIMIT 1
) AS stage ON true
WHERE job.status IN ('accepted', 'running')
  AND CASE
      WHEN stage.position IS NULL THEN true
      WHEN EXISTS (SELECT FROM cogmill.task
                   WHERE task.job_id = job.id AND task.position = stage.position
                     AND task.status = 'failed'
                     AND task.finished_at <= cogmill.now() - interval '2 seconds') THEN true
      WHEN EXISTS (SELECT FROM cogmill.task
                   WHERE task.job_id = job.id AND task.position = stage.position
                     AND task.status IN ('ready', 'running')) THEN false
      ELSE NOT EXISTS (SELECT FROM cogmill.task
                       WHERE task.job_id = job.id AND task.position = stage.position
                         AND task.finished_at > cogmill.now() - interval '2 seconds')
      END
ORDER BY job.id
