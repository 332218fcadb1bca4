-- What is missing behind the current stage of a live job, whose result could not be whole.
SELECT CASE WHEN stage.status = 'cancelled' THEN 'stage ' || stage.name || ' was cancelled'
            WHEN stage.planned IS NULL THEN 'stage ' || stage.name || ' was never planned'
            ELSE 'stage ' || stage.name || ' lacks results' END AS what
FROM cogmill.stage
WHERE stage.job_id = %(job_id)s
  AND (stage.status = 'cancelled'
       OR stage.status = 'closed'
          AND stage.planned IS DISTINCT FROM (
              SELECT count(*) FROM cogmill.task
              JOIN cogmill.task_result ON task_result.task_id = task.id
              WHERE task.job_id = stage.job_id AND task.position = stage.position
                AND task.kind = 'work' AND task.status = 'succeeded'))
ORDER BY stage.position
LIMIT 1
