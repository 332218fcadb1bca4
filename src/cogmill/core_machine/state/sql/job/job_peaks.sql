SELECT max(task_result.peak_memory) AS peak_memory,
       sum(task.attempt) AS attempts,
       count(*) AS tasks
FROM cogmill.task
JOIN cogmill.task_result ON task_result.task_id = task.id
WHERE task.job_id = %(job_id)s
