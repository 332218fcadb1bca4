-- Jobs whose state contradicts their tasks. Transitions leave none of these; a restored backup, a
-- hand in the database or a defect may. An advance mends each.
SELECT job.id AS job_id, 'a stage that was closed has an open task' AS reason
FROM cogmill.job
WHERE job.status IN ('accepted', 'running')
  AND EXISTS (SELECT FROM cogmill.stage
              JOIN cogmill.task USING (job_id, position)
              WHERE stage.job_id = job.id AND stage.status IN ('closed', 'cancelled')
                AND task.status IN ('ready', 'running'))
UNION ALL
SELECT stage.job_id, 'the count of stage ' || stage.name || ' has drifted'
FROM cogmill.job
JOIN cogmill.stage ON stage.job_id = job.id AND stage.status = 'running'
WHERE job.status IN ('accepted', 'running')
  AND stage.remaining IS DISTINCT FROM (SELECT count(*) FROM cogmill.task
                          WHERE task.job_id = stage.job_id AND task.position = stage.position
                            AND task.kind <> 'plan' AND task.status IN ('ready', 'running'))
  AND NOT EXISTS (SELECT FROM cogmill.task
                  WHERE task.job_id = stage.job_id AND task.position = stage.position
                    AND task.status = 'failed')
UNION ALL
SELECT DISTINCT task.job_id, 'a task has used up its attempts and waits for one more'
FROM cogmill.task
JOIN cogmill.job ON job.id = task.job_id AND job.status IN ('accepted', 'running')
WHERE task.status = 'ready' AND task.failures > 0 AND task.failures >= task.max_failures
UNION ALL
SELECT DISTINCT task.job_id, 'a task is due at a time that never comes'
FROM cogmill.task
JOIN cogmill.job ON job.id = task.job_id AND job.status IN ('accepted', 'running')
WHERE task.status = 'ready' AND task.due_at > cogmill.now() + interval '25 hours'
UNION ALL
SELECT stage.job_id, 'stage ' || stage.name || ' has begun, and its plan has not succeeded'
FROM cogmill.job
JOIN cogmill.stage ON stage.job_id = job.id AND stage.status = 'running'
WHERE job.status IN ('accepted', 'running')
  AND NOT EXISTS (SELECT FROM cogmill.task
                  WHERE task.job_id = stage.job_id AND task.position = stage.position
                    AND task.kind = 'plan' AND task.status IN ('succeeded', 'failed'))
UNION ALL
SELECT job.id, 'the job is accepted, and its work has begun'
FROM cogmill.job
WHERE job.status = 'accepted'
  AND EXISTS (SELECT FROM cogmill.stage
              WHERE stage.job_id = job.id AND stage.status IN ('running', 'closed'))
UNION ALL
SELECT job.id, 'the job has ended, and tasks or stages of it are live'
FROM cogmill.job
WHERE job.status IN ('successful', 'failed', 'dismissed')
  AND job.id IN (SELECT job_id FROM cogmill.task WHERE status IN ('ready', 'running')
                 UNION ALL
                 SELECT job_id FROM cogmill.stage
                 WHERE status IN ('pending', 'planning', 'running'))
UNION ALL
SELECT job.id, 'the job has ended, and nobody is to clean up after it'
FROM cogmill.job
WHERE job.status IN ('successful', 'failed', 'dismissed')
  AND NOT EXISTS (SELECT FROM cogmill.cleanup WHERE cleanup.job_id = job.id)
UNION ALL
SELECT DISTINCT job.id, 'the job has ended, and the debts that it inherited are not due'
FROM cogmill.job
JOIN cogmill.cleanup ON cleanup.heir = job.id
    AND cleanup.done_at IS NULL AND cleanup.due_at = 'infinity'
WHERE job.status IN ('successful', 'failed', 'dismissed')
UNION ALL
SELECT cleanup.job_id, 'its clean-up waits for an heir that there is not'
FROM cogmill.cleanup
JOIN cogmill.job ON job.id = cleanup.job_id
    AND job.status IN ('successful', 'failed', 'dismissed')
WHERE cleanup.done_at IS NULL AND cleanup.due_at = 'infinity'
  AND NOT EXISTS (SELECT FROM cogmill.job AS heir WHERE heir.id = cleanup.heir)
ORDER BY 1, 2
