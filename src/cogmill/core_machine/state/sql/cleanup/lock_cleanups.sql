-- What is owed at a destination, locked against being claimed until the new owner is recorded; and
-- whether somebody is at it who may still be alive. Whoever is silent for longer has killed its
-- child itself.
SELECT cleanup.job_id,
       EXISTS (
           SELECT FROM cogmill.worker
           WHERE worker.incarnation = cleanup.worker AND worker.status = 'live'
             AND worker.beat_at > cogmill.now()
                 - make_interval(secs => worker.suspect_seconds + worker.beat_seconds)
       ) AS under_way
FROM cogmill.cleanup
JOIN cogmill.job ON job.id = cleanup.job_id
WHERE job.owns = %(owns)s AND cleanup.done_at IS NULL
ORDER BY cleanup.job_id
FOR SHARE OF cleanup
