-- Attempts of live workers that will not end by themselves: past the deadline for longer than a
-- worker needs to hear of it and to kill, or not in what the worker says it holds, after two beats.
-- (A beat knows of every claim before it.)
SELECT task.id, task.job_id, task.position, task.kind, task.key, task.params, task.job_type,
       task.job_version, task.memory, task.seconds, task.still_seconds, task.attempt,
       task.failures, task.max_failures, task.memory_failures, task.split_budget,
       task.split_memory,
       task.worker AS incarnation, held.task_id IS NULL AS forgotten
FROM cogmill.task
JOIN cogmill.worker ON worker.incarnation = task.worker AND worker.status = 'live'
LEFT JOIN LATERAL (
    SELECT held.task_id
    FROM jsonb_to_recordset(worker.progress) AS held (task_id bigint, attempt integer)
    WHERE held.task_id = task.id AND held.attempt = task.attempt
) AS held ON true
WHERE task.status = 'running'
  AND (task.deadline_at < cogmill.now()
           - make_interval(secs => worker.suspect_seconds + worker.beat_seconds)
       OR (held.task_id IS NULL
           AND worker.beat_at > task.started_at
               + make_interval(secs => 2 * worker.beat_seconds)))
ORDER BY task.id
