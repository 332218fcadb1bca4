SELECT remaining FROM cogmill.stage
WHERE job_id = %(job_id)s AND position = %(position)s
FOR UPDATE
