-- Everything that tells why a job does not run, in one look: its current stage, its open tasks, and
-- how many live workers each demand of the next task leaves, one demand after the other.
SELECT job.status AS job_status,
       stage.name AS stage,
       stage.status AS stage_status,
       coalesce(open.running, 0) AS running,
       coalesce(open.due, 0) AS due,
       coalesce(open.later, 0) AS later,
       extract(epoch FROM open.next_due - cogmill.now())::double precision AS next_seconds,
       open.last_failure,
       holder.hosts AS holders,
       holder.silent AS silent_holders,
       next.memory AS needs_memory,
       next.key AS next_key,
       job.type || ' ' || job.version AS wants_type,
       job.engine AS wants_engine,
       job.reach AS wants_reach,
       fleet.live, fleet.of_type, fleet.of_engine, fleet.of_reach, fleet.for_job, fleet.of_memory,
       fleet.largest AS largest_memory,
       (SELECT count(*) FROM cogmill.task AS ahead
        WHERE ahead.status = 'ready' AND ahead.due_at <= cogmill.now()
          AND ahead.job_id <> job.id
          AND (ahead.priority, -extract(epoch FROM ahead.due_at))
              > (next.priority, -extract(epoch FROM next.due_at))) AS ahead,
       (SELECT cleanup.done_at IS NULL FROM cogmill.cleanup
        WHERE cleanup.job_id = job.id) AS owes_cleanup,
       (SELECT extract(epoch FROM cogmill.now() - max(started_at))::double precision
        FROM cogmill.reconciliation_run) AS unswept
FROM cogmill.job
LEFT JOIN LATERAL (
    SELECT * FROM cogmill.stage
    WHERE stage.job_id = job.id AND stage.status IN ('pending', 'planning', 'running')
    ORDER BY stage.position
    LIMIT 1
) AS stage ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE task.status = 'running') AS running,
           count(*) FILTER (WHERE task.status = 'ready'
                              AND task.due_at <= cogmill.now()) AS due,
           count(*) FILTER (WHERE task.status = 'ready'
                              AND task.due_at > cogmill.now()) AS later,
           min(task.due_at) FILTER (WHERE task.status = 'ready'
                                      AND task.due_at > cogmill.now()) AS next_due,
           (array_agg(task.failure ORDER BY task.due_at)
                FILTER (WHERE task.failure IS NOT NULL))[1] AS last_failure
    FROM cogmill.task
    WHERE task.job_id = job.id AND task.position = stage.position
      AND task.status IN ('ready', 'running')
) AS open ON true
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT worker.host || ' (pid ' || worker.pid || ')') AS hosts,
           count(DISTINCT worker.incarnation) FILTER (
               WHERE worker.status <> 'live'
                  OR worker.beat_at < cogmill.now()
                      - make_interval(secs => worker.suspect_seconds)) AS silent
    FROM cogmill.task
    JOIN cogmill.worker ON worker.incarnation = task.worker
    WHERE task.job_id = job.id AND task.status = 'running'
) AS holder ON true
LEFT JOIN LATERAL (
    SELECT task.* FROM cogmill.task
    WHERE task.job_id = job.id AND task.position = stage.position AND task.status = 'ready'
    ORDER BY task.due_at, task.id
    LIMIT 1
) AS next ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS live,
           count(*) FILTER (WHERE type) AS of_type,
           count(*) FILTER (WHERE type AND engine) AS of_engine,
           count(*) FILTER (WHERE type AND engine AND reach) AS of_reach,
           count(*) FILTER (WHERE type AND engine AND reach AND mine) AS for_job,
           count(*) FILTER (WHERE type AND engine AND reach AND mine
                              AND memory >= next.memory) AS of_memory,
           max(memory) FILTER (WHERE type AND engine AND reach AND mine) AS largest
    FROM (SELECT job.type || ':' || job.version = ANY (worker.job_types) AS type,
                 job.engine = ANY (worker.engines) AS engine,
                 job.reach = ANY (worker.reaches) AS reach,
                 worker.only_jobs IS NULL OR job.id = ANY (worker.only_jobs) AS mine,
                 worker.memory
          FROM cogmill.worker
          WHERE worker.status = 'live') AS worker
) AS fleet ON true
WHERE job.id = %(job_id)s
