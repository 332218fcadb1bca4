SELECT job_id FROM cogmill.cleanup
WHERE job_id = %(job_id)s AND done_at IS NULL AND due_at <= cogmill.now()
