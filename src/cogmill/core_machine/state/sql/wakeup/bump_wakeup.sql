-- One row a job: what was not sent yet keeps the earlier time, and a reconciler sees to the later.
INSERT INTO cogmill.wakeup (job_id, due_at)
VALUES (%(job_id)s, cogmill.now() + make_interval(secs => %(delay)s))
ON CONFLICT (job_id) DO UPDATE
SET generation = greatest(wakeup.sent, wakeup.generation) + 1,
    due_at = CASE WHEN wakeup.sent < wakeup.generation
                  THEN least(wakeup.due_at, EXCLUDED.due_at) ELSE EXCLUDED.due_at END
