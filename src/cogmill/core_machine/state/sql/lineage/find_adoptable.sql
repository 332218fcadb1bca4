-- What earlier generations made and this one may take over: the same plan, source and engine, and
-- a debt of clean-up that has moved to this job, so that nobody removes what it uses. A result that
-- was adopted before counts as the one of its origin, whose debt it is.
SELECT origin.id AS task_id, task.key, task.params,
       coalesce(task_result.result, payload.body::jsonb) AS result
FROM cogmill.job
JOIN cogmill.stage AS mine ON mine.job_id = job.id AND mine.position = %(position)s
JOIN cogmill.cleanup ON cleanup.heir = job.id AND cleanup.done_at IS NULL
JOIN cogmill.job AS earlier ON earlier.id = cleanup.job_id
    AND earlier.version = job.version
    AND earlier.source_identity = job.source_identity
    AND earlier.engine = job.engine
    AND earlier.plan_identity = job.plan_identity
JOIN cogmill.stage ON stage.job_id = earlier.id AND stage.name = mine.name
JOIN cogmill.task ON task.job_id = earlier.id AND task.position = stage.position
    AND task.kind = 'work' AND task.status = 'succeeded'
JOIN cogmill.task AS origin ON origin.id = coalesce(task.adopted_from, task.id)
JOIN cogmill.cleanup AS debt ON debt.job_id = origin.job_id AND debt.heir = job.id
    AND debt.done_at IS NULL
JOIN cogmill.task_result ON task_result.task_id = origin.id
LEFT JOIN cogmill.payload ON payload.digest = task_result.payload
WHERE job.id = %(job_id)s
  AND (job.adopt_before IS NULL OR mine.position < job.adopt_before)
ORDER BY earlier.generation DESC, task.id
