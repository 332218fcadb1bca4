-- Whether a worker must stay: open tasks that it could take, now or later or after another worker,
-- or once they are planned again smaller, for nobody has room for them; and clean-ups that are due.
SELECT EXISTS (
    SELECT FROM cogmill.worker AS me
    JOIN cogmill.task ON task.status IN ('ready', 'running')
        AND task.engine = ANY (me.engines)
        AND task.reach = ANY (me.reaches)
        AND task.job_type || ':' || task.job_version = ANY (me.job_types)
        AND (task.memory <= me.memory OR NOT EXISTS (
            SELECT FROM cogmill.worker AS larger
            WHERE larger.status = 'live' AND larger.memory >= task.memory
                AND task.engine = ANY (larger.engines)
                AND task.reach = ANY (larger.reaches)
                AND task.job_type || ':' || task.job_version = ANY (larger.job_types)
        ))
    WHERE me.incarnation = %(incarnation)s
) OR EXISTS (
    SELECT FROM cogmill.worker AS me
    JOIN cogmill.cleanup ON cleanup.done_at IS NULL
        AND cleanup.due_at <= cogmill.now()
        AND cleanup.reach = ANY (me.reaches)
        AND cleanup.job_type || ':' || cleanup.job_version = ANY (me.job_types)
    WHERE me.incarnation = %(incarnation)s
) AS ahead
