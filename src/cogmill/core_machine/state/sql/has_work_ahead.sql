-- Whether a worker can leave: open tasks that it could take, now or later or after another worker,
-- and clean-ups that are due.
SELECT EXISTS (
    SELECT FROM cogmill.worker AS me
    JOIN cogmill.task ON task.status IN ('ready', 'running')
        AND task.engine = ANY (me.engines)
        AND task.reach = ANY (me.reaches)
        AND task.job_type || ':' || task.job_version = ANY (me.job_types)
        AND task.memory <= me.memory
    WHERE me.incarnation = %(incarnation)s
) OR EXISTS (
    SELECT FROM cogmill.worker AS me
    JOIN cogmill.cleanup ON cleanup.done_at IS NULL
        AND cleanup.due_at <= cogmill.now()
        AND cleanup.reach = ANY (me.reaches)
        AND cleanup.job_type || ':' || cleanup.job_version = ANY (me.job_types)
    WHERE me.incarnation = %(incarnation)s
) AS ahead
