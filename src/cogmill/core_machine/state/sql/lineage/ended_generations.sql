SELECT job.id, job.status, job.outputs, cleanup.done_at IS NULL AS owed
FROM cogmill.job
JOIN cogmill.cleanup ON cleanup.job_id = job.id
WHERE job.lineage = %(lineage)s
ORDER BY job.generation DESC
