-- A suspicion from before a restart of PostgreSQL proves nothing: it begins again.
SELECT incarnation, host, pid, beat_at
FROM cogmill.worker
WHERE status = 'live'
  AND suspected_at IS NOT NULL
  AND suspected_postmaster IS DISTINCT FROM pg_postmaster_start_time()
ORDER BY incarnation
