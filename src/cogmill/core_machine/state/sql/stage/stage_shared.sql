SELECT stage.name, stage.shared, job.prepared
FROM cogmill.stage
JOIN cogmill.job ON job.id = stage.job_id
WHERE stage.job_id = %(job_id)s AND stage.position = %(position)s
