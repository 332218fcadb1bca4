-- No stronger than a count-down: parts that are just inserted refer to the stage, and do not wait.
SELECT remaining FROM cogmill.stage
WHERE job_id = %(job_id)s AND position = %(position)s
FOR NO KEY UPDATE
