SELECT * FROM cogmill.job WHERE id = %(job_id)s
