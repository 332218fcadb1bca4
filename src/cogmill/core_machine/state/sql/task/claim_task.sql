-- One claim makes one attempt. The head of the queue that could never be passed over for longer
-- than `patience` holds the line: it is chosen even when it does not fit now, and then not taken.
WITH me AS (
    SELECT * FROM cogmill.worker
    WHERE incarnation = %(incarnation)s AND status = 'live'
    FOR SHARE
), chosen AS (
    SELECT task.id, task.memory
    FROM me
    JOIN cogmill.task ON task.status = 'ready'
        AND task.due_at <= cogmill.now()
        AND task.engine = ANY (me.engines)
        AND task.reach = ANY (me.reaches)
        AND task.job_type || ':' || task.job_version = ANY (me.job_types)
        AND (me.only_jobs IS NULL OR task.job_id = ANY (me.only_jobs))
        AND (%(job_id)s::text IS NULL OR task.job_id = %(job_id)s)
        AND (me.seconds IS NULL OR task.seconds <= me.seconds)
        AND task.memory <= me.memory
        AND task.id <> ALL (%(unreadable)s::bigint[])
        AND (task.memory <= %(free)s
             OR task.due_at < cogmill.now() - make_interval(secs => %(patience)s))
    ORDER BY task.priority DESC, task.due_at, task.id
    LIMIT 1
    FOR UPDATE OF task SKIP LOCKED
)
UPDATE cogmill.task
SET status = 'running',
    attempt = task.attempt + 1,
    worker = %(incarnation)s,
    started_at = cogmill.now(),
    deadline_at = cogmill.now() + make_interval(secs => task.seconds)
FROM chosen
WHERE task.id = chosen.id AND chosen.memory <= %(free)s
RETURNING task.id, task.job_id, task.position, task.kind, task.key, task.params, task.job_type,
          task.job_version, task.memory, task.seconds, task.still_seconds, task.attempt,
          task.failures, task.max_failures, task.memory_failures, task.split_budget,
          task.split_memory
