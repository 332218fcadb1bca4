-- The outputs of a job are the result of the last stage's task.
UPDATE cogmill.job
SET status = 'successful',
    finished_at = cogmill.now(),
    outputs = (
        SELECT coalesce(task_result.result, payload.body::jsonb)
        FROM cogmill.task
        JOIN cogmill.task_result ON task_result.task_id = task.id
        LEFT JOIN cogmill.payload ON payload.digest = task_result.payload
        WHERE task.job_id = job.id AND task.kind = 'work'
          AND task.position = (SELECT max(position) FROM cogmill.stage WHERE job_id = job.id)
        ORDER BY task.id
        LIMIT 1
    )
WHERE id = %(job_id)s AND status IN ('accepted', 'running')
