SELECT job_id, job_type, job_version, attempt, false AS result_stays, worker AS incarnation
FROM cogmill.cleanup
WHERE done_at IS NULL AND worker IS NOT NULL
  AND coalesce(claimed_at, '-infinity') < cogmill.now() - make_interval(secs => %(patience)s)
ORDER BY job_id
