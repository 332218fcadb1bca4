-- Every stage begins with one plan task; everything it needs is in the job's and the stage's rows.
INSERT INTO cogmill.task (
    job_id, position, kind, key, job_type, job_version, engine, reach, memory, seconds,
    priority, lane, max_failures
)
SELECT job.id, stage.position, 'plan', 'plan', job.type, job.version, job.engine, job.reach,
       stage.plan_memory, stage.plan_seconds, job.priority, job.lane, stage.max_failures
FROM cogmill.job
JOIN cogmill.stage ON stage.job_id = job.id
WHERE job.id = %(job_id)s AND stage.position = %(position)s
