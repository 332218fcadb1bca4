-- A task whose result an earlier generation left is inserted as succeeded; its result follows.
INSERT INTO cogmill.task (
    job_id, position, kind, key, params, status, job_type, job_version, engine, reach, memory,
    seconds, still_seconds, priority, lane, max_failures, adopted_from, finished_at
)
SELECT plan.job_id, plan.position, 'work', planned_task.key, planned_task.params,
       CASE WHEN planned_task.adopted_from IS NULL THEN 'ready' ELSE 'succeeded' END,
       plan.job_type, plan.job_version, plan.engine, plan.reach, planned_task.memory,
       planned_task.seconds, planned_task.still_seconds, plan.priority, plan.lane,
       plan.max_failures, planned_task.adopted_from,
       CASE WHEN planned_task.adopted_from IS NOT NULL THEN cogmill.now() END
FROM planned_task
CROSS JOIN (SELECT * FROM cogmill.task WHERE id = %(task_id)s) AS plan
