-- Live jobs that nobody was told of, or not since a task of theirs became due again; and those whose
-- message may be lost: no worker lives that would look by itself, as one does that waits for its
-- host. A job behind a backlog is not one. What was never noted as sent was sent long ago.
WITH unattended AS MATERIALIZED (
    SELECT wants.*
    FROM (SELECT DISTINCT type, version, engine, reach FROM cogmill.job
          WHERE status IN ('accepted', 'running')) AS wants
    WHERE NOT EXISTS (SELECT FROM cogmill.worker
                      WHERE worker.status = 'live'
                        AND NOT worker.on_demand
                        AND worker.only_jobs IS NULL
                        AND wants.engine = ANY (worker.engines)
                        AND wants.reach = ANY (worker.reaches)
                        AND wants.type || ':' || wants.version = ANY (worker.job_types))
)
SELECT job.id AS job_id, 'no wake-up was ever owed' AS reason
FROM cogmill.job
WHERE job.status IN ('accepted', 'running')
  AND NOT EXISTS (SELECT FROM cogmill.wakeup WHERE wakeup.job_id = job.id)
UNION ALL
SELECT job.id, 'due, and no worker lives that looks by itself'
FROM unattended
JOIN cogmill.job ON job.status IN ('accepted', 'running')
    AND (job.type, job.version, job.engine, job.reach)
      = (unattended.type, unattended.version, unattended.engine, unattended.reach)
JOIN cogmill.wakeup ON wakeup.job_id = job.id
WHERE wakeup.sent >= wakeup.generation
  AND coalesce(wakeup.sent_at, '-infinity')
      < cogmill.now() - make_interval(secs => %(patience)s)
  AND EXISTS (SELECT FROM cogmill.task
              WHERE task.job_id = job.id AND task.status = 'ready'
                AND task.due_at <= cogmill.now())
  AND NOT EXISTS (SELECT FROM cogmill.worker
                  WHERE worker.status = 'live' AND job.id = ANY (worker.only_jobs)
                    AND NOT worker.on_demand)
UNION ALL
SELECT DISTINCT task.job_id, 'a task is due again since the last wake-up'
FROM cogmill.task
JOIN cogmill.wakeup ON wakeup.job_id = task.job_id
WHERE task.status = 'ready' AND task.failures > 0
  AND wakeup.sent >= wakeup.generation
  AND task.due_at > coalesce(wakeup.sent_at, '-infinity')
  AND task.due_at <= cogmill.now() - interval '1 second'
UNION ALL
SELECT cleanup.job_id, 'a clean-up is due, and no worker lives that looks by itself'
FROM cogmill.cleanup
LEFT JOIN cogmill.wakeup ON wakeup.job_id = cleanup.job_id
WHERE cleanup.done_at IS NULL AND cleanup.worker IS NULL
  AND cleanup.due_at <= cogmill.now() - make_interval(secs => %(patience)s)
  AND (wakeup.job_id IS NULL
       OR (wakeup.sent >= wakeup.generation
           AND coalesce(wakeup.sent_at, '-infinity')
               < cogmill.now() - make_interval(secs => %(patience)s)))
  AND NOT EXISTS (SELECT FROM cogmill.worker
                  WHERE worker.status = 'live'
                    AND NOT worker.on_demand
                    AND cleanup.reach = ANY (worker.reaches)
                    AND cleanup.job_type || ':' || cleanup.job_version = ANY (worker.job_types))
ORDER BY 1, 2
