SELECT cleanup.job_id, cleanup.worker AS incarnation
FROM cogmill.cleanup
LEFT JOIN cogmill.worker ON worker.incarnation = cleanup.worker
WHERE cleanup.done_at IS NULL AND cleanup.worker IS NOT NULL
  AND (worker.incarnation IS NULL OR worker.status <> 'live')
ORDER BY cleanup.job_id
