-- The parts take the place of the task that was split, which counts no longer.
INSERT INTO cogmill.task (
    job_id, position, kind, key, params, job_type, job_version, engine, reach, memory, seconds,
    still_seconds, priority, lane, max_failures, split_of
)
SELECT whole.job_id, whole.position, 'work', planned_task.key, planned_task.params, whole.job_type,
       whole.job_version, whole.engine, whole.reach, planned_task.memory, planned_task.seconds,
       planned_task.still_seconds, whole.priority, whole.lane, whole.max_failures, whole.id
FROM planned_task
CROSS JOIN (SELECT * FROM cogmill.task WHERE id = %(task_id)s) AS whole
