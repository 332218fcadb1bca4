-- Of what a plan has just inserted, or a split in the place of the task `split_of`.
INSERT INTO cogmill.task_result (task_id, result, payload, peak_memory, seconds)
SELECT task.id, task_result.result, task_result.payload, task_result.peak_memory, 0
FROM cogmill.task
JOIN cogmill.task_result ON task_result.task_id = task.adopted_from
WHERE task.job_id = %(job_id)s AND task.position = %(position)s
  AND task.split_of IS NOT DISTINCT FROM %(split_of)s::bigint
