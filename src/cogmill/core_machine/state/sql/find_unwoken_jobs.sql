-- Live jobs that nobody was told of, or not since a task of theirs became due again; and those whose
-- message may be lost: no worker lives that would look by itself. A job behind a backlog is not one.
SELECT job.id AS job_id,
       CASE WHEN wakeup.job_id IS NULL THEN 'no wake-up was ever owed'
            ELSE 'due, and no worker lives that looks by itself' END AS reason
FROM cogmill.job
LEFT JOIN cogmill.wakeup ON wakeup.job_id = job.id
WHERE job.status IN ('accepted', 'running')
  AND (wakeup.job_id IS NULL
       OR wakeup.sent = wakeup.generation
          AND wakeup.sent_at < cogmill.now() - make_interval(secs => %(patience)s)
          AND EXISTS (SELECT FROM cogmill.task
                      WHERE task.job_id = job.id AND task.status = 'ready'
                        AND task.due_at <= cogmill.now())
          AND NOT EXISTS (SELECT FROM cogmill.worker
                          WHERE worker.status = 'live'
                            AND job.engine = ANY (worker.engines)
                            AND job.reach = ANY (worker.reaches)))
UNION ALL
SELECT wakeup.job_id, 'a task is due again since the last wake-up'
FROM cogmill.wakeup
WHERE wakeup.sent = wakeup.generation
  AND EXISTS (SELECT FROM cogmill.task
              WHERE task.job_id = wakeup.job_id AND task.status = 'ready' AND task.failures > 0
                AND task.due_at > wakeup.sent_at
                AND task.due_at <= cogmill.now() - interval '1 second')
UNION ALL
SELECT cleanup.job_id, 'a clean-up is due, and no worker lives that looks by itself'
FROM cogmill.cleanup
JOIN cogmill.wakeup ON wakeup.job_id = cleanup.job_id
WHERE cleanup.done_at IS NULL AND cleanup.worker IS NULL
  AND cleanup.due_at <= cogmill.now() - make_interval(secs => %(patience)s)
  AND wakeup.sent = wakeup.generation
  AND wakeup.sent_at < cogmill.now() - make_interval(secs => %(patience)s)
  AND NOT EXISTS (SELECT FROM cogmill.worker
                  WHERE worker.status = 'live'
                    AND cleanup.reach = ANY (worker.reaches)
                    AND cleanup.job_type || ':' || cleanup.job_version = ANY (worker.job_types))
ORDER BY 1, 2
