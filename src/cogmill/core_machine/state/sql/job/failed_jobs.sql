-- Failed for one cause, and the newest of their lineage: nobody has retried them.
SELECT job.id
FROM cogmill.job
WHERE job.status = 'failed'
  AND job.failure ->> 'cause' = %(cause)s
  AND NOT EXISTS (SELECT FROM cogmill.job AS later
                  WHERE later.lineage = job.lineage AND later.generation > job.generation)
ORDER BY job.finished_at
