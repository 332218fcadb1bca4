-- Failed since a worker began, of types that it knows, and the newest of their lineage: nobody has
-- retried them.
SELECT job.*
FROM cogmill.worker AS me
JOIN cogmill.job ON job.status = 'failed'
    AND job.finished_at >= me.started_at
    AND job.type || ':' || job.version = ANY (me.job_types)
WHERE me.incarnation = %(incarnation)s
  AND NOT EXISTS (SELECT FROM cogmill.job AS later
                  WHERE later.lineage = job.lineage AND later.generation > job.generation)
ORDER BY job.finished_at
