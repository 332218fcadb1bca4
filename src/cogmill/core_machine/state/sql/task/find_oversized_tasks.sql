-- Tasks that wait for more memory than any live worker has that could do them otherwise. Where no
-- such worker lives at all, one that is large enough may still come.
SELECT task.id AS task_id, task.job_id, task.key, task.kind, task.attempt, task.memory,
       fleet.memory AS budget
FROM cogmill.task
JOIN LATERAL (
    SELECT max(worker.memory) AS memory
    FROM cogmill.worker
    WHERE worker.status = 'live'
      AND task.engine = ANY (worker.engines)
      AND task.reach = ANY (worker.reaches)
      AND task.job_type || ':' || task.job_version = ANY (worker.job_types)
      AND (worker.only_jobs IS NULL OR task.job_id = ANY (worker.only_jobs))
      AND (worker.seconds IS NULL OR task.seconds <= worker.seconds)
) AS fleet ON true
WHERE task.status = 'ready'
  AND task.due_at < cogmill.now() - make_interval(secs => %(patience)s)
  AND task.memory > (SELECT min(memory) FROM cogmill.worker WHERE status = 'live')
  AND task.memory > fleet.memory
ORDER BY task.id
LIMIT 1000
