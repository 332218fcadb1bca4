UPDATE cogmill.job
SET status = %(status)s, failure = %(failure)s, finished_at = cogmill.now()
WHERE id = %(job_id)s AND status IN ('accepted', 'running')
