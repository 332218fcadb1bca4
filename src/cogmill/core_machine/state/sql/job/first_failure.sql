SELECT stage.name AS stage, task.key, task.failure
FROM cogmill.task
JOIN cogmill.stage USING (job_id, position)
WHERE task.job_id = %(job_id)s AND task.status = 'failed'
ORDER BY task.finished_at, task.id
LIMIT 1
