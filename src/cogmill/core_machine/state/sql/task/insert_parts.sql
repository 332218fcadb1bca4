-- The parts take the place of the task that was split, which counts no longer. One whose result an
-- earlier generation left is inserted as succeeded; its result follows.
INSERT INTO cogmill.task (
    job_id, position, kind, key, params, status, job_type, job_version, engine, reach, memory,
    seconds, still_seconds, priority, lane, max_failures, adopted_from, split_of, finished_at
)
SELECT whole.job_id, whole.position, 'work', planned_task.key, planned_task.params,
       CASE WHEN planned_task.adopted_from IS NULL THEN 'ready' ELSE 'succeeded' END,
       whole.job_type, whole.job_version, whole.engine, whole.reach, planned_task.memory,
       planned_task.seconds, planned_task.still_seconds, whole.priority, whole.lane,
       whole.max_failures, planned_task.adopted_from, whole.id,
       CASE WHEN planned_task.adopted_from IS NOT NULL THEN cogmill.now() END
FROM planned_task
CROSS JOIN (SELECT * FROM cogmill.task WHERE id = %(task_id)s) AS whole
