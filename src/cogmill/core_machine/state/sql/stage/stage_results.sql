SELECT task.key, coalesce(task_result.result, payload.body::jsonb) AS result
FROM cogmill.task
JOIN cogmill.stage USING (job_id, position)
JOIN cogmill.task_result ON task_result.task_id = task.id
LEFT JOIN cogmill.payload ON payload.digest = task_result.payload
WHERE task.job_id = %(job_id)s AND stage.name = %(stage)s AND task.kind = 'work'
  AND task.status = 'succeeded'
ORDER BY task.id
