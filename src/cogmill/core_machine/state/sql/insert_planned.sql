INSERT INTO cogmill.task (
    job_id, position, kind, key, params, job_type, job_version, engine, reach, memory, seconds,
    priority, lane, max_failures
)
SELECT plan.job_id, plan.position, 'work', planned_task.key, planned_task.params, plan.job_type,
       plan.job_version, plan.engine, plan.reach, planned_task.memory, planned_task.seconds,
       plan.priority, plan.lane, plan.max_failures
FROM planned_task
CROSS JOIN (SELECT * FROM cogmill.task WHERE id = %(task_id)s) AS plan
