-- Since a worker began, whoever did the work; the job that failed first comes first.
SELECT job.*
FROM cogmill.job
WHERE job.status = 'failed'
  AND job.finished_at >= (SELECT started_at FROM cogmill.worker
                          WHERE incarnation = %(incarnation)s)
ORDER BY job.finished_at, job.id
